"""The step to blame."""

from __future__ import annotations

import pytest

from buildkit_session.engine import build_log
from buildkit_session.engine.build_log import BuildLog
from buildkit_session.engine.events import ProgressEvent, Vertex, VertexLog
from buildkit_session.errors import FailedStep


def _fed(*events: ProgressEvent) -> BuildLog:
    log = BuildLog()
    for event in events:
        log.feed([event])
    return log


def _failed(digest: str, error: str = "exit code: 1") -> Vertex:
    return Vertex(digest, f"RUN {digest}", started=1, completed=2, error=error)


def _output(data: bytes, digest: str = "a") -> VertexLog:
    return VertexLog(digest, None, 1, data)


def test_failed_step() -> None:
    """The step with an error is named with its output."""
    log = _fed(_output(b"other\n", "b"), _output(b"one\nt"), _output(b"wo\r\n\xff"), _failed("a"))

    assert log.failed_step() == FailedStep("RUN a", "a", "exit code: 1", ("one", "two", "\ufffd"))


def test_output_after_the_failure() -> None:
    """Output that arrives after the error still counts."""
    step = _fed(_failed("a"), _output(b"late\n")).failed_step()

    assert step is not None
    assert step.log == ("late",)


def test_nothing_failed() -> None:
    """Without an error of its own no step is blamed."""
    assert _fed(Vertex("a", "RUN a"), _failed("b", "context canceled")).failed_step() is None


def test_cancelled_steps_are_not_blamed() -> None:
    """A failure cancels its neighbours, which report an error later."""
    step = _fed(_failed("a"), _failed("b", "process did not complete: context canceled")).failed_step()

    assert step is not None
    assert step.digest == "a"


def test_withdrawn_error() -> None:
    """A step that runs again may take its error back."""
    assert _fed(_failed("a"), Vertex("a", "RUN a", started=3, completed=4)).failed_step() is None


def test_last_failure_is_blamed() -> None:
    """Of several failures the most recent report counts."""
    step = _fed(_failed("a", "1"), _failed("b", "2"), _failed("a", "3")).failed_step()

    assert step is not None
    assert (step.digest, step.error) == ("a", "3")


def test_message_decides() -> None:
    """Of several failures the one in the text of the build goes first."""
    step = _fed(_failed("a", "exit code: 1"), _failed("b", "exit code: 2")).failed_step("solving: exit code: 1")

    assert step is not None
    assert step.digest == "a"


@pytest.mark.parametrize("pieces", [1, 7, 1000])
def test_long_output(pieces: int) -> None:
    """Only the last lines are kept, however the output was cut."""
    data = b"".join(b"line %d\n" % number for number in range(20_000))
    size = -(-len(data) // pieces)

    step = _fed(*(_output(data[at : at + size]) for at in range(0, len(data), size)), _failed("a")).failed_step()

    assert step is not None
    assert step.log == tuple(f"line {number}" for number in range(19_900, 20_000))


def test_long_lines() -> None:
    """The kept bytes are bounded; a line whose beginning is gone is left out, unless there is no other."""
    lines = b"".join(bytes([letter]) * 40_000 + b"\n" for letter in b"abc")

    several = _fed(_output(lines), _failed("a")).failed_step()
    single = _fed(_output(b"x" * 200_000), _failed("a")).failed_step()

    assert several is not None
    assert several.log == ("c" * 40_000,)
    assert single is not None
    assert single.log == ("x" * build_log.MAX_BYTES,)


def test_output_of_finished_steps_is_forgotten() -> None:
    """A step that ended well costs nothing any more; failing later, it has only the output since."""
    step = _fed(_output(b"old\n"), Vertex("a", "RUN a", completed=1), _output(b"new\n"), _failed("a")).failed_step()

    assert step is not None
    assert step.log == ("new",)


def test_number_of_steps_is_bounded() -> None:
    """Endless new steps push out the oldest."""
    numbers = range(build_log.MAX_STEPS + 1)
    log = _fed(*(_output(b"x\n", str(number)) for number in numbers), _failed("0"), _failed("1"))

    first, second = log.failed_step("exit code: 1"), _fed(*(_failed(str(number), "e") for number in numbers))

    assert first is not None
    assert (first.digest, first.log) == ("1", ("x",))
    assert log.failed_step() == first
    assert second.failed_step() is not None
