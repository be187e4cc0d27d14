"""An SSH server on one session, over this process's standard streams.

It needs asyncssh, which only these modules import, and only when they are used.
"""
