"""``du``, ``prune`` and ``history`` print what those of the real buildx print, on the same daemon."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, TypeAlias

import pytest

from buildkit_session.testing import start_daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from buildkit_session.testing import Daemon, ReferenceClient

    Finished: TypeAlias = "subprocess.CompletedProcess[bytes]"

ROOT = os.getcwd()

# The clock goes on between one program and the other.
_AGE = re.compile(rb"(?:Less than a second|About a minute|About an hour|\d+ (?:second|minute)s?) ago")


class Both:
    """The two programs, with one environment."""

    def __init__(self, reference: ReferenceClient, environ: Mapping[str, str]) -> None:
        self._reference = reference
        self._environ = environ

    def theirs(self, *words: str, stdin: bytes = b"") -> Finished:
        return self._reference.run_in(self._environ, "buildx", *words, stdin=stdin)

    def ours(self, *words: str, stdin: bytes = b"") -> Finished:
        return subprocess.run(
            [sys.executable, "-m", "buildkit_session", *words],
            env={**self._environ, "PYTHONPATH": ROOT},
            input=stdin,
            capture_output=True,
            check=False,
        )

    def build(self, context: Path, *words: str) -> None:
        self.theirs("build", "--network=none", *words, str(context)).check_returncode()


@pytest.fixture
def both(daemon: Daemon, reference: ReferenceClient) -> Iterator[Both]:
    with reference.environment(daemon.address) as environ:
        yield Both(reference, environ)


@pytest.fixture
def both_c8d(c8d_daemon: Daemon, reference: ReferenceClient) -> Iterator[Both]:
    with reference.environment(c8d_daemon.address) as environ:
        yield Both(reference, environ)


@pytest.fixture(scope="module")
def remembering(reference: ReferenceClient) -> Iterator[Both]:
    """On a daemon of its own: what buildx asks of a history can crash one that removes records (moby/buildkit#6598)."""
    with start_daemon("newest", store="containerd") as daemon, reference.environment(daemon.address) as environ:
        yield Both(reference, environ)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/Dockerfile").write_text("FROM scratch AS base\nCOPY a /a\nFROM base\nCOPY b& /b&\n")
    (tmp_path / "app/a").write_text(f"{time.time_ns()}")
    (tmp_path / "app/b&").write_text("b" * 5000)
    return tmp_path / "app"


def timeless(text: bytes) -> bytes:
    return _AGE.sub(b"AGE", text)


def assert_same(ours: Finished, theirs: Finished) -> None:
    """Everything is the same but times. In a table of builds these are in the middle, and columns follow them."""
    outputs = [timeless(done.stdout) for done in (ours, theirs)]
    if b"CREATED AT" in outputs[0]:
        outputs = [re.sub(rb" {2,}", b"  ", output) for output in outputs]
    assert (ours.returncode, outputs[0], ours.stderr) == (theirs.returncode, outputs[1], theirs.stderr)


DU = [
    [],
    ["--verbose"],
    ["--format=pretty", "--filter=type=regular"],
    ["--format=json"],
    ["--filter=type=regular"],
    ["--filter=type=nothing"],
    ["--filter=description~=COPY", "--filter=mutable=false"],
    [r"--format=table {{.ID}}\t{{.Type}}\t{{.Description}}"],
    ["--format={{.ID}} {{json .Description}} {{.Mutable}} {{.UsageCount}} {{.CreatedAt}}"],
]


def test_du(both: Both, daemon: Daemon, context: Path) -> None:
    """Rows, columns, marks and totals."""
    both.build(context)
    for words in DU:
        if daemon.version.startswith("20.10") and {"--verbose", "--format=pretty", "--format=json"} & set(words):
            continue  # it names the parents of records in a way that buildx does not know any more
        assert_same(both.ours("du", *words), both.theirs("du", *words))


def test_du_of_containerd(both_c8d: Both, context: Path) -> None:
    both_c8d.build(context)
    for words in DU:
        assert_same(both_c8d.ours("du", *words), both_c8d.theirs("du", *words))


def test_prune(c8d_daemon: Daemon, reference: ReferenceClient, context: Path) -> None:
    """The question, the answers to it, and what is said of what goes, from a daemon of its own."""
    with start_daemon("newest") as daemon, reference.environment(daemon.address) as environ:
        both = Both(reference, environ)
        unanswered = both.ours("prune", stdin=b"")
        assert b"use --force" in unanswered.stderr
        unanswered.stderr = b""
        assert_same(unanswered, both.theirs("prune", stdin=b""))
        for answer in (b"n\n", b"yes\n"):
            assert_same(both.ours("prune", stdin=answer), both.theirs("prune", stdin=answer))
            assert_same(both.ours("prune", "-a", stdin=answer), both.theirs("prune", "-a", stdin=answer))
        for words, answer in (
            (["--force"], b""),
            ([], b"Y\r\n"),
            (["-f", "--verbose"], b""),
            (["-f", "--filter", "type=regular"], b""),
            (["-f", "--filter", "until=24h"], b""),
            (["-f", "--reserved-space", "1GB"], b""),
            (["-f", "--max-used-space", "1"], b""),
        ):
            ours, theirs = (pruned(both, context, program, words, answer) for program in (both.ours, both.theirs))
            assert ours.returncode == theirs.returncode == 0
            assert ours.stderr == theirs.stderr
            assert removals(ours.stdout) == removals(theirs.stdout)


def pruned(both: Both, context: Path, program: Callable[..., Finished], words: list[str], answer: bytes) -> Finished:
    """Build, and prune the last layer: how many records there are of copied files is left to chance."""
    both.build(context, "--output=type=cacheonly")
    layers = both.theirs("du", "--filter=description~=stage-1", "--format={{.ID}}").stdout.decode().split()
    assert len(layers) == 1
    return program("prune", *words, f"--filter=id={layers[0]}", stdin=answer)


def removals(text: bytes) -> tuple[list[bytes], bytes]:
    """What was printed, without ids and times, which differ, and in no order: the daemon has none."""
    text = re.sub(rb"\b[a-z0-9]{25}\b", b"ID", timeless(text))
    text = re.sub(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.\d]*", b"TIME", text)
    head, title, rows = text.partition(b"LAST ACCESSED\n")
    # The first row is laid out together with the title, so its tabs are others.
    return sorted(b"\t".join(filter(None, row.split(b"\t"))) for row in rows.splitlines() or head.splitlines()), title


def test_history(remembering: Both, context: Path) -> None:
    """Names, states and times of builds, and their logs."""
    remembering.build(context, "--output=type=cacheonly")
    remembering.build(context, "--output=type=cacheonly", "--target=base", "-f", str(context / "Dockerfile"))
    assert remembering.theirs("build", "--target=none", str(context)).returncode == 1
    for words in (
        ["ls"],
        ["ls", "--no-trunc"],
        ["ls", "--format=json"],
        ["ls", "--format={{.Ref}} {{.Name}} {{.Status}} {{.Duration}}"],
        ["ls", "--filter=status=error"],
        ["ls", "--filter=status!=error", "--filter=startedAt>1h"],
        ["ls", "--filter=duration>1h"],
        ["ls", "--filter=nonsense"],
        ["ls", "--filter=status<error"],
        ["ls", "--filter=duration=1s"],
        ["logs"],
        ["logs", "^1"],
        ["rm"],
        ["rm", "--all", "x"],
    ):
        assert_same(remembering.ours("history", *words), remembering.theirs("history", *words))


def test_history_rm(remembering: Both, context: Path) -> None:
    """Ids as ``ls`` prints them, short and long; the rest stays, and older ones come after it: a list ends at 50."""
    for _ in range(3):
        remembering.build(context, "--output=type=cacheonly", "--target=base")
    long = [json.loads(row)["ref"] for row in remembering.ours("history", "ls", "--format=json").stdout.splitlines()]
    short = remembering.ours("history", "ls", "-q").stdout.decode().split()
    assert [ref.rpartition("/")[2] for ref in long] == short
    done = remembering.ours("history", "rm", long[0], short[1])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    left = remembering.ours("history", "ls", "-q").stdout.decode().split()
    assert left[: len(short) - 2] == short[2:]


def test_a_daemon_without_a_history(both: Both, daemon: Daemon) -> None:
    if not daemon.version.startswith("20.10"):
        pytest.skip("it has one")
    ours, theirs = both.ours("history", "ls"), both.theirs("history", "ls")
    assert ours.returncode == theirs.returncode == 1
    assert ours.stderr.startswith(b"ERROR: build history needs BuildKit 0.11 (Docker 24.0); found Docker/20.10")


def test_info(both: Both, daemon: Daemon) -> None:
    """Platforms are those that buildx lists, the version is the daemon's."""
    told = json.loads(both.ours("info", "--format=json").stdout)
    listed = re.search(rb"^Platforms: *(.*)$", both.theirs("inspect").stdout, re.MULTILINE)
    assert listed is not None
    assert told["platforms"] == listed[1].decode().split(", ")
    assert daemon.version in told["server"]
    assert (told["way"], told["image_store"], told["refused"]) == ("hijack", "classic", [])
    text = both.ours("info").stdout.decode()
    assert "Image store:  classic\n" in text
    assert f"Address:      {daemon.address} (from $DOCKER_HOST)\n" in text


def test_doctor(both: Both, both_c8d: Both, daemon: Daemon) -> None:
    """Nothing is broken, and what the store cannot do is said for that store alone."""
    found = {}
    for name, programs in (("classic", both), ("containerd", both_c8d)):
        done = programs.ours("doctor", "--format=json")
        assert (done.returncode, done.stderr) == (0, b"")
        found[name] = {finding["subject"]: finding["level"] for finding in json.loads(done.stdout)}
    assert found["containerd"] | {"platforms": "", "ssh agent": ""} == {
        "daemon": "ok",
        "BuildKit": "ok",
        "image store": "ok",
        "platforms": "",
        "history": "ok",
        "credentials": "ok",
        "ssh agent": "",
    }
    assert found["classic"]["image store"] == "limited"
    old = daemon.version.startswith("20.10")
    assert found["classic"]["history"] == ("limited" if old else "ok")
    assert found["classic"].get("frontend") == ("limited" if old else None)
