"""What a frontend is asked for in place of a build, and what it answers: ``--call`` and ``--check``.

The answer is the metadata of a gateway result, mainly ``result.json``; here it becomes the text that buildx prints. No
input or output happens here.

Source: docker/buildx:util/buildflags/callfunc.go, commands/build.go (printResult, printValue);
moby/buildkit:frontend/subrequests (outline, targets, describe.go).
"""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from buildkit_session.engine.check_report import read_report
from buildkit_session.engine.columns import aligned
from buildkit_session.engine.json_values import Json, as_list, as_object, as_text
from buildkit_session.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Answer", "Call", "answer", "dockerfile_name"]

CAPABILITY: Final = "moby.buildkit.frontend.subrequests+forward"
"""What a frontend must be capable of, or the one that it forwards to."""

_CAPS: Final = "frontend.caps"

VERSION: Final = (1, 0, 0)
"""Of the JSON that is understood; what a newer frontend says is shown as its own text."""


@dataclass(frozen=True, slots=True)
class Call:
    """What to ask a frontend for.

    Attributes:
        name: such as ``lint``, ``outline`` or ``targets``.
        format: ``json`` for the answer as it came, anything else for text.
        ignore_status: do not fail for what was found, such as warnings.
    """

    name: str
    format: str = ""
    ignore_status: bool = False

    def attributes(self, attrs: Mapping[str, str]) -> dict[str, str]:
        """Add the question to the attributes of the frontend. Only the gateway gives the answer."""
        caps = attrs.get(_CAPS)
        joined = CAPABILITY if caps is None else f"{caps},{CAPABILITY}"
        return {**attrs, _CAPS: joined, "requestid": f"frontend.{self.name}"}


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command ends that made a call.

    Attributes:
        text: for standard output.
        error: what failed, with its place, for the line that begins with ``ERROR:``; or empty.
        exit_code: of the command.
    """

    text: str
    error: str = ""
    exit_code: int = 0


def dockerfile_name(context: str, file: str | None) -> str:
    """Return the name of the Dockerfile that answers show: as the user gave it, however it is sent.

    Args:
        context: the path or URL of the build context.
        file: the value of ``--file``.

    Source: docker/buildx:build/opt.go (loadInputs, dockerfileSrcName).
    """
    if file == "-":
        return "stdin"
    return file or posixpath.normpath(posixpath.join(context, "Dockerfile"))


def answer(call: Call, metadata: Mapping[str, bytes], *, filename: str = "") -> Answer:
    """Make the text of an answer, as buildx prints it.

    Args:
        call: what was asked.
        metadata: of the result, from ``LLBBridge.Solve``; ``Control.Solve`` does not return it.
        filename: of the Dockerfile, from :func:`dockerfile_name`; the daemon knows the last part of it alone.

    Raises:
        EngineError: the answer is not of the form that belongs to the call.
    """
    values = {key: value.decode("utf-8", "replace") for key, value in metadata.items()}
    try:
        if call.name == "lint":
            return _checked(call, values, filename)
        if call.name in _TABLES:
            return Answer(_shown(call, values, _TABLES[call.name]))
    except (ValueError, TypeError, RecursionError) as error:
        msg = f"the frontend's answer to {call.name} cannot be read; add format=json to see it as it is"
        raise EngineError(msg) from error
    return Answer(_as_it_is(call, values), exit_code=_status(call, values))


def _as_it_is(call: Call, values: Mapping[str, str]) -> str:
    if call.format == "json" and "result.json" in values:
        return values["result.json"] + "\n"
    if "result.txt" in values:
        return values["result.txt"]
    return "".join(f"{key}: {value}\n" for key, value in sorted(values.items()))


def _status(call: Call, values: Mapping[str, str]) -> int:
    """Read ``result.statuscode``, if it counts and is a number that a process can end with."""
    text = values.get("result.statuscode", "")
    return int(text) & 0xFF if text.isascii() and text.isdecimal() and len(text) < 4 and not call.ignore_status else 0


def _shown(call: Call, values: Mapping[str, str], show: Callable[[object], str]) -> str:
    """Show ``result.json``, unless it is wanted as it is or too new to be understood."""
    if call.format == "json":
        return values.get("result.json", "") + "\n"
    if values.get("result.txt") and _version(values.get("version", "")) > VERSION:
        return values["result.txt"]
    return show(json.loads(values.get("result.json", "")))


def _version(text: str) -> tuple[int, ...]:
    parts = text.split(".")
    return tuple(int(part) for part in parts if part.isascii() and part.isdecimal() and len(part) < 10)


def _checked(call: Call, values: Mapping[str, str], filename: str) -> Answer:
    """The answer to ``lint``: a head, then the warnings; an error of the Dockerfile takes the way of errors."""
    report = read_report(values.get("result.json") or "{}", filename=filename)
    head, nothing = ("", "") if call.format == "json" else (report.head(), "Check complete, no warnings found.\n")
    text = head + _shown(call, values, lambda _: report.warnings())
    if report.failed:
        return Answer(f"{text}\n" if head else text, error=report.error(), exit_code=1)
    return Answer(text if head else text + nothing, exit_code=_status(call, values))


def _targets(value: object) -> str:
    rows = ["TARGET\tDESCRIPTION\n"]
    for target in _objects(as_object(value), "targets"):
        name = _text(target, "name")
        if target.get("default"):
            name = f"{name} (default)".lstrip()
        rows.append(f"{name}\t{_text(target, 'description')}\n")
    return aligned("".join(rows), padding=1)


def _described(value: object) -> str:
    rows = ["NAME\tVERSION\tDESCRIPTION\n"]
    for request in as_list(value):
        one = as_object(request)
        name = _text(one, "name").removeprefix("frontend.")
        rows.append(f"{name}\t{_text(one, 'version')}\t{_text(one, 'description')}\n")
    return aligned("".join(rows), padding=1)


def _outline(value: object) -> str:
    outline = as_object(value)
    args = [
        f"{_text(arg, 'name')}\t{_text(arg, 'value')}\t{_text(arg, 'description')}\n"
        for arg in _objects(outline, "args")
    ]
    blocks = [
        _target_of(outline),
        _table("BUILD ARG\tVALUE\tDESCRIPTION\n", args),
        _table("SECRET\tREQUIRED\n", _needs(outline, "secrets")),
        _table("SSH\tREQUIRED\n", _needs(outline, "ssh")),
    ]
    return "".join(f"{block}\n" for block in blocks if block)


def _target_of(outline: Json) -> str:
    name, description = _text(outline, "name"), _text(outline, "description")
    if not name and not description:
        return ""
    more = f"DESCRIPTION:\t{description}\n" if description else ""
    return aligned(f"TARGET:\t{name or '(default)'}\n{more}", padding=1)


def _needs(outline: Json, key: str) -> list[str]:
    return [f"{_text(one, 'name')}\t{'true' if one.get('required') else ''}\n" for one in _objects(outline, key)]


def _table(head: str, rows: Sequence[str]) -> str:
    return aligned(head + "".join(rows), padding=3) if rows else ""


_TABLES: Final[Mapping[str, Callable[[object], str]]] = {
    "targets": _targets,
    "outline": _outline,
    "subrequests.describe": _described,
}


def _objects(value: Json, key: str) -> list[Json]:
    return [as_object(one) for one in as_list(value.get(key))]


def _text(value: Json, key: str) -> str:
    return as_text(value.get(key))
