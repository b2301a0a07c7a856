"""Build the example that ships with the package and show what came back; ``python -m buildkit_session.demo``."""
