"""Jupyter's door to mooring: a kernel provisioner."""
