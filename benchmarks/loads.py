"""What builds move, and which way: one file or many small ones, to the daemon or back from it."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from benchmarks import trees
from benchmarks.children import timed
from benchmarks.scale import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.clients import BuildClient
    from benchmarks.workbench import Workbench

__all__ = [
    "LOCAL",
    "SEND",
    "TAR",
    "WAYS",
    "Load",
    "Material",
    "Order",
    "Way",
    "patience_after",
    "prepared",
    "start_over",
    "work_name",
]


@dataclass(frozen=True, slots=True)
class Way:
    """A direction and a kind of output.

    Attributes:
        name: for people.
        sends: whether the context is what travels; then the result is one small file.
        kind: of output, ``local`` or ``tar``.
    """

    name: str
    sends: bool
    kind: str


SLOWER: Final = 4
"""So many times the slowest build of the same work is too long."""

LEAST_PATIENCE: Final = 12.0  # seconds

SEND: Final = Way("send", sends=True, kind="local")
LOCAL: Final = Way("receive local", sends=False, kind="local")
TAR: Final = Way("receive tar", sends=False, kind="tar")
WAYS: Final = (SEND, LOCAL, TAR)


@dataclass(frozen=True, slots=True)
class Load:
    """One file of ``amount`` bytes, or ``amount`` small files."""

    amount: int
    in_one_file: bool

    @property
    def name(self) -> str:
        """For people."""
        if not self.in_one_file:
            return f"{self.amount:,} files"
        return f"{self.amount // GIB} GiB" if self.amount >= GIB else f"{self.amount // MIB} MiB"

    @property
    def tag(self) -> str:
        """The image that holds it."""
        return f"bench-{'size' if self.in_one_file else 'files'}:{self.amount}"


def work_name(way: Way, load: Load) -> str:
    """What a way and a load make together."""
    return f"{way.name}, {load.name}"


class Order(NamedTuple):
    """What a client is asked for: values of ``--output`` and ``--file``, and the context."""

    output: str
    file: str
    context: str


@dataclass(frozen=True, slots=True)
class Material:
    """A context that holds a load, if any, and one that takes it from an image."""

    load: Load | None
    full: Path
    bare: Path

    def order(self, way: Way, out: Path) -> Order:
        """A build that moves the load; its result goes into the folder ``out``."""
        dest = out / ("files.tar" if way.kind == "tar" else "tree")
        context, file = (self.full, "keep-little") if way.sends else (self.bare, "Dockerfile")
        return Order(f"type={way.kind},dest={dest}", str(context / file), str(context))


def patience_after(slowest: float | None, most: float) -> float:
    """Seconds after which a client counts as hung: ``most``, or less once a build has shown what the work takes."""
    return most if slowest is None else min(most, max(LEAST_PATIENCE, SLOWER * slowest))


@contextmanager
def prepared(bench: Workbench, client: BuildClient, load: Load) -> Iterator[Material]:
    """Make a load, and the image that it is received from; the image stays with the daemon for the next time."""
    bench.say(f"making {load.name}")
    make = trees.context_of_size if load.in_one_file else trees.context_of_files
    full = make(bench.folder / "full", load.amount)
    bare = trees.context_of_text(bench.folder / "bare", f"FROM {load.tag}\n")
    material = Material(load, full, bare)
    try:
        _make_image(bench, client, material)
        yield material
    finally:
        shutil.rmtree(full)
        shutil.rmtree(bare)


def start_over(bench: Workbench, client: BuildClient, material: Material) -> None:
    """Take another daemon: one whose client was killed in the middle of an export keeps that build for long."""
    bench.renew_daemon()
    _make_image(bench, client, material)


def _make_image(bench: Workbench, client: BuildClient, material: Material) -> None:
    if material.load:
        command = client.build_image(material.load.tag, material.full / "keep-all", material.full)
        timed(command, client.environment, patience=bench.scale.run_patience)
