"""Launching sessions: from a spec to a running container."""
