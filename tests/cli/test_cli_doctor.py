"""What the doctor says where no daemon, or something else, is at the address."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from test_cli_main import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PODMAN = b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nServer: Libpod/5.4.2 (linux)\r\nContent-Length: 0\r\n\r\n"
ANCIENT = b"HTTP/1.1 200 OK\r\nApi-Version: 1.30\r\nServer: Docker/17.06 (linux)\r\nContent-Length: 0\r\n\r\n"
NO_UPGRADES = b"HTTP/1.1 200 OK\r\nApi-Version: 1.51\r\nServer: Docker/28 (linux)\r\nContent-Length: 0\r\n\r\n"


@contextmanager
def answering(place: Path, answer: bytes) -> Iterator[str]:
    """Something that gives every request the same answer."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place))
        server.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"unix://{place}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def findings(*words: str, code: int, **variables: str) -> dict[str, tuple[str, str, str]]:
    done = run(*words, "doctor", "--format=json", cwd=None, **variables)
    assert (done.returncode, done.stderr) == (code, "")
    return {found["subject"]: (found["level"], found["text"], found["advice"]) for found in json.loads(done.stdout)}


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "SSH_AUTH_SOCK": "", "XDG_RUNTIME_DIR": str(tmp_path)}


def test_nobody_listens(tmp_path: Path, home: dict[str, str]) -> None:
    """The way out is in the text, and other sockets are named."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "docker.sock"))
        level, text, advice = findings("-H", f"unix://{tmp_path}/none.sock", code=1, **home)["daemon"]
    assert level == "broken"
    assert text.endswith("No such file or directory")
    assert advice.startswith("Start the daemon")
    assert f"-H unix://{tmp_path}/docker.sock" in advice


def test_no_address(home: dict[str, str]) -> None:
    level, _, advice = findings("-H", "nonsense", code=1, **home)["address"]
    assert level == "broken"
    assert "DOCKER_HOST" in advice


@pytest.mark.parametrize(
    ("answer", "text"),
    [(PODMAN, "Podman runs no BuildKit"), (ANCIENT, "or newer is needed; Docker/17.06 (linux) speaks 1.30")],
)
def test_no_daemon_that_builds(answer: bytes, text: str, tmp_path: Path, home: dict[str, str]) -> None:
    with answering(tmp_path / "s", answer) as address:
        found = findings("-H", address, code=1, **home)
    assert found["daemon"][0] == "broken"
    assert found["daemon"][2]
    assert text in found["daemon"][1]


def test_a_proxy_that_passes_no_upgrades_on(tmp_path: Path, home: dict[str, str]) -> None:
    """It answers a ping as the Engine does; builds by POST /build need a session all the same."""
    with answering(tmp_path / "s", NO_UPGRADES) as address:
        level, text, advice = findings("-H", address, code=1, **home)["session"]
    assert level == "broken"
    assert "did not switch protocols on /v1.51/session" in text
    assert "'Upgrade: h2c' of POST /session" in advice


def test_helpers_that_are_missing(tmp_path: Path, home: dict[str, str]) -> None:
    config = {"credsStore": "nope", "credHelpers": {"ghcr.io": "../x"}, "auths": {"a.example": {"auth": "c2VjcmV0"}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = run("doctor", cwd=None, DOCKER_CONFIG=str(tmp_path), **home)
    assert (
        f"docker-credential-nope is not installed, but {tmp_path}/config.json names it for all registries"
        in done.stdout
    )
    assert "docker-credential-../x is not installed" in done.stdout
    assert "c2VjcmV0" not in done.stdout


def test_credentials_are_named_and_not_shown(tmp_path: Path, home: dict[str, str]) -> None:
    helper = tmp_path / "docker-credential-here"
    helper.write_text("#!/bin/sh\ntouch asked\n")
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "here", "auths": {"a.example": {"auth": "c2Vj"}}}))
    found = findings("-H", "nonsense", code=1, DOCKER_CONFIG=str(tmp_path), PATH=str(tmp_path), **home)
    assert found["credentials"] == ("ok", "those that docker-credential-here keeps, for a.example", "")


def test_a_config_that_is_no_json(tmp_path: Path, home: dict[str, str]) -> None:
    (tmp_path / "config.json").write_text("{")
    found = findings(code=1, DOCKER_CONFIG=str(tmp_path), **home)
    assert {found["address"][0], found["credentials"][0]} == {"broken"}


def test_an_agent_that_has_gone(tmp_path: Path, home: dict[str, str]) -> None:
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / "agent"))
        agent.listen()
        environ = home | {"SSH_AUTH_SOCK": str(tmp_path / "agent")}
        assert findings("-H", "x", code=1, **environ)["ssh agent"] == ("ok", f"at {tmp_path}/agent", "")
    level, text, _ = findings("-H", "x", code=1, **environ)["ssh agent"]
    assert (level, text) == ("limited", f"nobody answers at {tmp_path}/agent: Connection refused")


def test_a_builder_that_is_not_there(tmp_path: Path, home: dict[str, str]) -> None:
    level, text, _ = findings("-H", "x", code=1, BUILDX_BUILDER="gone", **home)["buildx"]
    assert level == "limited"
    assert text.startswith("no builder 'gone' found")


def test_the_builder_of_buildx(tmp_path: Path, home: dict[str, str]) -> None:
    instance = {"Name": "mine", "Driver": "remote", "Nodes": [{"Name": "mine0", "Endpoint": "unix:///b.sock"}]}
    (tmp_path / "buildx/instances").mkdir(parents=True)
    (tmp_path / "buildx/instances/mine").write_text(json.dumps(instance))
    environ = home | {"BUILDX_CONFIG": str(tmp_path / "buildx"), "BUILDX_BUILDER": "mine"}
    assert "unix:///b.sock" in findings(code=1, **environ)["daemon"][1]
    assert findings("-H", "x", code=1, **environ)["buildx"] == (
        "ok",
        "the current builder is 'mine' (remote)",
        "",
    )


def test_the_text_says_how_many(home: dict[str, str]) -> None:
    done = run("-H", "nonsense", "doctor", cwd=None, **home)
    assert done.returncode == 1
    assert done.stdout.startswith("broken   address ")
    assert done.stdout.splitlines()[-1] == "1 ok, 1 limited, 1 broken"
