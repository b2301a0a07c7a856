"""All arguments of a build: each spelling means the same, and mistakes are named before anything is sent."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from buildkit_session import output
from buildkit_session.engine.build_params import Ulimit
from buildkit_session.engine.subrequest import Call
from buildkit_session.errors import InputError
from buildkit_session.output import DockerOutput, ImageOutput
from buildkit_session.request import secret, ssh
from buildkit_session.request.build_request import BuildRequest
from buildkit_session.request.cache import CacheEntry
from buildkit_session.request.extra_host import ExtraHost
from buildkit_session.request.named_context import LocalContext

SAME: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"tags": "a"}, {"tags": ["a"]}),
    ({"platforms": ["linux/amd64,linux/aarch64"]}, {"platforms": ("linux/amd64", "linux/arm64")}),
    ({"build_contexts": ["a=b"]}, {"build_contexts": {"a": LocalContext(Path("b"))}}),
    ({"annotations": ["manifest:a=b"]}, {"annotations": {"manifest:a": "b"}}),
    ({"attests": ["type=provenance,mode=max"]}, {"provenance": "mode=max"}),
    ({"attests": {"sbom": True}}, {"sbom": "true"}),
    ({"add_hosts": ["a=::1"]}, {"add_hosts": [ExtraHost("a", ("::1",))]}),
    ({"cache_from": "a,b"}, {"cache_from": ["a", {"type": "registry", "ref": "b"}]}),
    ({"cache_to": "type=inline"}, {"cache_to": [CacheEntry("inline")]}),
    ({"call": "check"}, {"call": Call("lint")}),
    ({"shm_size": "1k"}, {"shm_size": 1024}),
    ({"ulimits": ["nofile=1:2"]}, {"ulimits": [Ulimit("nofile", 1, 2)]}),
    ({"outputs": ["out"]}, {"outputs": output.local("out")}),
    ({"push": True, "tags": "a"}, {"outputs": "type=registry", "tags": "a"}),
    ({"load": True}, {"outputs": [output.docker()]}),
    ({"secrets": ["id=x,env=Y"]}, {"secrets": {"x": secret.env("Y")}}),
    ({"ssh": ["default"]}, {"ssh": {"default": ssh.agent()}}),
    ({"ssh": {"x": ""}}, {"ssh": {"x": ssh.agent()}}),
    ({"no_cache_filter": "a"}, {"no_cache_filter": ["a", ""]}),
    ({"target": None, "network": None, "labels": None}, {}),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_spellings_that_mean_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert BuildRequest.of(**one) == BuildRequest.of(**other)


def test_every_argument_has_its_place() -> None:
    merged, parted = {"sbom", "provenance", "push", "load"}, {"policy_verifier"}
    names = {field.name for field in fields(BuildRequest)}
    assert names - parted | merged == set(signature(BuildRequest.of).parameters)


def test_outputs_have_all_that_concerns_them() -> None:
    made = BuildRequest.of(tags=["a", "b"], push=True, load=True, annotations={"k": "v"})
    attrs = {"annotation.k": "v"}
    assert made.outputs == (
        ImageOutput("a,b", push=True, attrs=attrs),
        DockerOutput(attrs={**attrs, "name": "a,b"}),
    )
    assert BuildRequest.of(tags="a").outputs == ()


@pytest.mark.parametrize(("value", "added"), [("1", True), ("true", True), ("0", False), ("yes", False), (None, False)])
@pytest.mark.parametrize("cache_to", [(), None, "", "a", ["a"], CacheEntry("registry", {"ref": "a"})])
def test_an_argument_of_the_build_asks_for_inline_cache(value: str | None, added: bool, cache_to: Any) -> None:
    made = BuildRequest.of(build_args={"BUILDKIT_INLINE_CACHE": value}, cache_to=cache_to).cache_to
    without = BuildRequest.of(cache_to=cache_to).cache_to
    assert made == ((*without, CacheEntry("inline")) if added else without)


def test_only_what_is_used_is_loaded() -> None:
    """The start of a build is measured; this is a part of it."""
    code = (
        "import sys; from buildkit_session.request.build_request import BuildRequest;"
        "from buildkit_session.request.attributes import frontend_attributes;"
        "made = BuildRequest.of(tags='a', outputs='out', network='none');"
        "frontend_attributes(made, dockerfile_name='D', docker_driver=True, environ={}); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    unused = {
        "annotation",
        "cache",
        "call",
        "extra_host",
        "named_context",
        "platforms",
        "secret",
        "ssh",
        "ulimit",
        "vcs",
    }
    assert not {f"buildkit_session.request.{name}" for name in unused} & set(loaded)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tags": ["A"]}, "invalid tag"),
        (
            {"no_cache": True, "no_cache_filter": "a"},
            "--no-cache and --no-cache-filter cannot currently be used together",
        ),
        ({"push": True}, "tag is needed when pushing"),
        ({"network": "bridge"}, 'network mode "bridge" not supported'),
        ({"target": 3}, "target must be a text"),
        ({"cgroup_parent": 3}, "cgroup_parent must be a text"),
        ({"call": 3}, "call must be a text"),
        ({"cache_from": 3}, "cache_from must be a list"),
        ({"cache_from": [3]}, "a cache entry must be"),
        ({"cache_to": {3}}, "cache_to must be a list"),
        ({"build_args": ["a=b"]}, "build_args must be a mapping"),
        ({"secrets": {"x": "hunter2"}}, "the value of 'x' is a str; use bk.secret.value"),
        ({"ssh": ["a", "a"]}, 'duplicate agent ID "a"'),
        ({"ssh": {"a": 3}}, "the value of 'a' is an int"),
    ],
)
def test_mistakes(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        BuildRequest.of(**given)
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"outputs": "type=tar,dest=missing/a.tar"},
        {"secrets": ["id=x,src=missing"]},
        {"ssh": {"default": ssh.keys("missing")}},
        {"build_contexts": ["a=missing"]},
        {"build_contexts": ["a=oci-layout://missing"]},
    ],
)
def test_what_is_missing_on_this_machine_is_found_when_asked(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    request = BuildRequest.of(**given)
    with pytest.raises(InputError, match="missing"):
        request.check()
    BuildRequest.of(build_contexts={"a": "docker-image://b"}).check()


def test_a_secret_that_is_missing_is_named() -> None:
    with pytest.raises(InputError, match=r"^secret 'npm': environment variable NOPE_X is not set"):
        BuildRequest.of(secrets={"npm": secret.env("NOPE_X")}).check()


def test_what_may_be_secret_is_not_shown() -> None:
    made = BuildRequest.of(
        build_args={"PASSWORD": "hunter2"},
        secrets={"x": secret.value("hunter2")},
        cache_to={"type": "s3", "secret_access_key": "hunter2"},
    )
    assert "hunter2" not in repr(made)
