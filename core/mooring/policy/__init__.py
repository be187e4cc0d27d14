"""The administrator's policy, and the user's trust in spec files."""
