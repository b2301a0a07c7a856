"""The Docker Engine: where it is, what it speaks, its ``POST /build`` and the progress it reports.

What finds and reads is pure or nearly so (``address``, ``contexts``, ``build_params``, ``json_stream``, ``progress``,
``build_log``); only ``client`` opens connections, and ``faults`` is the border where foreign exceptions become ours.
"""
