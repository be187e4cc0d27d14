"""What runs inside a session, and the way to it."""
