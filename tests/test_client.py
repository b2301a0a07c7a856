"""Arguments of the client that cannot be: refused with their name before a daemon is asked, of which there is none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import buildkit_session as bk

pytestmark = pytest.mark.anyio

NOWHERE = "unix:///nowhere"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"address": Path("/s")}, "the address must be a text, such as unix:///"),
        ({"builder": 5}, "builder must be the name of a builder, or a Builder, not an int"),
        ({"address": "tcp://h:1", "tls": 5}, "tls must be TlsFiles, not an int"),
    ],
)
def test_nothing_to_connect_to(arguments: Any, message: str) -> None:
    with pytest.raises(bk.InputError, match=re.escape(message)):
        bk.connect(**arguments)


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("build", {"on_event": 5}, "on_event must be a function, not an int"),
        ("build", {"file": 5}, "file must be the path of a Dockerfile, not an int"),
        ("build", {"context": None}, "the context must be a path, a URL or a stream of bytes"),
        ("build", {"no_cache": "no"}, "no_cache must be True or False, not 'no'"),
        ("build", {"frontend_attrs": {"a": 5}}, "frontend_attrs: the value of 'a' must be a text"),
        ("call", {"call": "check", "on_event": "print"}, "on_event must be a function, not a str"),
        ("disk_usage", {"filters": 5}, "filters must be a list of texts, not 5"),
        ("prune", {"reserved_space": "1GB"}, "reserved_space must be a whole number, not '1GB'"),
        ("prune", {"keep_duration": 5}, "keep_duration must be a timedelta"),
        ("prune", {"on_record": 5}, "on_record must be a function"),
    ],
)
async def test_arguments_that_cannot_be(method: str, arguments: Any, message: str) -> None:
    with pytest.raises(bk.InputError, match=re.escape(message)):
        await getattr(bk.connect(NOWHERE), method)(**arguments)


def test_a_digest_of_unknown_permissions(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch")
    unknown: Any = "all"
    with pytest.raises(bk.InputError, match="'all' for permissions: expected portable or exact"):
        bk.Context.find(tmp_path).digest(permissions=unknown)
