"""The names of images that an Engine pushes. That it does is shown with real registries."""

from __future__ import annotations

import pytest

from buildkit_session.engine.image_push import ImageName


@pytest.mark.parametrize(
    ("text", "repository", "tag", "registry"),
    [
        ("app", "app", "latest", "docker.io"),
        ("app:1", "app", "1", "docker.io"),
        ("team/app:1", "team/app", "1", "docker.io"),
        ("docker.io/app", "docker.io/app", "latest", "docker.io"),
        ("ghcr.io/team/app:1", "ghcr.io/team/app", "1", "ghcr.io"),
        ("127.0.0.1:5000/app", "127.0.0.1:5000/app", "latest", "127.0.0.1:5000"),
        ("localhost/app:a.b", "localhost/app", "a.b", "localhost"),
        ("host:80/a/b/c:t", "host:80/a/b/c", "t", "host:80"),
    ],
)
def test_names(text: str, repository: str, tag: str, registry: str) -> None:
    assert ImageName.parse(text) == ImageName(repository, tag, registry)
