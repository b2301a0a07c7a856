"""Which entry of docker's configuration a host gets, and what a broken one does."""

from __future__ import annotations

import json
import os
import traceback
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from buildkit_session.errors import InputError
from buildkit_session.services.credentials import Credentials
from buildkit_session.services.docker_config import DockerConfig

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

ALICE = Credentials("alice", "hunter2")
HELPER = """#!/bin/sh
echo "$1 $(cat)" >>"$(dirname "$0")/asked"
. "$(dirname "$0")/answer"
"""


def entry(text: str = "alice:hunter2") -> dict[str, str]:
    return {"auth": b64encode(text.encode()).decode()}


async def find(directory: Path, config: Any, host: str, **environ: str) -> Credentials | None:
    write(directory, config)
    return await DockerConfig({"DOCKER_CONFIG": str(directory), "PATH": str(directory), **environ}).find(host)


def write(directory: Path, config: Any) -> None:
    (directory / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))


def install_helper(directory: Path, name: str, answer: str) -> None:
    program = directory / f"docker-credential-{name}"
    program.write_text(HELPER)
    program.chmod(0o755)
    (directory / "answer").write_text(answer)


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("reg.example", "reg.example"),
        ("reg.example:5000", "reg.example:5000"),
        ("https://reg.example/v2/", "reg.example"),
        ("http://reg.example:5000", "reg.example:5000"),
        ("https://index.docker.io/v1/", "registry-1.docker.io"),
    ],
)
async def test_an_entry_is_found(tmp_path: Path, key: str, host: str) -> None:
    assert await find(tmp_path, {"auths": {key: entry()}}, host) == ALICE


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("reg.example", "reg.example:443"),
        ("reg.example:443", "reg.example"),
        ("reg.example", "a.reg.example"),
        ("reg.example", "REG.example"),
        ("docker.io", "registry-1.docker.io"),
        ("index.docker.io", "registry-1.docker.io"),
        ("registry-1.docker.io", "registry-1.docker.io"),
        ("https://index.docker.io/v1/", "docker.io"),
    ],
)
async def test_an_entry_is_for_its_host_alone(tmp_path: Path, key: str, host: str) -> None:
    """AU-07, AU-08."""
    assert await find(tmp_path, {"auths": {key: entry()}}, host) is None


async def test_the_exact_key_comes_first(tmp_path: Path) -> None:
    config = {"auths": {"https://reg.example/v2/": entry("bob:b"), "reg.example": entry()}}
    assert await find(tmp_path, config, "reg.example") == ALICE


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        (entry("alice:a:b"), Credentials("alice", "a:b")),
        (entry("alice:hunter2\0\0"), ALICE),
        ({"username": "alice", "password": "hunter2"}, ALICE),
        ({"Username": "alice", "PASSWORD": "hunter2", "email": "x"}, ALICE),
        ({"username": "bob", "password": "b", **entry()}, ALICE),
        ({"identitytoken": "t"}, Credentials("", "", "t")),
        ({**entry("alice:"), "identitytoken": "t"}, Credentials("alice", "", "t")),
        ({"registrytoken": "r"}, Credentials("", "", "", "r")),
        ({"auth": entry()["auth"][:8] + "\n" + entry()["auth"][8:]}, ALICE),
        ({}, None),
        ({"username": "alice"}, None),
    ],
)
async def test_fields_of_an_entry(tmp_path: Path, fields: dict[str, str], found: Credentials | None) -> None:
    assert await find(tmp_path, {"auths": {"a": fields}}, "a") == found


async def test_no_file_is_no_credentials(tmp_path: Path) -> None:
    assert await DockerConfig({"HOME": str(tmp_path), "PATH": ""}).find("a") is None


async def test_the_home_directory_is_the_default(tmp_path: Path) -> None:
    (tmp_path / ".docker").mkdir()
    write(tmp_path / ".docker", {"auths": {"a": entry()}})
    assert await DockerConfig({"HOME": str(tmp_path), "PATH": ""}).find("a") == ALICE


async def test_a_login_meanwhile_counts(tmp_path: Path) -> None:
    config = DockerConfig({"DOCKER_CONFIG": str(tmp_path), "PATH": ""})
    assert await config.find("a") is None
    write(tmp_path, {"auths": {"a": entry()}})
    assert await config.find("a") == ALICE


@pytest.mark.parametrize(
    "config",
    [
        "hunter2",
        '{"auths": {"a": {"auth": "hunter2"',
        '["hunter2"]',
        "[" * 100_000,
        {"auths": ["hunter2"]},
        {"auths": {"a": "hunter2"}},
        {"auths": {"a": {"auth": "hunter2"}}},
        {"auths": {"a": {"auth": ["hunter2"]}}},
        {"auths": {"a": entry("hunter2")}},
        {"auths": {"a": entry(":hunter2")}},
        {"auths": {"a": {"auth": b64encode(b"hunter2:\xff").decode()}}},
        {"auths": {"a": {"username": "x", "password": 7}}},
        {"auths": {"a": {"username": "x", "password": "hunter2\ud800"}}},
        {"auths": {"a": {}}, "credsStore": {"hunter2": 1}},
        {"auths": {"a": {}}, "credHelpers": "hunter2"},
        {"auths": {"a": {}}, "credHelpers": {"a": 1}},
    ],
)
async def test_a_broken_configuration_is_an_error_that_shows_nothing(tmp_path: Path, config: Any) -> None:
    """AU-04, AU-12, AU-25."""
    with pytest.raises(InputError) as caught:
        await find(tmp_path, config, "a")
    assert str(tmp_path / "config.json") in str(caught.value)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None or caught.value.__suppress_context__


