"""The process that keeps a session's terminals, and its client."""
