"""Mooring's command-line interface."""
