"""What can choose outputs."""

from __future__ import annotations

from typing import Any

import pytest

from buildkit_session.errors import InputError
from buildkit_session.request.build_request import BuildRequest
from buildkit_session.request.session_exporter import SessionExporter, read_session_exporter


async def find(_request: Any) -> list[str]:
    return []


class Both:
    async def find(self, _request: Any) -> list[str]:
        return []

    async def finalize(self, _response: Any) -> None:
        pass


def test_all_forms() -> None:
    both = Both()
    assert read_session_exporter(find) == SessionExporter(find)
    assert read_session_exporter(both) == SessionExporter(both.find, both.finalize)
    assert BuildRequest.of(session_exporter=SessionExporter(find)).session_exporter == SessionExporter(find)
    assert BuildRequest.of(session_exporter=None).session_exporter is None


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (3, "must be a function that returns outputs, or an object .*, not an int"),
        (type("Odd", (), {"find": 3})(), "find must be a function"),
        (type("Odd", (), {"find": print, "finalize": 3})(), "finalize must be a function"),
    ],
)
def test_what_chooses_nothing(given: object, text: str) -> None:
    with pytest.raises(InputError, match=text):
        read_session_exporter(given)
