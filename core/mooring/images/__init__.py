"""Images, mounts and secrets of a session.

``images`` pulls an image and probes it, ``host_image`` makes this machine available as an image.
``sources`` checks the paths of a spec, ``mounts`` plans its mounts, ``overmounts`` what lies on top
of them to protect what ``protected`` names, ``mount_points`` creates their mount points, and
``secrets`` reads and writes its secrets.
"""
