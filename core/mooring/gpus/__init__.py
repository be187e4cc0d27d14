"""The GPUs of this machine, their holders, and the queue for them.

``inventory`` lists the devices and ``usage`` their holders. ``claims`` defines what a session
requests and gets, ``tickets`` and ``queue`` decide who is served next, and ``devices`` translates
claims into what a container gets.
"""
