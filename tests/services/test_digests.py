"""Digests become names of files, so only one spelling is one."""

from __future__ import annotations

import pytest

from buildkit_session.services.digests import Digest


@pytest.mark.parametrize(("algorithm", "length"), [("sha256", 64), ("sha384", 96), ("sha512", 128)])
def test_a_digest(algorithm: str, length: int) -> None:
    text = f"{algorithm}:{'0a' * (length // 2)}"
    assert Digest.parse(text) == Digest(algorithm, "0a" * (length // 2))
    assert str(Digest.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha256:" + "A" * 64,
        "SHA256:" + "a" * 64,
        "sha256:" + "a" * 64 + "\n",
        "sha256:" + "\u0660" * 64,
        "sha256:" + "../" * 21 + "a",
        "sha512:" + "a" * 64,
        "md5:" + "a" * 32,
        "../sha256:" + "a" * 64,
        "sha256+b64:" + "a" * 64,
        " sha256:" + "a" * 64,
    ],
)
def test_what_is_no_digest(text: str) -> None:
    """FX-08."""
    assert Digest.parse(text) is None
