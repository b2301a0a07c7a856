"""The command line and a daemon that sends what no table, no file and no shell expects."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import anyio
import pytest
from fake_buildkit import answering, fake_buildkit

from buildkit_session.messages import pb
from buildkit_session.messages.moby.buildkit import v1
from buildkit_session.messages.moby.buildkit.v1 import types
from buildkit_session.messages.nanotime import Timestamp

if TYPE_CHECKING:
    from pathlib import Path
    from subprocess import CompletedProcess

    from fake_buildkit import Script

pytestmark = pytest.mark.anyio

TRICK = "\x1b]0;title\x07\x1b[2J\n\rsha256:forged\tline\u202e"
FAR = Timestamp(seconds=2**62)
LONG_AGO = Timestamp(seconds=-(2**62))
RECORD = v1.UsageRecord(id=TRICK, description=TRICK, record_type=TRICK, parents=[TRICK], size=-(2**63), created_at=FAR)
BUILD = v1.BuildHistoryRecord(
    ref=TRICK, frontend_attrs={"build-arg:BUILDKIT_BUILD_NAME": TRICK}, created_at=FAR, completed_at=LONG_AGO
)
WORKER = types.WorkerRecord(
    id=TRICK,
    labels={TRICK: TRICK, "org.mobyproject.buildkit.worker.moby.host-gateway-ip": "10.0.0.1,other=10.0.0.2"},
    platforms=[pb.Platform(os=TRICK, architecture=TRICK)],
    buildkit_version=types.BuildkitVersion(version=TRICK),
)
SCRIPTS = {
    "Control/ListWorkers": answering(bytes(v1.ListWorkersResponse([WORKER]))),
    "Control/ListenBuildHistory": answering(bytes(v1.BuildHistoryEvent(record=BUILD))),
    "Control/DiskUsage": answering(bytes(v1.DiskUsageResponse([RECORD]))),
    "Control/Prune": answering(bytes(RECORD)),
}
PROGRESS = bytes(v1.StatusResponse(vertexes=[v1.Vertex(digest="sha256:1", name="a step")]))
DIGEST = f"sha256:{'a' * 64}"


def solved(**response: str) -> dict[str, Script]:
    named = {name.replace("_", "."): value for name, value in response.items()}
    return {
        "Control/Solve": answering(bytes(v1.SolveResponse(named))),
        "Control/Status": answering(PROGRESS),
    }


async def command(scripts: dict[str, Script], *words: str) -> CompletedProcess[bytes]:
    """Run a command against such a daemon."""
    async with fake_buildkit(scripts) as buildkit:
        with anyio.fail_after(60):
            return await anyio.run_process(
                [sys.executable, "-m", "buildkit_session", "-H", buildkit.address, *words],
                check=False,
                env={**os.environ, "BUILDX_METADATA_PROVENANCE": "disabled"},
            )


@pytest.mark.parametrize(
    "words",
    [
        "history ls",
        "history ls -q",
        "history ls --no-trunc",
        "du",
        "du --verbose",
        "prune -f",
        "prune -f --verbose",
        "info",
        "doctor",
    ],
)
async def test_no_text_begins_a_line_or_drives_a_terminal(words: str) -> None:
    """Not even where the output is no terminal yet: somebody may look at the file."""
    ran = await command(SCRIPTS, *words.split())
    text = ran.stdout.decode()
    assert ran.returncode == 0 or words == "doctor"  # which may find this machine wanting
    assert "\\x1b]0;title" in text or words == "doctor"
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(text)
    assert not any(line.lstrip().startswith("sha256:forged") for line in text.splitlines())


@pytest.mark.parametrize("words", ["history ls --format json", "du --format json", "info --format json"])
async def test_times_and_texts_in_json(words: str) -> None:
    ran = await command(SCRIPTS, *words.split())
    assert ran.returncode == 0
    assert TRICK in "".join(_texts(json.loads(ran.stdout)))


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _texts(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in _texts(inner)]
    return [str(value)]


@pytest.mark.parametrize("name", ["sha256:\u00fc", f"{DIGEST}\n--privileged", "../../etc/passwd", "x" * 10_000_000])
async def test_an_image_id_that_is_none(tmp_path: Path, name: str) -> None:
    """It is neither printed nor written, and the error shows some of it."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    into = tmp_path / "iid"
    scripts = solved(containerimage_digest=name)
    ran = await command(scripts, "build", "-q", "--iidfile", str(into), str(tmp_path))
    assert (ran.returncode, ran.stdout, into.exists()) == (1, b"", False)
    assert b"no digest" in ran.stderr
    assert len(ran.stderr) < 1000
    assert b"Traceback" not in ran.stderr


@pytest.mark.parametrize("flag", ["--iidfile", "--metadata-file"])
async def test_a_file_that_cannot_be_written(tmp_path: Path, flag: str) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    into = str(tmp_path / "missing" / "file")
    ran = await command(solved(containerimage_digest=DIGEST), "build", "-q", flag, into, str(tmp_path))
    assert (ran.returncode, ran.stderr.count(b"Traceback")) == (1, 0)
    assert ran.stderr.splitlines()[-1].startswith(f"ERROR: failed to build: cannot write {into}".encode())


async def test_an_address_that_is_a_list_of_hosts(tmp_path: Path) -> None:
    """What the daemon calls its address does not become a part of the request."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    ran = await command({**SCRIPTS, **solved()}, "build", "--add-host", "a=host-gateway", str(tmp_path))
    assert ran.returncode == 1
    assert b"this daemon does not tell its address" in ran.stderr
