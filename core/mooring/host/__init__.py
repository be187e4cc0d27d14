"""This machine: where things lie, locks, processes, users."""
