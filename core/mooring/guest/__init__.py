"""The programs that run inside a session, and the access to its run folder."""
