"""Session values, their records, and their lifecycle."""
