"""Terminals of a session, and their connection to this process's own terminal.

``pump`` copies bytes between this process and an engine's stream. ``terminal`` is a terminal that
outlives its clients, held by a ``keeper``; ``attach`` attaches this process to one and reconnects
when the connection breaks; ``listing`` lists a session's terminals.
"""
