"""The daemons: where they are, how they are reached, what they speak, ``POST /build`` and the progress it reports.

What finds and reads is pure or nearly so (``address``, ``contexts``, ``builders``, ``build_params``, ``json_stream``,
``progress``, ``build_log``). Every connection is opened by ``dialing``, over sockets, programs (``process_transport``)
or a container's exec call (``exec_transport``); ``exchange`` speaks the little HTTP/1.1 that ``ping`` and ``hijack``
need, and ``rest`` the rest of it. ``faults`` is the border where foreign exceptions become ours.
"""