async def test_a_broken_entry_harms_no_other(tmp_path: Path) -> None:
    assert await find(tmp_path, {"auths": {"a": entry(), "b": {"auth": "?"}}}, "a") == ALICE


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path, {})
    (tmp_path / "config.json").chmod(0)
    with pytest.raises(InputError, match="Permission denied"):
        await DockerConfig({"DOCKER_CONFIG": str(tmp_path)}).find("a")


async def test_the_variable_comes_first(tmp_path: Path) -> None:
    """And what it does not know is looked for elsewhere."""
    variable = json.dumps({"auths": {"a": entry("bob:b"), "https://index.docker.io/v1/": entry("hub:h")}})
    config = {"auths": {"a": entry(), "b": entry()}}
    assert await find(tmp_path, config, "a", DOCKER_AUTH_CONFIG=variable) == Credentials("bob", "b")
    assert await find(tmp_path, config, "b", DOCKER_AUTH_CONFIG=variable) == ALICE
    hub = await find(tmp_path, config, "registry-1.docker.io", DOCKER_AUTH_CONFIG=variable)
    assert hub == Credentials("hub", "h")


@pytest.mark.parametrize("variable", ["hunter2", '{"auths": 1}', '{"auths": {"a": {"auth": "hunter2"}}}'])
async def test_a_broken_variable(tmp_path: Path, variable: str) -> None:
    with pytest.raises(InputError, match="DOCKER_AUTH_CONFIG") as caught:
        await find(tmp_path, {}, "a", DOCKER_AUTH_CONFIG=variable)
    assert "hunter2" not in str(caught.value)


async def test_a_helper_of_the_host(tmp_path: Path) -> None:
    """It is asked for the key as the file has it, once for all the calls of a build."""
    install_helper(tmp_path, "one", """echo '{"Username":"helped","Secret":"h"}'""")
    write(tmp_path, {"auths": {"b": entry()}, "credHelpers": {"https://index.docker.io/v1/": "one"}})
    config = DockerConfig({"DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin"})
    found: list[Credentials | None] = []

    async def ask() -> None:
        found.append(await config.find("registry-1.docker.io"))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(ask)
    assert found == [Credentials("helped", "h")] * 5
    assert await config.find("b") == ALICE
    assert (tmp_path / "asked").read_text() == "get https://index.docker.io/v1/\n"


async def test_the_store_and_its_exceptions(tmp_path: Path) -> None:
    """An empty helper means the file."""
    install_helper(tmp_path, "all", """echo '{"Username":"helped","Secret":"h"}'""")
    config = {"auths": {"a": entry(), "b": entry()}, "credsStore": "all", "credHelpers": {"b": ""}}
    path = f"{tmp_path}:/usr/bin:/bin"
    assert await find(tmp_path, config, "a", PATH=path) == Credentials("helped", "h")
    assert await find(tmp_path, config, "b", PATH=path) == ALICE


async def test_what_a_helper_does_not_have_is_not_taken_from_the_file(tmp_path: Path) -> None:
    install_helper(tmp_path, "all", "echo 'credentials not found in native keychain'; exit 1")
    config = {"auths": {"a": entry()}, "credsStore": "all"}
    assert await find(tmp_path, config, "a", PATH=f"{tmp_path}:/usr/bin:/bin") is None


@pytest.mark.parametrize("answer", ["exit 1", None])
async def test_a_helper_that_fails_is_an_error(tmp_path: Path, answer: str | None) -> None:
    """AU-12: the file's password is not used instead."""
    if answer is not None:
        install_helper(tmp_path, "all", answer)
    with pytest.raises(InputError, match="docker-credential-all"):
        await find(tmp_path, {"auths": {"a": entry()}, "credsStore": "all"}, "a", PATH=f"{tmp_path}:/usr/bin:/bin")


async def test_the_helper_that_docker_would_choose(tmp_path: Path) -> None:
    """Where nothing is configured; not where a login has written to the file."""
    answer = """echo '{"Username":"helped","Secret":"h"}'"""
    for name in ("secretservice", "osxkeychain", "pass"):
        install_helper(tmp_path, name, answer)
    path = f"{tmp_path}:/usr/bin:/bin"
    assert await find(tmp_path, {}, "a", PATH=path) == Credentials("helped", "h")
    assert await find(tmp_path, {"auths": {"b": entry()}}, "a", PATH=path) is None
