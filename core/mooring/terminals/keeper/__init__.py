"""The process that holds a session's terminals, and its client.

``client`` starts the process and sends it requests. The process runs ``process`` (startup, and a
lock for one process per session), ``server`` (the event loop), ``state``, ``spool`` and
``protocol``, which import only the standard library and ``mooring.terminals.modes`` with its
``sequences``. When needed it starts ``exit_codes``, which gets exit codes from the engine.
"""
