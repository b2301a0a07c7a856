"""Which kind of context a text names: a directory, standard input, a git repository or a URL.

Git and other URLs are fetched by the daemon; what stands in them is not looked at here beyond what tells them apart.

Source: docker/buildx:build/opt.go (loadInputs), build/utils.go (IsRemoteURL);
moby/buildkit:frontend/dockerfile/dfgitutil/git_ref.go (ParseGitRef), util/gitutil/git_url.go, util/sshutil/scpurl.go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from buildkit_session.errors import InputError

__all__ = [
    "ContextSource",
    "DirectorySource",
    "GitSource",
    "HttpSource",
    "StdinSource",
    "find_context",
    "is_http",
    "parse_git",
    "parse_remote",
]

_STDIN: Final = "-"
_GITHUB: Final = "github.com/"
_SCHEME: Final = re.compile(r"([a-zA-Z0-9]+)://")
_GIT_SCHEMES: Final = frozenset({"http", "https", "ssh", "git"})
# user@host:path?query#fragment, as git has it beside URLs.
_SCP: Final = re.compile(r"[a-zA-Z0-9_-]+@[a-zA-Z0-9.-]+:(.*?)(?:\?(.*?))?(?:#(.*))?")


@dataclass(frozen=True, slots=True)
class DirectorySource:
    """A directory of this machine.

    Attributes:
        path: as it was given.
    """

    path: Path


@dataclass(frozen=True, slots=True)
class StdinSource:
    """Standard input: an archive of a context, or a Dockerfile without one."""


@dataclass(frozen=True, slots=True)
class GitSource:
    """A git repository that the daemon clones.

    Attributes:
        url: as it was given.
        ref: branch, tag or commit after ``#``; empty for the default branch.
        subdir: the directory inside of the repository that is the context, after ``#REF:``.
        has_query: whether options follow a ``?``; only newer frontends know these.
        over_ssh: whether the daemon needs an ssh agent for it.
    """

    url: str
    ref: str = ""
    subdir: str = ""
    has_query: bool = False
    over_ssh: bool = False


@dataclass(frozen=True, slots=True)
class HttpSource:
    """A file that the daemon downloads: an archive, or a Dockerfile.

    Attributes:
        url: as it was given.
    """

    url: str


ContextSource: TypeAlias = DirectorySource | StdinSource | GitSource | HttpSource


def find_context(text: str) -> ContextSource:
    """Tell what the context of a build is. A directory wins over a URL that looks like it.

    Raises:
        InputError: nothing is there.
    """
    if text == _STDIN:
        return StdinSource()
    if not text:
        raise InputError('please specify a build context, such as "." for the current directory')
    path = Path(text)
    if path.is_dir():
        return DirectorySource(path)
    if (remote := parse_remote(text)) is not None:
        return remote
    if path.exists():
        raise InputError(f"unable to prepare context: {text} is not a directory; name the directory that holds it")
    raise InputError(f'unable to prepare context: path "{text}" not found')


def parse_remote(text: str) -> GitSource | HttpSource | None:
    """Read what the daemon fetches itself; ``None`` if the text is neither a git repository nor a URL."""
    git = parse_git(text)
    if git is None and is_http(text):
        return HttpSource(text)
    return git


def is_http(text: str) -> bool:
    """Whether the text is a URL for a download. Upper case is none, as for buildx."""
    return text.startswith(("http://", "https://"))


def parse_git(text: str) -> GitSource | None:
    """Read a git repository: ``https://host/name.git#ref:subdir``, ``ssh://``, ``git://``, ``user@host:path``.

    A URL of HTTP is one only if its path ends in ``.git``; the prefix ``github.com/`` needs no scheme.
    """
    if text.startswith(("./", "../")):
        return None
    if text.startswith(_GITHUB):
        parts = _split(f"https://{text}")
        return None if parts is None else _from_url(text, parts)
    if (scheme := _SCHEME.match(text)) is not None:
        parts = _split(text) if scheme[1].lower() in _GIT_SCHEMES else None
        return None if parts is None or not _may_be_git(parts) else _from_url(text, parts)
    if (found := _SCP.fullmatch(text)) is not None:
        return _git(text, query=found[2] or "", fragment=found[3] or "", over_ssh=True)
    return None


def _split(url: str) -> SplitResult | None:
    # The standard library drops these from a URL without a word; the daemon's refuses it.
    if any(character < " " or character == "\x7f" for character in url):
        return None
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _may_be_git(parts: SplitResult) -> bool:
    return parts.scheme not in {"http", "https"} or unquote(parts.path).endswith(".git")


def _from_url(text: str, parts: SplitResult) -> GitSource:
    return _git(text, query=parts.query, fragment=unquote(parts.fragment), over_ssh=parts.scheme == "ssh")


def _git(text: str, *, query: str, fragment: str, over_ssh: bool) -> GitSource:
    ref, _, subdir = fragment.partition(":")
    return GitSource(text, ref, subdir, has_query=bool(parse_qsl(query, keep_blank_values=True)), over_ssh=over_ssh)
