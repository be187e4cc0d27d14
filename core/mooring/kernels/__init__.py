"""Kernels inside a session."""
