"""Copying files to and from a session.

`copier` implements `mooring cp` for a running session, `stopped` for a stopped one. `pack` writes
and `unpack` reads a tar stream on this machine, `merge` moves received files to their target,
`paths` parses paths, `pipe` is a file-like interface to a process in the session, and `tree` finds
the files of a stopped session. Data from a session is never trusted.
"""
