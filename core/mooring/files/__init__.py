"""Files to and from a session, through exec streams.

``copier`` does what ``mooring cp`` promises; ``packing`` and ``unpacking`` are the two ends of a
tar stream on this machine, ``merging`` puts what came into its place, ``plain`` is for images
without tar, ``streams`` are the pipes to a process in the session. What comes out of a session is
not trusted.
"""
