"""The daemons: where they are, how they are reached, and what they are asked.

- Where: ``address``, ``contexts`` and ``builders`` find one, and do no more than read small files.
- How: every connection is opened by ``dialing``, over sockets, programs (``process_transport``) or a container's exec
  call (``exec_transport``). ``exchange`` speaks the little HTTP/1.1 that ``ping`` and ``hijack`` need, and ``rest`` the
  rest of it. ``daemon`` chooses the way to BuildKit; ``tunnel`` carries a session where nothing can be hijacked.
- What: ``control`` and ``gateway`` are BuildKit's own API. ``solving`` runs a build with it, ``question`` asks its
  frontend, ``fetching`` gets a file; ``history``, ``provenance`` and ``cache_usage`` are about what a daemon keeps.
  ``client`` is the Engine's HTTP API: ``POST /build``, and images that are loaded or pushed.
- What comes back: ``progress`` makes ``events`` of it, ``build_log`` remembers what an error will need, and
  ``solve_error`` makes that error. ``faults`` is the border where foreign exceptions become ours.
"""
