"""What the administrator allows, and which files the user trusts."""
