"""Terminals of a session, and what joins them to this one.

``pump`` carries bytes between this process's terminal and a stream. ``keeper`` starts and asks the
process that keeps a session's terminals alive; what runs there is ``host`` (with ``spool``,
``modes``, ``wire`` and now and then ``helper``), which needs nothing but Python's own library.
``client`` joins a kept terminal, and joins it again when the connection breaks.
"""
