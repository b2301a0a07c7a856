"""Trees of files as BuildKit transfers them: listing, filtering, sending, receiving.

Knows packets and paths, nothing of gRPC.
"""
