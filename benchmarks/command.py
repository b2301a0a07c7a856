"""The command line: which rings are run, at which scale, and where the results go."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.caches import CacheNotEmptyError
from benchmarks.children import ProgramError
from benchmarks.clients import bollard_version
from benchmarks.machine import describe, file_system
from benchmarks.plots import draw_all
from benchmarks.rings import RINGS
from benchmarks.scale import FULL, QUICK
from benchmarks.table import tables
from benchmarks.workbench import OutOfTimeError, Workbench, workbench
from buildkit_session.testing import Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

NOT_RUN: Final = (Unavailable, OutOfTimeError, ProgramError, CacheNotEmptyError)
"""What makes a ring stop; what it has measured stays, and the next one is run."""

RESULTS: Final = Path(__file__).parent / "results"


def main(arguments: Sequence[str]) -> int:
    """Run the rings that are asked for, print the tables, write JSON and plots; returns the exit code."""
    options = _parse(arguments)
    scale = QUICK if options.quick else FULL
    if options.runs:
        scale = scale.with_runs(options.runs)
    start = time.monotonic()
    with workbench(scale) as bench:
        facts = describe() | {"data on": file_system(bench.folder)}
        for ring in options.only or RINGS:
            _run(bench, ring)
        facts |= _services(bench)
    facts["took"] = f"{time.monotonic() - start:.0f} s"
    print("\n".join(f"{name:>16}: {fact}" for name, fact in facts.items()), end="\n\n")
    print(tables(bench.results), end="")
    _write(options, {"made": datetime.now(UTC).isoformat(timespec="seconds"), "machine": facts}, bench)
    return 0


def _parse(arguments: Sequence[str]) -> Namespace:
    parser = ArgumentParser(prog="python -m benchmarks", description="Measure buildkit_session beside others.")
    parser.add_argument("--quick", action="store_true", help="little work, in a minute: see that everything runs")
    parser.add_argument("--only", action="append", choices=RINGS, metavar="RING", help=f"of {', '.join(RINGS)}")
    parser.add_argument("--runs", type=_positive, metavar="N", help=f"of each work, {FULL.runs} by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results there; default: DIR/results.json")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write results and plots there; default: benchmarks/results for a whole run, nothing for a part",
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def _run(bench: Workbench, ring: str) -> None:
    bench.say(f"-- {ring}")
    try:
        bench.check_time()
        RINGS[ring](bench)
    except NOT_RUN as reason:
        bench.results.not_run(ring, "all", "all", reason)


def _services(bench: Workbench) -> dict[str, str]:
    """What the builds ran on and against."""
    facts = {}
    if daemon := bench.started_daemon:
        facts["Docker"] = f"{daemon.version} ({daemon.origin})"
    if reference := bench.found_reference:
        facts["docker buildx"] = reference.version
    if bollard := bollard_version():
        facts["bollard"] = bollard
    return facts


def _write(options: Namespace, head: dict[str, Any], bench: Workbench) -> None:
    whole = not options.quick and not options.only
    folder: Path | None = options.out or (RESULTS if whole else None)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        draw_all(bench.results, folder)
    file: Path | None = options.json or (folder / "results.json" if folder is not None else None)
    if file is not None:
        file.write_text(json.dumps(head | bench.results.as_json(), indent=1) + "\n")
