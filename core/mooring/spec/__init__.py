"""The spec of a session: model, parsing, validation, and the origin of each value."""
