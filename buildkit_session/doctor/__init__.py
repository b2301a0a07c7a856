"""The doctor: says what can be built here, what cannot, and what is broken.

:func:`~buildkit_session.doctor.examination.examine` asks the daemon, and
:func:`~buildkit_session.doctor.machine.look_around` looks at this machine.
"""
