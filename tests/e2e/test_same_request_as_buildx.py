"""What BuildRequest asks for is what the real buildx asks for: both requests, side by side.

buildx talks to the daemon through a socket that records; addresses that the daemon would fetch from are on its own
loopback, where nobody answers: what is asked is compared, not what becomes of it.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from shutil import which
from typing import TYPE_CHECKING, Any

import pytest
from recorded_requests import Recorder

from buildkit_session.request.attributes import entitlements, frontend_attributes
from buildkit_session.request.build_request import BuildRequest
from buildkit_session.request.outputs import default_outputs, sent
from buildkit_session.request.vcs import vcs_attributes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from recorded_requests import Asked

    from buildkit_session.testing import Daemon, ReferenceClient

GIT = "http://127.0.0.1:1/x.git"
QUERY = f"{GIT}?ref=a"
# Flags, and the same as keywords.
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("", {}),
    ("-t b -t a:1 --target a --pull", {"tags": ["b", "a:1"], "target": "a", "pull": True}),
    ("--build-arg A=1 --build-arg B= --build-arg UNKNOWN", {"build_args": {"A": "1", "B": "", "UNKNOWN": None}}),
    ("--build-arg SOURCE_DATE_EPOCH=5", {"build_args": {"SOURCE_DATE_EPOCH": "5"}}),
    ("--build-arg BUILDKIT_INLINE_CACHE=1", {"build_args": {"BUILDKIT_INLINE_CACHE": "1"}}),
    ("--build-arg BUILDKIT_MULTI_PLATFORM=1", {"build_args": {"BUILDKIT_MULTI_PLATFORM": "1"}}),
    (
        "--build-arg BUILDKIT_SYNTAX='127.0.0.1:1/x y'",
        {"build_args": {"BUILDKIT_SYNTAX": "127.0.0.1:1/x y"}},
    ),
    ("--label a=b --label c", {"labels": {"a": "b", "c": ""}}),
    ("--platform linux/aarch64", {"platforms": "linux/aarch64"}),
    ("--platform linux/arm", {"platforms": "linux/arm"}),
    ("--platform linux/arm64/v8", {"platforms": "linux/arm64/v8"}),
    ("--platform local", {"platforms": "local"}),
    ("--no-cache", {"no_cache": True}),
    ("--no-cache-filter a,b --no-cache-filter c", {"no_cache_filter": ["a,b", "c"]}),
    ("--add-host a=1.2.3.4 --add-host b:[::1]", {"add_hosts": ["a=1.2.3.4", "b:[::1]"]}),
    ("--shm-size 1.5m --cgroup-parent c", {"shm_size": "1.5m", "cgroup_parent": "c"}),
    ("--ulimit nproc=5 --ulimit nofile=1:2 --ulimit nproc=6", {"ulimits": ["nproc=5", "nofile=1:2", "nproc=6"]}),
    ("--network host --allow security.insecure", {"network": "host", "allow": "security.insecure"}),
    ("--network default --allow device", {"network": "default", "allow": "device"}),
    (
        "--build-context context=. --build-context b=docker-image://127.0.0.1:1/x",
        {
            "build_contexts": {"context": ".", "b": "docker-image://127.0.0.1:1/x"},
        },
    ),
    (f"--build-context docker.io/library/a:latest='{QUERY}'", {"build_contexts": {"a": QUERY}}),
    ("--build-context library/a=. --build-context c.d/e:1=.", {"build_contexts": {"library/a": ".", "c.d/e:1": "."}}),
    ("--cache-from 127.0.0.1:1/a --cache-to type=inline", {"cache_from": "127.0.0.1:1/a", "cache_to": "type=inline"}),
    ("--cache-from type=registry,MODE=x,ref=127.0.0.1:1/a", {"cache_from": "type=registry,mode=x,ref=127.0.0.1:1/a"}),
    ("--cache-from type=gha", {}),
    ("--call check", {"call": "check"}),
    ("--call outline,format=json --build-context a=.", {"call": "outline", "build_contexts": {"a": "."}}),
    ("--provenance false --sbom=0", {"provenance": False, "sbom": False}),
    ("-o type=image,name=x -t b", {"outputs": "type=image,name=x", "tags": "b"}),
    (
        "-o type=image,oci-mediatypes=true --annotation a=b --annotation manifest[linux/amd64]:c=d",
        {
            "outputs": "type=image,oci-mediatypes=true",
            "annotations": {"a": "b", "manifest[linux/amd64]:c": "d"},
        },
    ),
    ("-o type=local,dest=out,platform-split=false", {"outputs": "type=local,dest=out,platform-split=false"}),
    ("-o out -t b", {"outputs": "out", "tags": "b"}),
    ("-o type=tar,dest=a.tar --annotation a=b", {"outputs": "type=tar,dest=a.tar", "annotations": {"a": "b"}}),
    ("-o type=cacheonly", {"outputs": "type=cacheonly"}),
]


@pytest.fixture(scope="module")
def recorded(daemon: Daemon, reference: ReferenceClient, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Asked]:
    """What buildx asks for with each command line; several run side by side, as each is mostly its start."""
    place = a_context(tmp_path_factory.mktemp("context"))

    def run(flags: str) -> Asked:
        return asked_by_buildx(daemon, reference, *shlex.split(flags), ".")

    lines = [flags for flags, _ in REQUESTS]
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(4) as pool:
        patch.chdir(place)
        return dict(zip(lines, pool.map(run, lines), strict=True))


def a_context(place: Path) -> Path:
    (place / "Dockerfile").write_text("FROM scratch AS a\nFROM scratch AS b\n")
    return place


def asked_by_buildx(daemon: Daemon, reference: ReferenceClient, *words: str) -> Asked:
    with Recorder(daemon.address) as recorder:
        reference.build(recorder.address, *words, check=False)
        return recorder.asked()


@pytest.mark.parametrize(("flags", "keywords"), REQUESTS)
def test_both_ask_for_the_same(recorded: dict[str, Asked], flags: str, keywords: dict[str, Any]) -> None:
    theirs = recorded[flags]
    request = BuildRequest.of(**{"network": "none"} | keywords)
    frontend, attrs = frontend_attributes(request, dockerfile_name="Dockerfile", docker_driver=True, environ={})
    assert theirs.build.frontend_attrs == attrs
    if theirs.frontend is not None:  # the daemon may have refused the build before
        asked = request.call.attributes(attrs) if request.call else attrs
        assert (theirs.frontend.frontend, theirs.frontend.frontend_opt) == (frontend, asked)
    assert set(theirs.build.entitlements) == set(entitlements(request))
    assert theirs.build.cache is not None
    assert pairs(theirs.build.cache.imports) == pairs(request.cache_from)
    assert pairs(theirs.build.cache.exports) == pairs(request.cache_to)
    assert pairs(theirs.build.exporters) == exporters(request)


def test_most_builds_came_to_the_frontend(recorded: dict[str, Asked]) -> None:
    refused = [flags for flags, asked in recorded.items() if asked.frontend is None]
    assert all("--allow" in flags for flags in refused)


def pairs(entries: Iterable[Any]) -> list[tuple[str, dict[str, str]]]:
    return [(entry.type, dict(entry.attrs)) for entry in entries]


def exporters(request: BuildRequest) -> list[tuple[str, dict[str, str]]]:
    """As an Engine is asked for them."""
    if request.call:
        return []
    named = {"name": ",".join(request.tags)} if request.tags else {}
    outputs = request.outputs or default_outputs(docker_driver=True, environ={})
    asked = [out.exporter for out in sent(outputs)]
    return [("moby", attrs | named) if kind == "image" else (kind, attrs) for kind, attrs in asked]


@pytest.mark.parametrize("url", [GIT, QUERY, f"{GIT}#a:b", "git://127.0.0.1:1/x", "http://127.0.0.1:1/x.tar"])
def test_remote_contexts(daemon: Daemon, reference: ReferenceClient, url: str) -> None:
    theirs = asked_by_buildx(daemon, reference, url)
    request = BuildRequest.of(network="none")
    _, attrs = frontend_attributes(
        request, dockerfile_name="Dockerfile", docker_driver=True, environ={}, context_attrs={"context": url}
    )
    assert theirs.build.frontend_attrs == attrs


@pytest.mark.skipif(which("git") is None, reason="no git")
def test_a_context_in_git(
    daemon: Daemon, reference: ReferenceClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    a_context(tmp_path)
    for words in (
        "init -q",
        "add .",
        "-c user.name=a -c user.email=a@b commit -qm x",
        "remote add origin https://u:p@127.0.0.1:1/x",
    ):
        subprocess.run(["git", *words.split()], cwd=tmp_path, check=True)
    (tmp_path / "sub").mkdir()
    (tmp_path / "Dockerfile").rename("sub/Dockerfile")
    theirs = asked_by_buildx(daemon, reference, "-f", "sub/Dockerfile", ".").build.frontend_attrs
    mounts = {"context": tmp_path, "dockerfile": tmp_path / "sub"}
    ours = vcs_attributes(".", environ=os.environ, dockerfile="sub/Dockerfile", mounts=mounts)
    assert {name: value for name, value in theirs.items() if name.startswith("vcs:")} == ours
    assert len(ours) == 4
