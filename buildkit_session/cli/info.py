"""``buildkit-session info``: what the daemon is, and how it is reached."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from buildkit_session.cli.build_flags import BUILDER
from buildkit_session.cli.console import Console
from buildkit_session.cli.flags import Flag
from buildkit_session.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from buildkit_session import Client
    from buildkit_session.cli.flags import CommandLine
    from buildkit_session.engine.daemon import DaemonInfo
    from buildkit_session.engine.workers import Worker

__all__ = ["FLAGS", "OPERANDS", "USAGE", "run"]

USAGE = "info [OPTIONS]"
OPERANDS = (0, 0)
FLAGS = (BUILDER, Flag("format", "Format of the output: text or json (default: text)", "FORMAT"))

_WAYS = {
    "http2": "BuildKit's API, over HTTP/2 on the Engine's own address",
    "hijack": "BuildKit's API, over a connection that POST /grpc takes over",
    "direct": "BuildKit's API",
    "build": "the Engine's endpoint POST /build, without BuildKit's own API",
}


def run(line: CommandLine) -> int:
    """Run the command and return its exit code."""
    from buildkit_session.cli import asking  # noqa: PLC0415 - it loads the client, which help does not need

    form = line.last("format") or "text"
    if form not in {"text", "json"}:
        return asking.refuse(line, InputError(f"invalid format {form}; use text or json"))

    async def question(client: Client) -> None:
        info = await client.info()
        Console.output().write(_text(info) if form == "text" else f"{json.dumps(_object(info), indent=2)}\n")

    return asking.ask(line, question)


def _text(info: DaemonInfo) -> str:
    from buildkit_session.engine.columns import aligned  # noqa: PLC0415 - as above
    from buildkit_session.printable import printable  # noqa: PLC0415 - as above

    rows = [*_rows(info), *(row for worker in info.workers for row in _worker_rows(worker))]
    return aligned("".join(f"{name}:\t{printable(value)}\n" for name, value in rows if value), padding=2)


def _rows(info: DaemonInfo) -> Iterator[tuple[str, str]]:
    engine = info.engine
    yield "Address", info.address
    yield "Daemon", "buildkitd" if engine is None else engine.server or "a Docker Engine that does not say which"
    if engine is not None:
        spoken = "" if engine.api_version == engine.newest_api else f", spoken is {engine.api_version}"
        yield "API", f"{engine.newest_api}{spoken}"
        yield "System", engine.os_type
    yield "BuildKit", info.buildkit_version
    yield "Image store", _store(info)
    yield "Builds by", f"{info.way}: {_WAYS[info.way]}"
    for reason in info.refused:
        yield "Not taken", reason


def _worker_rows(worker: Worker) -> Iterator[tuple[str, str]]:
    yield "Worker", worker.id
    yield "  Platforms", ", ".join(dict.fromkeys(worker.platforms))  # some name one twice
    yield "  Host gateway", worker.host_gateway or ""
    for name, value in sorted(worker.labels.items()):
        yield "  Label", f"{name}={value}"


def _store(info: DaemonInfo) -> str:
    """Say where images go; for the way ``build`` it is not known."""
    if not info.is_engine or not info.workers:
        return ""
    return "containerd" if info.has_containerd_store else "classic"


def _object(info: DaemonInfo) -> dict[str, object]:
    engine = info.engine
    address, _, source = info.address.partition(" (from ")
    return {
        "address": address,
        "source": source.removesuffix(")"),
        "kind": "buildkitd" if engine is None else "engine",
        "server": None if engine is None else engine.server,
        "api_version": None if engine is None else str(engine.api_version),
        "newest_api": None if engine is None else str(engine.newest_api),
        "os_type": None if engine is None else engine.os_type,
        "buildkit_version": info.buildkit_version or None,
        "image_store": _store(info) or None,
        "way": info.way,
        "refused": list(info.refused),
        "platforms": _platforms(info.workers),
        "workers": [
            {
                "id": worker.id,
                "version": worker.version or None,
                "platforms": _platforms([worker]),
                "labels": dict(worker.labels),
            }
            for worker in info.workers
        ],
    }


def _platforms(workers: Sequence[Worker]) -> list[str]:
    return list(dict.fromkeys(platform for worker in workers for platform in worker.platforms))
