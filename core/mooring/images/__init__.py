"""Images, and what a session sees of this machine."""
