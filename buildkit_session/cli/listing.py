r"""Lists of things in the formats that ``--format`` of docker's commands takes.

===================  =================================================================
``table``            the usual columns
``table TEMPLATE``   others, such as ``table {{.ID}}\t{{.Size}}``
``json``             an object a line
``TEMPLATE``         a line each, such as ``{{.ID}} {{json .Parents}}``
===================  =================================================================

Of Go's templates only this much is understood: fields, and ``json`` before one.

Source: docker/cli:cli/command/formatter/formatter.go.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from buildkit_session.engine.columns import aligned
from buildkit_session.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Listing", "go_json"]

TABLE: Final = "table"
JSON: Final = "json"

_NARROWEST: Final = 10
_GAP: Final = 3

_FIELD: Final = re.compile(r"\{\{-?\s*(json\s+)?\.(\w*)\s*-?\}\}")
# What Go escapes in JSON, for the sake of web pages.
_ESCAPED: Final = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"})


@dataclass(frozen=True, slots=True)
class Listing:
    """A kind of things to list.

    Attributes:
        titles: the fields that templates may name, and what stands above each in a table.
        columns: the fields of the usual table.
    """

    titles: Mapping[str, str]
    columns: Sequence[str]

    def render(
        self,
        form: str,
        fields: Callable[[bool], Sequence[Mapping[str, object]]],
        objects: Callable[[], Sequence[Mapping[str, object]]],
    ) -> str:
        """Show things.

        Args:
            form: a format; see the module.
            fields: of each thing, for templates; told whether they are for a table, where marks are added.
            objects: what each thing is in JSON.

        Raises:
            InputError: the format names a field that there is not.
            UnsupportedError: it says more than is understood here.
        """
        if form == JSON:
            return "".join(f"{go_json(thing)}\n" for thing in objects())
        word, _, template = form.partition(" ")
        if word != TABLE:
            return "".join(f"{self._expand(form, row)}\n" for row in fields(False))
        template = template or "\t".join(f"{{{{.{name}}}}}" for name in self.columns)
        lines = "".join(f"{self._expand(template, row)}\n" for row in (self.titles, *fields(True)))
        return aligned(lines, padding=_GAP, narrowest=_NARROWEST)

    def _expand(self, template: str, row: Mapping[str, object]) -> str:
        template = template.replace("\\t", "\t").replace("\\n", "\n")
        if "{{" in _FIELD.sub("", template):
            raise UnsupportedError(f"of templates only fields such as {{{{.{self.columns[0]}}}}} are understood")
        return _FIELD.sub(lambda found: self._field(found, row), template)

    def _field(self, found: re.Match[str], row: Mapping[str, object]) -> str:
        name = found[2]
        if not name:
            return _json(row)
        if name not in self.titles:
            raise InputError(f"there is no field {name}; use one of {', '.join(self.titles)}")
        return _json(row[name]) if found[1] else _spelled(row[name])


def go_json(value: object) -> str:
    """Spell a value as Go's encoder does, in one line."""
    return _json(value).translate(_ESCAPED)


def _json(value: object) -> str:
    """The same as templates do, which escape nothing for web pages."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _spelled(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{' '.join(map(str, value))}]"
    return "[]" if value is None else str(value)
