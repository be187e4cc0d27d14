"""This machine: paths, locks, ports, processes and users."""
