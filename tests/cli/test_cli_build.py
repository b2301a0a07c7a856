"""The command against real daemons: files, ids, streams, exit codes, Ctrl-C."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from buildkit_session.testing import Daemon, ReferenceClient

_DOCKERFILE = """\
FROM scratch AS tools
COPY busybox /bin/busybox

FROM tools AS greeting
ARG WHO=world
RUN ["/bin/busybox", "sh", "-c", "echo hello $WHO | /bin/busybox tee /greeting"]

FROM tools AS failing
RUN ["/bin/busybox", "sh", "-c", "echo before; exit 7"]

FROM tools AS endless
RUN ["/bin/busybox", "sh", "-c", "echo begun; /bin/busybox sleep 3600"]

FROM tools AS big
RUN ["/bin/busybox", "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=0", "seek=4000"]

FROM scratch AS files
COPY --from=greeting /greeting /
"""


@pytest.fixture
def context(tmp_path: Path, busybox: Path) -> Path:
    root = tmp_path / "context"
    root.mkdir()
    shutil.copy(busybox, root / "busybox")
    (root / "Dockerfile").write_text(_DOCKERFILE)
    return root


def command(daemon: Daemon, *words: str) -> dict[str, Any]:
    """Arguments for subprocess: the command with its daemon, and no settings of the person who runs the tests."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BUILDKIT_")}
    environ |= {"DOCKER_HOST": daemon.address, "WHO": "environment"}
    args = [sys.executable, "-m", "buildkit_session", "build", "--network=none", *words]
    return {"args": args, "env": environ, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


def build(daemon: Daemon, *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(**command(daemon, *words), check=False)


@pytest.fixture
def running() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes to end with the test."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def test_files_go_to_a_directory(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    done = build(daemon, "-o", str(tmp_path / "out"), str(context))
    assert (done.returncode, done.stdout) == (0, b"")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["greeting"]
    assert (tmp_path / "out" / "greeting").read_text() == "hello world\n"
    lines = done.stderr.decode().splitlines()
    assert lines[0] == '#0 building with "default" instance using docker driver'
    # Which vertex comes first is the daemon's choice.
    assert any(line.endswith(" [internal] load build definition from Dockerfile") for line in lines)


def test_files_go_to_an_archive(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    archive = tmp_path / "out.tar"
    assert build(daemon, "-o", f"type=tar,dest={archive}", str(context)).returncode == 0
    with tarfile.open(archive) as tar:
        assert tar.getnames() == ["greeting"]


def test_standard_output_is_the_archive_and_nothing_else(daemon: Daemon, context: Path) -> None:
    done = build(daemon, "-q", "-o", "-", str(context))
    assert (done.returncode, done.stderr) == (0, b"")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        assert tar.getnames() == ["greeting"]
    assert len(done.stdout) % 512 == 0


def test_arguments_reach_the_build(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    """A value from the command line, and one from the environment."""
    for arg, expected in [("WHO=there", "hello there\n"), ("WHO", "hello environment\n")]:
        assert build(daemon, "--build-arg", arg, "-o", str(tmp_path / "out"), str(context)).returncode == 0
        assert (tmp_path / "out" / "greeting").read_text() == expected


def test_quiet_prints_the_id_and_the_file_holds_the_same(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    idfile = tmp_path / "id"
    done = build(daemon, "-qt", "cli-test:quiet", f"--iidfile={idfile}", str(context))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"sha256:")
    assert done.stdout == idfile.read_bytes() + b"\n"


def test_quiet_without_an_image_prints_an_empty_line(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    done = build(daemon, "--progress=quiet", "-o", str(tmp_path / "out"), str(context))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\n", b"")


def test_no_progress_prints_nothing(daemon: Daemon, context: Path) -> None:
    done = build(daemon, "--progress=none", str(context))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_failed_step_is_shown_with_its_log(daemon: Daemon, context: Path) -> None:
    done = build(daemon, "--target=failing", str(context))
    errors = done.stderr.decode()
    assert (done.returncode, done.stdout) == (1, b"")
    _, name, log, _ = errors[errors.index("------") :].split("\n", 3)
    assert name.startswith(" > [failing 1/1] RUN")
    assert name.endswith(":")
    assert log.endswith(" before")
    assert errors.splitlines()[-1].startswith("ERROR: failed to build: failed to solve: ")
    assert "Traceback" not in errors


def test_a_failed_step_is_shown_in_quiet_too(daemon: Daemon, context: Path) -> None:
    done = build(daemon, "-q", "--target=failing", str(context))
    lines = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout) == (1, b"")
    assert [lines[0], *lines[2:4]] == ["------", "before", "------"]
    assert lines[-1].startswith("ERROR: failed to build: failed to solve: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing"], 'unable to prepare context: path "missing" not found'),
        (["-f", "missing", "."], "failed to read dockerfile: open missing: "),
        (["-o", "Dockerfile", "."], "destination directory Dockerfile is a file"),
        (["-o", "-", "-o", "-", "."], "multiple outputs configured to write to stdout"),
        (["--platform", "linux/amd64,linux/arm64", "."], "Multi-platform build is not supported"),
        (["--target", "missing", "."], "missing"),
    ],
)
def test_bad_input_is_one_line_of_error(
    daemon: Daemon, context: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    monkeypatch.chdir(context)
    done = build(daemon, "-q", *words)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"ERROR: failed to build: ")
    assert message in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_build_in_order(
    daemon: Daemon, context: Path, tmp_path: Path, running: list[subprocess.Popen[bytes]], number: signal.Signals
) -> None:
    words = ["--no-cache", "--target=endless", "-o", str(tmp_path / "out"), str(context)]
    process = subprocess.Popen(**command(daemon, *words))
    running.append(process)
    assert process.stderr is not None
    for line in process.stderr:
        if line.endswith(b" begun\n"):
            process.send_signal(number)
            break
    out, errors = process.communicate()
    assert (process.returncode, out) == (128 + number, b"")
    assert errors.splitlines()[-1] == b"ERROR: failed to build: interrupted by " + number.name.encode()
    assert not (tmp_path / "out").exists()


def test_an_interrupted_export_names_the_partial_directory(
    daemon: Daemon, context: Path, tmp_path: Path, running: list[subprocess.Popen[bytes]]
) -> None:
    """The process is held while the export goes on, so that the signal cannot come too late."""
    out = tmp_path / "out"
    process = subprocess.Popen(**command(daemon, "--progress=quiet", "--target=big", "-o", str(out), str(context)))
    running.append(process)
    while process.poll() is None and not (out.exists() and any(out.iterdir())):
        pass
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate()
    assert process.returncode == 130
    expected = f"ERROR: failed to build: interrupted by SIGINT; {out} may hold a part of the result"
    assert errors.decode().splitlines()[-1] == expected
    shutil.rmtree(out)  # it can be large, and pytest keeps its folders


def test_progress_that_nobody_reads_ends_the_build(
    daemon: Daemon, context: Path, running: list[subprocess.Popen[bytes]]
) -> None:
    process = subprocess.Popen(**command(daemon, "--no-cache", "--target=endless", str(context)))
    running.append(process)
    assert process.stderr is not None
    process.stderr.close()
    assert process.wait() == 141


def test_the_image_is_the_one_that_buildx_makes(
    daemon: Daemon, reference: ReferenceClient, context: Path, tmp_path: Path
) -> None:
    """Both share the daemon's cache, so the same flags give the same id."""
    words = ["--label", "a", "--label=b=c", "--build-arg", "WHO=you", "--target", "greeting", str(context)]
    reference.build(daemon.address, f"--iidfile={tmp_path / 'theirs'}", *words)
    assert build(daemon, f"--iidfile={tmp_path / 'ours'}", *words).returncode == 0
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


@pytest.mark.parametrize("flag", ["--iidfile", "--metadata-file", "--check --metadata-file"])
def test_a_result_that_cannot_be_written_down(daemon: Daemon, context: Path, tmp_path: Path, flag: str) -> None:
    if "check" in flag and daemon.version.startswith("20.10"):
        pytest.skip("the frontend of Docker 20.10 knows no calls")
    file = tmp_path / "nowhere" / "file"
    done = build(daemon, "-q", *flag.split(), str(file), str(context))
    text = f"ERROR: failed to build: cannot write {file}: No such file or directory"
    assert (done.returncode, done.stderr.decode().split(";")[0]) == (1, text)


def test_a_folder_that_the_build_makes(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = build(daemon, "--target=files", "-o", str(out), f"--metadata-file={out}/meta", str(context))
    assert done.returncode == 0
    assert sorted(path.name for path in out.iterdir()) == ["greeting", "meta"]


def test_a_folder_that_has_gone_by_the_end(
    daemon: Daemon, tmp_path: Path, running: list[subprocess.Popen[bytes]]
) -> None:
    """The id is printed, and what could not be written is said."""
    (tmp_path / "old").write_text("of an earlier build")
    (tmp_path / "folder").mkdir()
    words = ("-q", f"--iidfile={tmp_path}/old", f"--metadata-file={tmp_path}/folder/meta", "-")
    process = subprocess.Popen(**command(daemon, *words), stdin=subprocess.PIPE)
    running.append(process)
    while (tmp_path / "old").exists():  # it goes when all has been looked at
        time.sleep(0.01)
    (tmp_path / "folder").rmdir()
    printed, said = process.communicate(b"FROM scratch\nLABEL a=b\n", timeout=60)
    assert (process.returncode, printed[:7]) == (1, b"sha256:")
    assert said.decode().startswith(f"ERROR: cannot write {tmp_path}/folder/meta: No such file or directory")
