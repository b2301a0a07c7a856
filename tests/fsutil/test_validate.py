"""The checks on a listing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tricky_cases import tricky

from buildkit_session.errors import RemoteProtocolError
from buildkit_session.fsutil.modes import GoMode
from buildkit_session.fsutil.validate import ListingCheck, shown

DIR = GoMode.DIR | 0o755
FILE = 0o644
LINK = GoMode.SYMLINK | 0o777

Listing = list[tuple[bytes, int]]


def check(listing: Listing) -> None:
    checks = ListingCheck()
    for path, mode in listing:
        checks.check(path, mode, b"")


@tricky(34)
@pytest.mark.parametrize(
    "path",
    [b"..", b"../x", b"../../x", b"a/..", b"a/../b", b"a/../../b", b"/", b"/etc/passwd", b"//x"],
    ids=repr,
)
def test_a_path_that_leaves_the_root_is_refused(path: bytes) -> None:
    """DR-01."""
    with pytest.raises(RemoteProtocolError, match="clean relative path"):
        check([(b"a", DIR), (path, FILE)])


@tricky(34)
@pytest.mark.parametrize("path", [b"", b".", b"./a", b"a/", b"a//b", b"a/./b", b"a\0b", b"a/\0"], ids=repr)
def test_an_unclean_path_is_refused(path: bytes) -> None:
    """DR-02."""
    with pytest.raises(RemoteProtocolError, match="clean relative path"):
        check([(path, FILE)])


@pytest.mark.parametrize("path", [b"...", b"..a", b"a..", b" ", b"\\", b"\n", b"\xff\xfe", b"-rf", b"~", b"a" * 255])
def test_a_strange_name_is_a_name(path: bytes) -> None:
    """DR-03: only the two names with a meaning, NUL and the separator are special."""
    check([(path, FILE)])


@pytest.mark.parametrize("path", [b"a" * 256, b"a/" * 2048 + b"a"])
def test_what_is_too_long_is_refused(path: bytes) -> None:
    """DR-04."""
    with pytest.raises(RemoteProtocolError, match=r"a (name|path) of \d+ bytes is listed, \d+ are accepted"):
        check([(path, FILE)])


@tricky(14, 34)
@pytest.mark.parametrize(
    "listing",
    [
        [(b"b", FILE), (b"a", FILE)],
        [(b"a", FILE), (b"a", FILE)],
        [(b"a", DIR), (b"a", FILE)],
        [(b"a", DIR), (b"a/b", FILE), (b"a", DIR)],
        [(b"a", DIR), (b"a/b", FILE), (b"a/a", FILE)],
        [(b"a", DIR), (b"b", FILE), (b"a/b", FILE)],
        [(b"a", DIR), (b"a-b", DIR), (b"a/b", FILE)],
        [(b"a/b", FILE)],
        [(b"a", DIR), (b"a/b/c", FILE)],
        [(b"a", DIR), (b"a/b", DIR), (b"a/c", DIR), (b"a/b/d", FILE)],
        [(b"\xff", FILE), (b"\xc3\xa9", FILE)],
    ],
    ids=repr,
)
def test_a_listing_out_of_order_is_refused(listing: Listing) -> None:
    """DR-05: order, duplicates, missing parents."""
    with pytest.raises(RemoteProtocolError, match="is listed"):
        check(listing)


@pytest.mark.parametrize("kind", [FILE, LINK, GoMode.NAMED_PIPE | 0o600])
def test_only_a_directory_is_a_parent(kind: int) -> None:
    """DR-05, DR-06: nothing can be listed below a link."""
    with pytest.raises(RemoteProtocolError, match="before its directory"):
        check([(b"a", kind), (b"a/b", FILE)])


_names = st.binary(min_size=1, max_size=3).filter(
    lambda name: not {0, ord("/")} & {*name} and name not in (b".", b"..")
)
_trees: st.SearchStrategy[dict[bytes, object]] = st.recursive(
    st.dictionaries(_names, st.none(), max_size=4),
    lambda below: st.dictionaries(_names, st.none() | below, max_size=4),
    max_leaves=20,
)


def _listed(tree: dict[bytes, object], prefix: bytes = b"") -> Listing:
    listing: Listing = []
    for name, below in sorted(tree.items()):
        listing.append((prefix + name, DIR if isinstance(below, dict) else FILE))
        if isinstance(below, dict):
            listing += _listed(below, prefix + name + b"/")
    return listing


@given(_trees)
def test_every_walk_in_order_is_accepted(tree: dict[bytes, object]) -> None:
    """Depth first, siblings by their bytes."""
    check(_listed(tree))


@given(_trees.map(_listed).filter(lambda listing: len(listing) > 1), st.data())
def test_every_other_order_is_refused(listing: Listing, data: st.DataObject) -> None:
    """There is one order only, so any two entries that change places break it."""
    one, other = sorted(data.draw(st.lists(st.integers(0, len(listing) - 1), min_size=2, max_size=2, unique=True)))
    listing[one], listing[other] = listing[other], listing[one]
    with pytest.raises(RemoteProtocolError):
        check(listing)


@tricky(18)
@pytest.mark.parametrize("source", [b"b", b"/a", b"./a", b"../a", b"d", b"link", b"second", b"/etc/shadow", b"A"])
def test_a_hard_link_names_an_earlier_plain_file_exactly(source: bytes) -> None:
    """DR-11: not a directory, a link, another hard link, nor anything that was not listed."""
    checks = ListingCheck()
    checks.check(b"a", FILE, b"")
    checks.check(b"d", DIR, b"")
    checks.check(b"link", LINK, b"a")
    checks.check(b"second", FILE, b"a")
    with pytest.raises(RemoteProtocolError, match="is a hard link to"):
        checks.check(b"z", FILE, source)


def test_text_of_the_peer_is_escaped_and_bounded() -> None:
    """Control characters could drive a terminal."""
    assert shown(b"a\x1b[2J\n\xff\xc3\xa9") == "a\\x1b[2J\\n\\xff\u00e9"
    assert len(shown(b"a" * 1_000_000)) == 4096
