"""What the user declares, how it is read, and where each value came from."""
