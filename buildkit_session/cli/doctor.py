"""``buildkit-session doctor``: what can be built here, what cannot, and what is broken, with a line of advice each.

The exit code is 1 if something is broken. Limits do not change it: most builds never meet them.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from buildkit_session.cli.build_flags import BUILDER
from buildkit_session.cli.console import Console
from buildkit_session.cli.failure import FAILURE, SUCCESS, report
from buildkit_session.cli.flags import Flag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buildkit_session.cli.flags import CommandLine
    from buildkit_session.doctor.finding import Finding
    from buildkit_session.engine.address import Endpoint

__all__ = ["FLAGS", "OPERANDS", "USAGE", "run"]

USAGE = "doctor [OPTIONS]"
OPERANDS = (0, 0)
FLAGS = (BUILDER, Flag("format", "Format of the output: text or json (default: text)", "FORMAT"))

_BROKEN: Final = "broken"


def run(line: CommandLine) -> int:
    """Run the command and return its exit code."""
    form = line.last("format") or "text"
    if form not in {"text", "json"}:
        report(f"invalid format {form}; use text or json")
        return FAILURE
    if line.is_set("debug"):
        logging.basicConfig(level=logging.DEBUG)
    from buildkit_session.cli import interruption  # noqa: PLC0415 - help and mistakes do not need all this
    from buildkit_session.doctor.examination import examine  # noqa: PLC0415

    try:
        findings = interruption.run(lambda: examine(lambda: _endpoint(line)))
    except interruption.SignalError as error:
        report(str(error))
        return error.exit_code
    Console.output().write(_text(findings) if form == "text" else _json(findings))
    return FAILURE if any(finding.level == _BROKEN for finding in findings) else SUCCESS


def _endpoint(line: CommandLine) -> Endpoint:
    from buildkit_session.cli.chosen_builder import choose_builder  # noqa: PLC0415 - as above

    return choose_builder(line.last("host"), line.last("builder")).endpoint()


def _text(findings: Sequence[Finding]) -> str:
    from buildkit_session.engine.columns import aligned  # noqa: PLC0415 - as above
    from buildkit_session.printable import printable  # noqa: PLC0415 - as above

    rows = []
    for finding in findings:
        rows.append(f"{finding.level}\t{finding.subject}\t{printable(finding.text)}\n")
        if finding.advice:
            rows.append(f"\t\t-> {printable(finding.advice)}\n")
    counts = Counter(str(finding.level) for finding in findings)
    summary = ", ".join(f"{counts[level]} {level}" for level in ("ok", "limited", _BROKEN))
    return f"{aligned(''.join(rows), padding=2)}\n{summary}\n"


def _json(findings: Sequence[Finding]) -> str:
    return f"{json.dumps([asdict(finding) for finding in findings], indent=2)}\n"
