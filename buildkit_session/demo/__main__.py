"""Find a daemon or start one, build the example, show the files that came back.

Leaves two folders: the build context, so that the command it shows can be typed again, and the result.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from buildkit_session.demo.tree import tree
from buildkit_session.engine.client import EngineClient
from buildkit_session.engine.contexts import find_endpoint
from buildkit_session.errors import EngineUnreachable, SessionError
from buildkit_session.testing import Unavailable, busybox, install_packages, start_daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildkit_session.engine.address import Endpoint

_FOLDER = Path("out/demo")
_USAGE = f"""Usage:  python -m buildkit_session.demo

Build a small example with the daemon that docker would take, or with a private one where none answers,
and show the files that come back. They are in {_FOLDER} afterwards."""


def main() -> int:
    """Run the demonstration; give the exit status."""
    if words := sys.argv[1:]:
        asked = words in (["--help"], ["-h"])
        print(_USAGE, file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    try:
        with _daemon() as settings:
            return _build(settings)
    except SessionError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1


@contextmanager
def _daemon() -> Iterator[dict[str, str]]:
    """Take the daemon that docker would take, or start a private one; give the environment that leads to it."""
    endpoint = find_endpoint()
    try:
        server = anyio.run(_ask, endpoint)
    except EngineUnreachable as silence:
        if os.environ.get("DOCKER_HOST") or os.environ.get("DOCKER_CONTEXT"):
            # One that was named and does not answer is not replaced by another.
            raise
        _say(f"{silence}\nStarting a private daemon instead; it ends with this demonstration.")
    else:
        _say(f"{server} at {endpoint}")
        yield {}
        return
    _install()
    with start_daemon() as daemon:
        _say(f"Docker/{daemon.version} ({daemon.origin}) at {daemon.address}")
        yield {"DOCKER_HOST": daemon.address}


def _install() -> None:
    try:
        install_packages(say=_say)
    except Unavailable as reason:
        # Perhaps not all of it is needed; what is will be missed by name.
        _say(str(reason))


async def _ask(endpoint: Endpoint) -> str:
    async with EngineClient(endpoint) as engine:
        return (await engine.ping()).server


def _build(settings: dict[str, str]) -> int:
    context, result = _FOLDER / "context", _FOLDER / "result"
    for stale in (context, result):
        shutil.rmtree(stale, ignore_errors=True)
    target = _prepare(context)
    arguments = ["build", "--progress=plain", "--network=none", f"--target={target}"]
    arguments += ["--output", f"type=local,dest={result}", str(context)]
    _say(" ".join(["\n$", *(f"{name}={value}" for name, value in settings.items()), "buildkit-session", *arguments]))
    command = [sys.executable, "-m", "buildkit_session", *arguments]
    status = subprocess.run(command, env=os.environ | settings, check=False).returncode
    if status == 0:
        _say("\n".join([f"\nThe result, in {result}:", *tree(result)]))
    return status


def _prepare(context: Path) -> str:
    """Copy the example and what it needs of this machine to a folder; name the stage to build."""
    with resources.as_file(resources.files("buildkit_session.demo") / "example") as example:
        shutil.copytree(example, context)
    try:
        shutil.copy2(busybox(), context / "busybox")
    except Unavailable as reason:
        _say(f"{reason}; the example is built without its RUN steps.")
        return "plain"
    return "site"


def _say(text: str) -> None:
    print(text, flush=True)


sys.exit(main())
