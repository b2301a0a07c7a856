"""The tricky cases of the protocol by number, and the mark that tells which test shows which of them.

The numbers are stable names: a test carries those it would fail for. ``pytest -m tricky`` runs these tests alone and
lists the cases with their outcome; ``test_tricky_cases`` sees to it that no case is left without a test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Test = TypeVar("Test", bound=Callable[..., object])

__all__ = ["CASES", "LATER", "tricky"]

CASES: Final = {
    1: "bytes behind the 101 are HTTP/2, nothing is sent before it",
    2: "our SETTINGS go out at once",
    3: "one header line for each method",
    4: "diffcopy is a spelling for look-ups, DiffCopy is called",
    5: "health is checked, advertised or not, and never goes unanswered",
    6: "a fresh session id for each connection, without a colon",
    7: "FileSend is advertised wherever files are expected",
    8: "long header lists: setting, decoder, CONTINUATION",
    9: "outer spaces in header values",
    10: "order and repetition of metadata, literal percent and plus",
    11: "the listing ends with one empty message",
    12: "defaults are absent on the wire, id 0 too",
    13: "ids count every entry",
    14: "component-wise byte order",
    15: "Go's mode bits",
    16: "signed nanoseconds",
    17: "contexts belong to root, exports to the caller",
    18: "hard links name the first plain name that was sent",
    19: "sockets become empty files",
    20: "unreadable is an error, vanished is missing alone",
    21: "parents of what is kept come first, once",
    22: "patterns: d/**, **foo, later wins, exceptions below",
    23: "follow paths stay in the root, which stands for everything",
    24: "thousands of requests in any order, before the listing ends",
    25: "an empty file is asked for, and answered by its end",
    26: "small enough messages, never compressed",
    27: "a sender ends the call after FIN for FIN",
    28: "a directory is confirmed after the daemon's FIN, and only then may it reset",
    29: "a file is confirmed when it is whole and closed",
    30: "ALREADY_EXISTS is no success of a tar or a directory",
    31: "the exporter's id chooses the codec, without one it is 0",
    32: "several streams into one directory",
    33: "links at the destination are replaced, not followed",
    34: "hostile paths and packets out of turn",
    35: "read-only directories, special bits after content",
    36: "names that are not UTF-8",
    37: "reading never waits for requests that cannot be sent",
    38: "Upload/Pull answers at once, and does not hide a failing source",
    39: "late frames harm nothing",
    40: "no entry of the reserved name in a metadata-only transfer",
    41: "a cancelled build stops its transfers and keeps the session",
    42: "no GOAWAY while streams are open",
}
"""Number and name."""

LATER: Final[dict[int, str]] = {}
"""Cases that no test can show yet, and why."""


def tricky(*numbers: int) -> Callable[[Test], Test]:
    """Mark a test as one that shows these cases."""

    def mark(test: Test) -> Test:
        for number in reversed(numbers):
            test = pytest.mark.tricky(number, CASES[number])(test)
        return test

    return mark
