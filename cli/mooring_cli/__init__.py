"""The terminal's door to mooring."""
