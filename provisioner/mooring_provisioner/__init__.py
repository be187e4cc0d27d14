"""Mooring for Jupyter clients: a kernel provisioner, and a launcher for clients without one."""
