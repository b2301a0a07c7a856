"""What builds of a history are called; the comparison with buildx is in tests/e2e."""

from __future__ import annotations

import pytest

from buildkit_session.engine.build_name import build_name
from buildkit_session.engine.build_origin import BuildOrigin


@pytest.mark.parametrize(
    ("attrs", "origin", "name"),
    [
        ({}, None, ""),
        ({"target": "dist"}, None, "dist"),
        ({"build-arg:BUILDKIT_BUILD_NAME": "mine", "target": "dist"}, None, "mine"),
        ({}, BuildOrigin("b", "n", "/home/me/app", "Dockerfile"), "app"),
        ({"target": "dist"}, BuildOrigin("b", "n", "/home/me/app"), "app (dist)"),
        ({}, BuildOrigin("b", "n", "/home/me/app", "/home/me/app/Dockerfile"), "app"),
        ({}, BuildOrigin("b", "n", "/home/me/app", "/home/me/app/sub/Dockerfile"), "app/sub"),
        ({}, BuildOrigin("b", "n", "/home/me/app", "/home/me/app/dev.Dockerfile"), "app/dev.Dockerfile"),
        ({}, BuildOrigin("b", "n", "/home/me/app", "/etc/other.Dockerfile"), "etc/other.Dockerfile"),
        ({}, BuildOrigin("b", "n", "-", "-"), ""),
        ({"context": "https://x/y.git"}, BuildOrigin("b", "n", "https://x/y.git"), "https://x/y.git"),
        ({"vcs:localdir:context": "app", "vcs:source": "https://x/y.git"}, None, "app"),
        ({"vcs:source": "https://x/y.git"}, None, "https://x/y.git"),
        ({"filename": "dev.Dockerfile"}, None, "dev.Dockerfile"),
        ({"vcs:localdir:dockerfile": "docker", "filename": "Dockerfile"}, None, "docker"),
    ],
)
def test_names(attrs: dict[str, str], origin: BuildOrigin | None, name: str) -> None:
    assert build_name(attrs, origin) == name
