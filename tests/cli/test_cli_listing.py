"""The formats of lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from buildkit_session.cli.listing import Listing, go_json
from buildkit_session.errors import InputError, SessionError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LISTING = Listing({"ID": "ID", "Size": "SIZE", "Old": "OLD", "Parents": "PARENTS"}, ("ID", "Size"))
OBJECTS = [{"id": "a&b", "n": 1}, {"n": 2, "id": "c"}]


def fields(table: bool) -> Sequence[Mapping[str, object]]:
    mark = "*" * table
    return [
        {"ID": f"a&b{mark}", "Size": "1B", "Old": True, "Parents": ["x", "y"]},
        {"ID": f"c{mark}", "Size": "10.23kB", "Old": False, "Parents": None},
    ]


def shown(form: str) -> str:
    return LISTING.render(form, fields, lambda: OBJECTS)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("table", "ID        SIZE\na&b*      1B\nc*        10.23kB\n"),
        (r"table {{.Old}}\t{{ .Size }}", "OLD       SIZE\ntrue      1B\nfalse     10.23kB\n"),
        ("json", '{"id":"a\\u0026b","n":1}\n{"id":"c","n":2}\n'),
        ("{{.ID}}", "a&b\nc\n"),
        ("{{.Parents}} {{json .Parents}}", '[x y] ["x","y"]\n[] null\n'),
        ("{{json .ID}}", '"a&b"\n"c"\n'),
        (r"{{.ID}}\n-", "a&b\n-\nc\n-\n"),
        ("x", "x\nx\n"),
    ],
)
def test_formats(form: str, text: str) -> None:
    assert shown(form) == text


@pytest.mark.parametrize(
    ("form", "kind", "complaint"),
    [
        ("{{.Id}}", InputError, "there is no field Id; use one of ID, Size, Old, Parents"),
        ("table {{.Id}}", InputError, "there is no field Id"),
        ("{{if .Old}}x{{end}}", UnsupportedError, r"only fields such as \{\{\.ID\}\} are understood"),
    ],
)
def test_wrong_formats(form: str, kind: type[SessionError], complaint: str) -> None:
    with pytest.raises(kind, match=complaint):
        shown(form)


def test_a_table_of_nothing_has_its_titles() -> None:
    assert LISTING.render("table", lambda _: [], list) == "ID        SIZE\n"


def test_what_go_escapes() -> None:
    assert go_json({"b": "<a>\u2028ü", "a": [True, None]}) == '{"a":[true,null],"b":"\\u003ca\\u003e\\u2028ü"}'
