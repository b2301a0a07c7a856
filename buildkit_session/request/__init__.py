"""What a build asks for: checked values, and BuildKit's words for them.

One module for each idea of the command line; each takes what ``docker buildx build`` takes as a text, and objects for
callers that have them. Nothing here talks to a daemon. :class:`~buildkit_session.request.build_request.BuildRequest`
holds all of it, :mod:`~buildkit_session.request.attributes` says it in the terms of the Dockerfile frontend.
"""
