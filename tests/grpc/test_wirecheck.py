"""Malformed messages are found before the generated code reads them."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session.grpc import wirecheck
from buildkit_session.grpc.wirecheck import check_wire
from buildkit_session.messages.moby.buildkit.v1 import (
    CacheOptions,
    CacheOptionsEntry,
    SolveRequest,
    StatusResponse,
    Vertex,
    VertexLog,
    VertexStatus,
)
from buildkit_session.messages.nanotime import Timestamp
from buildkit_session.messages.pb import Definition, Source, SourceInfo

PARTS = [
    StatusResponse(
        vertexes=[Vertex(digest="d", inputs=["a", "b"], started=Timestamp(seconds=1, nanos=2), error="\u20ac")]
    ),
    StatusResponse(statuses=[VertexStatus(id="i", current=-1, total=2**62)]),
    StatusResponse(logs=[VertexLog(msg=b"\0" * 300)]),
]
WHOLE = b"".join(map(bytes, PARTS))
PART_ENDS = set(accumulate(len(bytes(part)) for part in PARTS))  # what ends there is whole by itself


def test_whole() -> None:
    """A message that the generated code wrote passes."""
    check_wire(StatusResponse, WHOLE)


def test_maps_and_nesting() -> None:
    """Map entries and messages in messages pass as well."""
    entry = CacheOptionsEntry(type="local", attrs={"src": "a", "": ""})

    check_wire(SolveRequest, bytes(SolveRequest(frontend_attrs={"k": "v"}, cache=CacheOptions(imports=[entry]))))


def test_unknown_fields() -> None:
    """Fields of tomorrow pass, of any wire type that is in use."""
    check_wire(VertexLog, b"\xf8\x01\x05\xf9\x01" + b"8" * 8 + b"\xfa\x01\x02ab\xfd\x01" + b"4" * 4)


@pytest.mark.parametrize("length", sorted(set(range(1, len(WHOLE))) - PART_ENDS))
def test_cut_off(length: int) -> None:
    """A message cut anywhere inside its parts is refused."""
    with pytest.raises(ValueError, match="cut off"):
        check_wire(StatusResponse, WHOLE[:length])


@pytest.mark.parametrize(
    "data",
    [
        b"\x08\x01",  # a number for a message
        b"\x0a\x02\x08\x05",  # a number for a string, one level down
        b"\x0a\x02\x2a\x01",  # a message that is shorter than it says
        b"\x12\x03\x22\x01\x05",  # packed numbers where one number belongs
        b"\x0a\x05\x0d1234",  # four fixed bytes for a string
        b"\x0b\x0c",  # a group
        b"\x0e",  # a wire type that does not exist
        b"\xf8\x01" + b"\xff" * 10 + b"\x01",  # a number of more than 64 bits
    ],
)
def test_malformed(data: bytes) -> None:
    """Wire types that the schema rules out are refused."""
    with pytest.raises(ValueError, match="offset"):
        check_wire(StatusResponse, data)


def test_too_deep() -> None:
    """Nesting has a bound of its own, far from the end of Python's stack."""
    definition = Definition()
    for _ in range(30):  # three messages each
        definition = Definition(source=Source(infos=[SourceInfo(definition=definition)]))
    check_wire(Definition, bytes(definition))

    for _ in range(10):
        definition = Definition(source=Source(infos=[SourceInfo(definition=definition)]))
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        check_wire(Definition, bytes(definition))


@given(st.binary(max_size=80))
def test_what_passes_has_the_right_types(data: bytes) -> None:
    """Whatever passes, the generated parser reads into attributes of the declared types, or refuses for its text."""
    try:
        check_wire(Vertex, data)
        vertex = Vertex.parse(data)
    except ValueError:
        return

    assert {type(vertex.digest), type(vertex.name), type(vertex.error)} == {str}
    assert {type(text) for text in vertex.inputs} <= {str}
    assert type(vertex.cached) is bool
    assert {type(vertex.started), type(vertex.completed)} <= {Timestamp, type(None)}


def test_too_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of messages inside of a message count as well."""
    monkeypatch.setattr(wirecheck, "MAX_FIELDS", 10)
    vertex = bytes(Vertex(digest="a", name="b"))  # two values, and itself
    check_wire(StatusResponse, (b"\x0a" + bytes((len(vertex),)) + vertex) * 3)
    with pytest.raises(ValueError, match="more than 10 values"):
        check_wire(StatusResponse, (b"\x0a" + bytes((len(vertex),)) + vertex) * 4)
