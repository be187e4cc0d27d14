"""From a spec to a running container."""
