"""GPUs: which ones exist, who holds them, and whose turn it is.

``inventory`` lists the devices, ``usage`` tells who holds each, ``claims`` what a session asks for
and how that is written down, ``tickets`` and ``queue`` whose turn it is, and ``devices`` what a
container is given.
"""
