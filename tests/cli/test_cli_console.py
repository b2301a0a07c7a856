"""What reaches a terminal and what reaches a pipe, and what happens when nobody reads."""

from __future__ import annotations

import os
import pty
import re
import termios
import tty
from typing import TYPE_CHECKING, TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.cli.console import Console, StreamLostError, escape_controls

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOT_UTF8 = b"\xff\xfe".decode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("tab\tline\r\n", "tab\tline\r\n"),
        ("\x1b[1;31mred\x1b[0m \x1b[m \x1b[38:2::1:2:3m", "\x1b[1;31mred\x1b[0m \x1b[m \x1b[38:2::1:2:3m"),
        ("gr\u00fc\u00df \u20ac \U0001f600", "gr\u00fc\u00df \u20ac \U0001f600"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x1b[31", "\\x1b[31"),
        ("\x1b[?1m", "\\x1b[?1m"),
        ("\x1b", "\\x1b"),
        ("a\x00b\x08\x7f", "a\\x00b\\x08\\x7f"),
        ("\x9b2J", "\\x9b2J"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        (_NOT_UTF8, "\\xff\\xfe"),
        ("\ud800", "\\ud800"),
    ],
)
def test_only_colours_and_line_ends_reach_a_terminal(text: str, shown: str) -> None:
    assert escape_controls(text) == shown


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("\x1b[0;1m"))))
def test_whatever_comes_is_harmless_and_stays_so(text: str) -> None:
    shown = escape_controls(text)
    plain = re.sub(r"\x1b\[[0-9;:]*m", "", shown)
    assert all(char in "\t\r\n" or char.isprintable() or ord(char) > 0x9F for char in plain)
    assert escape_controls(shown) == shown
    shown.encode()


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """The reading end of a pipe, and the writing end as a text stream."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        yield reader, stream
        os.close(reader)


def test_a_pipe_gets_every_byte_at_once(pipe: tuple[int, TextIO]) -> None:
    reader, stream = pipe
    Console(stream).write(f"\x1b[2J{_NOT_UTF8}\n")
    assert os.read(reader, 100) == b"\x1b[2J\xff\xfe\n"


def test_half_a_character_is_no_text(pipe: tuple[int, TextIO]) -> None:
    """JSON can spell it, alone, and so it comes in what a frontend answers."""
    reader, stream = pipe
    Console(stream).write("a\ud800b\udfffc\udcffd")
    assert os.read(reader, 100) == "a\ufffdb\ufffdc".encode() + b"\xffd"


def test_a_terminal_gets_escaped_text() -> None:
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        Console(stream).write(f"\x1b[2J{_NOT_UTF8}\x1b[0m\n")
        assert os.read(ours, 100) == b"\\x1b[2J\\xff\\xfe\x1b[0m\n"
    os.close(ours)


def test_a_reader_that_left_is_reported_once() -> None:
    """The stream is closed at the end of the block: nothing that it still holds may fail there again."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        with pytest.raises(StreamLostError) as caught:
            Console(stream).write("text\n")
        assert caught.value.reader_gone


def test_a_full_disk_is_reported_with_the_reason() -> None:
    with open("/dev/full", "w", encoding="utf-8") as stream:
        with pytest.raises(StreamLostError, match="No space left on device") as caught:
            Console(stream).write("text\n")
        assert not caught.value.reader_gone


def test_a_process_without_the_stream_writes_nowhere() -> None:
    Console(None).write("text\n")


def test_text_that_is_safe_already_moves_the_cursor() -> None:
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        Console(stream).write("\x1b[2J", safe=True)
        assert os.read(ours, 100) == b"\x1b[2J"
    os.close(ours)


def test_a_terminal_has_a_size_and_a_pipe_has_none(pipe: tuple[int, TextIO]) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        console = Console(stream)
        assert (console.is_terminal, console.size) == (True, (80, 24))
        termios.tcsetwinsize(theirs, (10, 40))
        assert console.size == (40, 10)
    os.close(ours)
    assert (Console(pipe[1]).is_terminal, Console(pipe[1]).size) == (False, (0, 0))
    assert Console(None).size == (0, 0)
