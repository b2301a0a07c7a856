"""What kind of context a text names."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit_session.errors import InputError
from buildkit_session.request.remote_context import (
    DirectorySource,
    GitSource,
    HttpSource,
    StdinSource,
    find_context,
    parse_git,
    parse_remote,
)

GIT: list[tuple[str, str, str]] = [
    ("https://host/a/b.git", "", ""),
    ("http://host/b.git", "", ""),
    ("https://host/b.git#main", "main", ""),
    ("https://host/b.git#main:sub/dir", "main", "sub/dir"),
    ("https://host/b.git#:sub", "", "sub"),
    ("https://user@host/b%2Egit#a", "a", ""),
    ("HTTPS://host/b.git", "", ""),
    ("git://host/b", "", ""),
    ("ssh://git@host:22/b", "", ""),
    ("github.com/a/b", "", ""),
    ("github.com/a/b#v1:x", "v1", "x"),
    ("git@host:a/b", "", ""),
    ("git@host:a/b.git#v1:x", "v1", "x"),
    ("a-b_c@h.o-st:", "", ""),
]
NOT_GIT = [
    "https://host/b",
    "https://host/b.git/archive.tar",
    "https://host/b?x=.git",
    "ftp://host/b.git",
    "host:a/b.git",
    "./git@host:a",
    "../github.com/a",
    "gitlab.com/a/b",
    "github.com",
    "git@:b",
    "git@ho st:b",
    "git@host",
    "https://[host/b.git",
    "https://host/\tb.git",
    "svn+ssh://host/b",
    "dir",
]


@pytest.mark.parametrize(("text", "ref", "subdir"), GIT)
def test_git(text: str, ref: str, subdir: str) -> None:
    found = parse_git(text)
    assert found is not None
    assert (found.url, found.ref, found.subdir, found.has_query) == (text, ref, subdir, False)
    assert found.over_ssh == text.startswith(("ssh:", "git@", "a-b"))


@pytest.mark.parametrize("text", NOT_GIT)
def test_not_git(text: str) -> None:
    assert parse_git(text) is None


@pytest.mark.parametrize(
    "text", ["https://h/b.git?ref=a", "ssh://h/b?x#r", "git@h:b?tag=v1#r", "github.com/a/b?subdir=c"]
)
def test_options_of_git(text: str) -> None:
    found = parse_git(text)
    assert found is not None
    assert found.has_query
    assert found.ref == ("r" if text.endswith("#r") else "")


def test_other_urls_are_downloads() -> None:
    assert parse_remote("https://host/a.tar.gz?x#y") == HttpSource("https://host/a.tar.gz?x#y")
    assert parse_remote("HTTP://host/a.tar.gz") is None
    assert parse_remote("https://host/a.git") == GitSource("https://host/a.git")


def test_a_directory_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_context("github.com/a") == GitSource("github.com/a")
    (tmp_path / "github.com/a").mkdir(parents=True)
    assert find_context("github.com/a") == DirectorySource(Path("github.com/a"))
    assert find_context(".") == DirectorySource(Path())
    assert find_context("-") == StdinSource()


def test_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r'unable to prepare context: path ".*/missing" not found'):
        find_context(str(tmp_path / "missing"))
    with pytest.raises(InputError, match="is not a directory; name the directory that holds it"):
        find_context(str(tmp_path / "file"))
    with pytest.raises(InputError, match="please specify a build context"):
        find_context("")
