"""Steps of this side's own, as those who follow a build see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from buildkit_session.engine.events import ProgressEvent, Vertex, VertexStatus
from buildkit_session.engine.own_step import own_step
from buildkit_session.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.anyio

DONE = frozenset({"Pushed", "Layer already exists"})


class Listener:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[ProgressEvent] = []

    async def __call__(self, events: Sequence[ProgressEvent]) -> None:
        self.events += events

    @property
    def vertices(self) -> list[Vertex]:
        return [event for event in self.events if isinstance(event, Vertex)]

    @property
    def statuses(self) -> list[VertexStatus]:
        return [event for event in self.events if isinstance(event, VertexStatus)]


@pytest.fixture
def told() -> Listener:
    return Listener()


async def test_it_begins_and_ends(told: Listener) -> None:
    async with own_step("a step", told):
        assert [(vertex.name, vertex.completed) for vertex in told.vertices] == [("a step", None)]
    first, last = told.vertices
    assert first.digest == last.digest
    assert first.started is not None
    assert last.completed is not None
    assert first.started <= last.completed


async def test_two_steps_of_one_name(told: Listener) -> None:
    for _ in range(2):
        async with own_step("a step", told):
            pass
    assert len({vertex.digest for vertex in told.vertices}) == 2


async def test_it_fails(told: Listener) -> None:
    with pytest.raises(EngineError):
        async with own_step("a step", told):
            raise EngineError("no")
    assert told.vertices[-1].error == "no"
    assert told.vertices[-1].completed


async def test_a_cancelled_one_says_no_more(told: Listener) -> None:
    with anyio.move_on_after(0):
        async with own_step("a step", told):
            await anyio.sleep_forever()
    assert len(told.vertices) == 1


async def test_layers(told: Listener) -> None:
    entries: list[dict[str, object]] = [
        {"status": "The push refers to repository [x]"},
        {"status": "Preparing", "id": "a", "progressDetail": {}},
        {"status": "Layer already exists", "id": "b", "progressDetail": {}},
        {"status": "Pushing", "id": "a", "progressDetail": {"current": 5, "total": 8 << 30}},
        {"status": "Pushing", "id": "a", "progressDetail": {"current": 6}},
        {"status": "Pushed", "id": "a", "progressDetail": {}},
    ]
    async with own_step("a step", told) as step:
        for entry in entries:
            await step.report(entry, verb="pushing layer", done=DONE)
    shown = [(event.id, event.current, event.total, event.completed is not None) for event in told.statuses]
    assert shown == [
        ("pushing layer b", 0, 0, True),
        ("pushing layer a", 5, 8 << 30, False),
        ("pushing layer a", 6, 8 << 30, False),
        ("pushing layer a", 8 << 30, 8 << 30, True),
    ]
    assert {event.vertex for event in told.statuses} == {told.vertices[0].digest}


@pytest.mark.parametrize(
    "entry",
    [
        {"id": 1, "status": "Pushed"},
        {"id": "", "status": "Pushed"},
        {"id": "a", "status": ["Pushed"], "progressDetail": {"current": "1"}},
        {"id": "a", "progressDetail": [1]},
        {"id": "a", "progressDetail": {"current": -1}},
    ],
)
async def test_what_says_nothing(entry: dict[str, object], told: Listener) -> None:
    async with own_step("a step", told) as step:
        await step.report(entry, verb="pushing layer", done=DONE)
    assert told.statuses == []
