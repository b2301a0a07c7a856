"""Ignore files: their lines, and which file counts."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.errors import InputError
from buildkit_session.fsutil.dockerignore import LINE_LIMIT, parse_ignore_file, read_ignore_file
from buildkit_session.fsutil.patterns import PatternMatcher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from buildkit_session.fsutil.dockerignore import IgnoreFile

BOM = b"\xef\xbb\xbf"


def patterns(content: bytes) -> list[str]:
    return [line.pattern for line in parse_ignore_file(content)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n\n  \n\t\n", []),
        (b"a", ["a"]),
        (b"a\nb\n", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"  a b \t\n", ["a b"]),
        ("\u2003a\u00a0\n".encode(), ["a"]),
        (b"\x1ca\n", ["\x1ca"]),  # white space for Python, not for Go
        (b"#a\n#\n", []),
        (b" #a\n", ["#a"]),
        (b"\\#a\n", ["\\#a"]),
        (b"a#b\n", ["a#b"]),
        (BOM + b"a\n", ["a"]),
        (BOM + b"# comment\na\n", ["a"]),
        (BOM + BOM + b"a\n", ["\ufeffa"]),
        (b"a\n" + BOM + b"b\n", ["a", "\ufeffb"]),
        (b"/a\n", ["a"]),
        (b"//a\n", ["a"]),
        (b"/\n", ["/"]),
        (b"/ a\n", [" a"]),
        (b"./a/\n", ["a"]),
        (b"a/../b\n", ["b"]),
        (b"../a\n", ["../a"]),
        (b"a/..\n", ["."]),
        (b"!a\n", ["!a"]),
        (b" ! /a/ \n", ["!a"]),
        (b"!./a\n", ["!a"]),
        (b"!\n", ["!"]),
        (b"!!a\n", ["!!a"]),
        (b"!#a\n", ["!#a"]),
        (b"a/**/[b-c]?\n", ["a/**/[b-c]?"]),
        ("ü\n".encode(), ["ü"]),
        (b"\xff\xe2\x82\n", ["\ufffd\ufffd\ufffd"]),  # a replacement for each byte, as in Go's JSON
    ],
)
def test_lines(content: bytes, expected: list[str]) -> None:
    assert patterns(content) == expected


def test_a_line_knows_its_place_and_its_text() -> None:
    first, second = parse_ignore_file(b"# x\n\n  /a/  \r\n!b", "Other.dockerignore")
    assert (first.file, first.number, first.text, first.pattern) == ("Other.dockerignore", 3, "/a/", "a")
    assert (second.number, second.text, second.pattern) == (4, "!b", "!b")


@pytest.mark.parametrize("ending", [b"", b"\n", b"\nb"])
@pytest.mark.parametrize("start", [b"", b"#", BOM])
def test_the_longest_line(start: bytes, ending: bytes) -> None:
    line = start + b"a" * (LINE_LIMIT - 1 - len(start))
    parse_ignore_file(line + ending)
    with pytest.raises(InputError, match=r"f:1: the line has 65536 bytes, fewer than 65536"):
        parse_ignore_file(line + b"a" + ending, "f")


@given(st.binary(max_size=60))
def test_any_bytes_give_lines_that_say_where_they_are(content: bytes) -> None:
    lines = parse_ignore_file(content)
    numbers = [line.number for line in lines]
    assert numbers == sorted(set(numbers))
    raw = content.split(b"\n")
    for line in lines:
        assert line.text.encode("utf-8", "surrogateescape") in raw[line.number - 1]
        line.pattern.encode()
    with suppress(InputError):
        PatternMatcher([line.pattern for line in lines])


@contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read(context: Path, beside: Path | None = None, dockerfile: str = "Dockerfile") -> IgnoreFile | None:
    with opened(context) as context_fd, opened(beside or context) as beside_fd:
        return read_ignore_file(context=context_fd, dockerfile_directory=beside_fd, dockerfile=dockerfile)


def test_none(tmp_path: Path) -> None:
    assert read(tmp_path) is None


def test_the_dockerfiles_own_wins_also_if_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("a")
    (tmp_path / "Dockerfile.dockerignore").write_text("")
    found = read(tmp_path)
    assert found is not None
    assert (found.name, found.lines) == ("Dockerfile.dockerignore", ())
    other = read(tmp_path, dockerfile="Other")
    assert other is not None
    assert (other.name, other.patterns) == (".dockerignore", ("a",))


def test_it_lies_beside_the_dockerfile(tmp_path: Path) -> None:
    context, beside = tmp_path / "context", tmp_path / "beside"
    context.mkdir()
    beside.mkdir()
    (context / "My.dockerignore").write_text("wrong")
    (beside / ".dockerignore").write_text("wrong")
    assert read(context, beside, "My") is None
    (beside / "My.dockerignore").write_text("right")
    found = read(context, beside, "My")
    assert found is not None
    assert found.patterns == ("right",)


@pytest.mark.parametrize("target", ["sub/real", "/sub/real", "../../sub/real", "sub/../link", "dir/real"])
def test_links_lead_to_files_of_the_same_directory(tmp_path: Path, target: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/real").write_text("a")
    (tmp_path / "link").symlink_to("sub/real")
    (tmp_path / "dir").symlink_to("/sub")
    (tmp_path / ".dockerignore").symlink_to(target)
    found = read(tmp_path)
    assert found is not None
    assert found.patterns == ("a",)


@pytest.mark.parametrize("target", ["none", ".dockerignore", "/etc/hostname", "sub"])
def test_links_that_lead_to_no_file_there_count_for_nothing(tmp_path: Path, target: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".dockerignore").symlink_to(target)
    assert read(tmp_path) is None


def test_a_directory_of_that_name_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").mkdir()
    (tmp_path / "Dockerfile.dockerignore").mkdir()
    assert read(tmp_path) is None


@pytest.mark.parametrize("bad", ["[", "!", "a/[b-a]"])
def test_a_malformed_line_is_named(tmp_path: Path, bad: str) -> None:
    (tmp_path / ".dockerignore").write_text(f"# fine\nfine\n{bad}\n")
    with pytest.raises(InputError, match=r"^\.dockerignore:3: pattern "):
        read(tmp_path)
