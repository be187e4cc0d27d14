"""Sessions as values, their records, and their life."""
