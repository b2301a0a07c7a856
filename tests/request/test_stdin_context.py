"""What standard input holds, told from its first bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.request.stdin_context import HEAD_SIZE, StdinKind, classify


def an_archive(name: str = "a", kind: int = tarfile.USTAR_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        archive.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (tarfile.USTAR_FORMAT, "a"),
        (tarfile.GNU_FORMAT, "a"),
        (tarfile.PAX_FORMAT, "a"),
        (tarfile.GNU_FORMAT, "long" * 90),
        (tarfile.PAX_FORMAT, "long" * 90),
    ],
)
def test_archives_of_every_format(kind: int, name: str) -> None:
    """A long name makes an extended header come first."""
    assert classify(an_archive(name, kind)[:HEAD_SIZE]) is StdinKind.ARCHIVE


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_archives(compress: object) -> None:
    assert callable(compress)
    assert classify(compress(an_archive())[:HEAD_SIZE]) is StdinKind.ARCHIVE


@pytest.mark.parametrize(
    "head", [b"FROM scratch\n", b"\n", b"F", b"#" * HEAD_SIZE, b"# caf\xe9", b"# \x01\xc3", b"\xef\xbb\xbfFROM"]
)
def test_any_other_text_is_a_dockerfile(head: bytes) -> None:
    assert classify(head) is StdinKind.DOCKERFILE


@pytest.mark.parametrize("head", [b"\x28\xb5\x2f\xfd\x04", b"PK\x03\x04\x14", b"7z\xbc\xaf\x27\x1c"])
def test_archives_that_daemons_do_not_take(head: bytes) -> None:
    assert classify(head) is StdinKind.FOREIGN_ARCHIVE


@pytest.mark.parametrize("head", [bytes(HEAD_SIZE), b"FROM a\0", bytes(range(1, 256))])
def test_what_is_no_text(head: bytes) -> None:
    assert classify(head) is StdinKind.BINARY


def test_nothing() -> None:
    assert classify(b"") is StdinKind.EMPTY


def test_a_cut_or_damaged_header_is_none() -> None:
    head = an_archive()[:512]
    assert classify(head) is StdinKind.ARCHIVE
    assert classify(head[:-1]) is StdinKind.BINARY
    assert classify(b"b" + head[1:]) is StdinKind.BINARY


@given(st.binary(min_size=512, max_size=HEAD_SIZE))
def test_random_bytes_with_a_checksum_are_never_an_error(head: bytes) -> None:
    assert classify(head) in StdinKind
