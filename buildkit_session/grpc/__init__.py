"""gRPC over :mod:`buildkit_session.http2`: messages, metadata, status and a router. Knows nothing of BuildKit."""
