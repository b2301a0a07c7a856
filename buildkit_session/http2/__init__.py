"""HTTP/2 over any byte stream, on the ``h2`` library. Knows nothing of gRPC or BuildKit.

``core`` decides what the bytes mean and touches no socket, ``connection`` moves the bytes, ``gate`` keeps from ``h2``
what it cannot defend against, ``fields`` judges the header fields of requests.
"""
