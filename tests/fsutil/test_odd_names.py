"""Names that are not UTF-8: which one a daemon means when it complains."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.errors import StreamReset
from buildkit_session.fsutil.odd_names import OddNames, is_utf8
from buildkit_session.messages.fsutil.types import Stat

COMPLAINT = "rpc error: grpc: failed to unmarshal the received message: string field contains invalid UTF-8"
PLAIN = Stat(path=b"\xc3\xa4", linkname=b"\xc3\xb6")
ODD = Stat(path=b"d/\xff\n")
ODD_TARGET = Stat(path=b"link", linkname=b"\xe4")


@given(
    st.one_of(st.binary(), st.text(st.characters(codec=None)).map(lambda text: text.encode("utf-8", "surrogatepass")))
)
def test_is_utf8_says_what_decoding_says(name: bytes) -> None:
    assert is_utf8(name) == (name.decode("utf-8", "ignore").encode() == name)


def break_off(names: OddNames, *entries: Stat) -> None:
    def transfer() -> None:
        with names.transfer() as see:
            for entry in entries:
                see(entry)
            raise StreamReset(8, by="peer")

    with pytest.raises(StreamReset):
        transfer()


def explanation(names: OddNames, complaint: str = COMPLAINT) -> str | None:
    error = names.explain(complaint)
    return None if error is None else str(error)


def test_the_first_odd_name_of_a_broken_transfer_is_meant() -> None:
    """The name is printable, and the error has it as it is."""
    names = OddNames()
    break_off(names, PLAIN, ODD, ODD_TARGET)
    error = names.explain(COMPLAINT)
    assert error is not None
    assert error.path == ODD.path
    assert r"one is d/\xff\n; rename it, or exclude it in .dockerignore" in str(error)


def test_a_target_is_told_from_a_name() -> None:
    names = OddNames()
    break_off(names, PLAIN, ODD_TARGET)
    assert r"the symbolic link link leads to \xe4; change it" in (explanation(names) or "")


def test_the_complaint_may_come_before_the_end_of_the_transfer() -> None:
    names = OddNames()
    with names.transfer() as see:
        see(ODD)
        assert explanation(names) is not None


def test_what_a_daemon_has_taken_is_not_what_it_means() -> None:
    names = OddNames()
    with names.transfer() as see:
        see(ODD)
    assert explanation(names) is None
    break_off(names, ODD_TARGET)
    assert "link" in (explanation(names) or "")


@pytest.mark.parametrize("complaint", ["", "context canceled", "failed to calculate checksum: \ufffd: not found"])
def test_other_complaints_are_left_alone(complaint: str) -> None:
    names = OddNames()
    break_off(names, ODD)
    assert explanation(names, complaint) is None


def test_without_odd_names_the_complaint_is_about_something_else() -> None:
    names = OddNames()
    break_off(names, PLAIN)
    with names.transfer() as see:
        see(PLAIN)
        assert explanation(names) is None
