"""How fast, how small and how kind to the event loop the library is, beside others that do the same work.

``python -m benchmarks --help`` says how it is run, ``README.md`` what is compared and why that is fair.
"""
