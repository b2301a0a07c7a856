"""What the command line says about exports."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit_session.cli.exports import listing, notice
from buildkit_session.fsutil.listing import ListedEntry
from buildkit_session.services.exported import Exported

BITS = "lost set-user-id, set-group-id or sticky bits"
HINT = "; permissions=upstream keeps them\n"
LOST = [
    (0, 0, ""),
    (1, 0, f"out: 1 file {BITS}{HINT}"),
    (0, 1, f"out: 1 entry lost extended attributes{HINT}"),
    (2, 3, f"out: 2 files {BITS} and 3 entries lost extended attributes{HINT}"),
]


@pytest.mark.parametrize(("dropped_bits", "dropped_xattrs", "text"), LOST)
def test_one_line_about_what_was_lost(dropped_bits: int, dropped_xattrs: int, text: str) -> None:
    assert notice(Exported(Path("out"), dropped_bits=dropped_bits, dropped_xattrs=dropped_xattrs)) == text


def test_a_listing_has_a_line_for_each_entry() -> None:
    """Whatever its name and its time are."""
    entries = (
        ListedEntry("d", "directory", 0o1755, 0, 0, "", 0, 0),
        ListedEntry("d/f\n\x1b", "file", 0o4755, 7, -(10**9), "", 1, 2),
        ListedEntry("min", "fifo", 0o600, 0, -(2**63), "", 0, 0),
        ListedEntry("d/g", "file", 0o644, 7, 2**63 - 1, "d/f", 0, 0),
        ListedEntry("l", "symlink", 0o777, 1, 10**18, "\udcff", 0, 0),
    )
    assert listing(Exported(None, entries=entries)).splitlines() == [
        "drwxr-xr-t 0/0          0 1970-01-01T00:00:00Z d",
        r"-rwsr-xr-x 1/2          7 1969-12-31T23:59:59Z d/f\x0a\x1b",
        "prw------- 0/0          0 1677-09-21T00:12:43Z min",
        "-rw-r--r-- 0/0          7 2262-04-11T23:47:16Z d/g link to d/f",
        "lrwxrwxrwx 0/0          1 2001-09-09T01:46:40Z l -> \udcff",
    ]
