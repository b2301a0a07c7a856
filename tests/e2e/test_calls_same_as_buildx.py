"""What is printed of a frontend's answers is what buildx prints, to the byte.

buildx prints the answer as it came with ``format=json``, so it is its own reference.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from buildkit_session.engine.subrequest import Answer, answer, dockerfile_name
from buildkit_session.request.call import parse

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit_session.testing import Daemon, ReferenceClient

DOCKERFILES = {
    "clean": "FROM scratch\nCOPY . /\n",
    "one-warning": "from scratch\nCOPY . /\n",
    "warnings": "FROM scratch AS base\nMAINTAINER me\nENV a b\nCMD echo hi\nFROM base\nENTRYPOINT foo\n",
    "same-line": "FROM scratch as Base\nCOPY . /\n",
    "error": "FROM scratch\nFOO bar\n",
    "error-after-warning": "from scratch as B\nFOO bar\n",
    "undefined": "FROM scratch\nCOPY $foo /\nFROM $nope\n",
    "empty": "",
    "stages": "# base is the base\nFROM scratch AS base\n# build compiles ü\nFROM base AS build\nFROM build\n",
    "named-default": "FROM scratch AS base\n# out ships\nFROM base AS out\n",
    "described": (
        "# check=skip=none\n# A is the first\nARG A=1\n# VERSION to build, which is long\nARG VERSION\n"
        'FROM scratch AS base\n# X is inside\nARG X="a b"\nARG Y\n'
        "# out is the last\nFROM base AS out\nARG A\nARG LONG_NAME=value\n"
    ),
    # One of each: a frontend lists several secrets in any order.
    "mounts": (
        "FROM scratch\n"
        "RUN --mount=type=secret,id=token,required=true --mount=type=ssh --mount=type=cache,target=/c true\n"
    ),
    "other-mounts": "FROM scratch\nRUN --mount=type=secret,id=t --mount=type=ssh,id=key,required=true true\n",
    "long": "FROM scratch\n" + "LABEL a b\n" * 12,
}
CALLS = ["check", "targets", "outline"]


def ours(call: str, run_json: str, *, code: int = 0, filename: str = "") -> Answer:
    parsed = parse(call)
    assert parsed is not None
    metadata = {"result.json": run_json, "version": "1.0.0", "result.statuscode": str(code)}
    return answer(parsed, {key: text.encode() for key, text in metadata.items()}, filename=filename)


def error_in(progress: str) -> str:
    return progress.partition("ERROR: ")[2]


@pytest.fixture
def newest(daemon: Daemon) -> Daemon:
    if daemon.version.startswith("20.10"):
        pytest.skip("the frontend of Docker 20.10 knows no calls")
    return daemon


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", DOCKERFILES)
def test_same_text(name: str, call: str, newest: Daemon, reference: ReferenceClient, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(DOCKERFILES[name])

    raw = reference.build(newest.address, f"--call={call},format=json", tmp_path, check=False)
    theirs = reference.build(newest.address, f"--call={call}", tmp_path, check=False)

    if not raw.stdout:  # a Dockerfile that cannot be read has no outline: an ordinary error
        assert raw.returncode == theirs.returncode == 1
        return
    filename = dockerfile_name(str(tmp_path), None)
    found = ours(call, raw.stdout, code=raw.returncode, filename=filename)
    assert (found.text, found.exit_code) == (theirs.stdout, theirs.returncode)
    assert found.error == error_in(theirs.stderr).removesuffix("\n")


def test_the_calls_of_a_frontend(newest: Daemon, reference: ReferenceClient, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(DOCKERFILES["clean"])
    call = "subrequests.describe"

    raw = reference.build(newest.address, f"--call={call},format=json", tmp_path)
    theirs = reference.build(newest.address, f"--call={call}", tmp_path)

    assert ours(call, raw.stdout).text == theirs.stdout


def test_a_dockerfile_elsewhere(newest: Daemon, reference: ReferenceClient, tmp_path: Path) -> None:
    """It is named by the path that was given, not by that of the daemon."""
    given = tmp_path / "sub" / "Other.Dockerfile"
    given.parent.mkdir()
    given.write_text(DOCKERFILES["one-warning"])

    raw = reference.build(newest.address, "--call=check,format=json", "-f", given, tmp_path, check=False)
    theirs = reference.build(newest.address, "--check", "-f", given, tmp_path, check=False)

    assert re.search(r'"filename": "Other.Dockerfile"', raw.stdout)
    filename = dockerfile_name(str(tmp_path), str(given))
    assert ours("check", raw.stdout, code=1, filename=filename).text == theirs.stdout
