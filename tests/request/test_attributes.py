"""What the frontend is told, as buildx 0.29.1 tells it."""

from __future__ import annotations

from typing import Any

import pytest

from buildkit_session.request.attributes import entitlements, frontend_attributes, proxy_build_args
from buildkit_session.request.build_request import BuildRequest
from buildkit_session.request.cache import CacheEntry

CONTEXTS = "moby.buildkit.frontend.contexts+forward"
GIT_QUERY = "moby.buildkit.frontend.gitquerystring"


def attributes(request: dict[str, Any], **others: Any) -> dict[str, str]:
    settings: dict[str, Any] = {"dockerfile_name": "Dockerfile", "docker_driver": False, "environ": {}} | others
    return frontend_attributes(BuildRequest.of(**request), **settings)[1]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({}, {}),
        ({"target": "a"}, {"target": "a"}),
        ({"build_args": {"A": "1", "B": "", "C": None}}, {"build-arg:A": "1", "build-arg:B": ""}),
        ({"labels": {"a": "b"}}, {"label:a": "b"}),
        ({"platforms": "linux/arm64,linux/arm"}, {"platform": "linux/arm64,linux/arm/v7"}),
        ({"no_cache": True}, {"no-cache": ""}),
        ({"no_cache_filter": ["a", "b"]}, {"no-cache": "a,b"}),
        ({"pull": True}, {"image-resolve-mode": "pull"}),
        ({"add_hosts": ["a=1.2.3.4,::1"]}, {"add-hosts": "a=1.2.3.4,a=::1"}),
        ({"shm_size": "64m"}, {"shm-size": "67108864"}),
        ({"ulimits": ["nproc=5"]}, {"ulimit": "nproc=5:5"}),
        ({"cgroup_parent": "c"}, {"cgroup-parent": "c"}),
        ({"network": "host"}, {"force-network-mode": "host"}),
        ({"network": "none"}, {"force-network-mode": "none"}),
        ({"network": "default"}, {}),
        (
            {"build_args": {"BUILDKIT_MULTI_PLATFORM": "1"}},
            {"build-arg:BUILDKIT_MULTI_PLATFORM": "1", "multi-platform": "true"},
        ),
        ({"build_contexts": {"context": "p"}}, {"context:context": "local:_context", "frontend.caps": CONTEXTS}),
        ({"build_contexts": {"a": "oci-layout://p"}}, {"frontend.caps": CONTEXTS}),
        (
            {"build_contexts": {"a": "https://h/r.git?ref=b"}},
            {"context:a": "https://h/r.git?ref=b", "frontend.caps": f"{CONTEXTS},{GIT_QUERY}+forward"},
        ),
        # None of these is for the frontend.
        ({"tags": "a", "cache_to": "type=inline", "allow": "network.host", "secrets": ["id=a"], "call": "check"}, {}),
    ],
)
def test_each_argument(request_: dict[str, Any], expected: dict[str, str]) -> None:
    assert attributes(request_) == {"filename": "Dockerfile"} | expected


def test_an_engine_prefers_its_own_images() -> None:
    assert attributes({}, docker_driver=True)["image-resolve-mode"] == "local"
    assert attributes({"pull": True}, docker_driver=True)["image-resolve-mode"] == "pull"


def test_a_frontend_of_ones_own() -> None:
    request = BuildRequest.of(build_args={"BUILDKIT_SYNTAX": " docker/dockerfile:1 x y"})
    frontend, attrs = frontend_attributes(request, dockerfile_name="D", docker_driver=True, environ={})
    assert frontend == "gateway.v0"
    assert attrs["source"] == "docker/dockerfile:1"
    assert attrs["cmdline"] == attrs["build-arg:BUILDKIT_SYNTAX"] == " docker/dockerfile:1 x y"
    assert (
        frontend_attributes(BuildRequest(), dockerfile_name="D", docker_driver=True, environ={})[0] == "dockerfile.v0"
    )


def test_the_date_comes_from_the_environment_unless_it_is_given() -> None:
    environ = {"SOURCE_DATE_EPOCH": "5"}
    name = "build-arg:SOURCE_DATE_EPOCH"
    assert attributes({}, environ=environ)[name] == "5"
    assert attributes({"build_args": {"SOURCE_DATE_EPOCH": "6"}}, environ=environ)[name] == "6"
    assert name not in attributes({"build_args": {"SOURCE_DATE_EPOCH": None}}, environ=environ)
    assert name not in attributes({}, environ={"SOURCE_DATE_EPOCH": ""})


def test_attestations_and_their_default() -> None:
    told = attributes({"sbom": True}, attestations_supported=True)
    assert told["attest:sbom"] == "type=sbom"
    assert told["attest:provenance"] == "mode=min,inline-only=true"
    assert "attest:provenance" not in attributes({"provenance": False}, attestations_supported=True)
    assert "attest:provenance" not in attributes({})


def test_the_inputs_of_the_build_are_added() -> None:
    url = "https://h/r.git?tag=v1"
    told = attributes({"build_contexts": {"a": "b"}}, context_attrs={"context": url, "dockerfilekey": "dockerfile"})
    assert (told["context"], told["dockerfilekey"]) == (url, "dockerfile")
    assert told["frontend.caps"] == f"{CONTEXTS},{GIT_QUERY}"
    assert "frontend.caps" not in attributes({}, context_attrs={"context": "https://h/a.tar?x=1"})


def test_caches_are_named_to_the_frontend_too() -> None:
    request = {"cache_from": ["é", "type=x"]}
    assert attributes(request)["cache-imports"] == '[{"Type":"registry","Attrs":{"ref":"é"}},{"Type":"x"}]'
    known = [CacheEntry("local", {"src": "c", "digest": "d"})]
    told = attributes(request, cache_imports=known)["cache-imports"]
    assert told == '[{"Type":"local","Attrs":{"digest":"d","src":"c"}}]'
    assert "cache-imports" not in attributes(request, cache_imports=[])


def test_the_gateway_and_an_index() -> None:
    request = {"add_hosts": ["a=host-gateway"], "build_args": {"BUILDKIT_MULTI_PLATFORM": "1"}}
    told = attributes(request, host_gateway="10.0.0.1")
    assert (told["add-hosts"], told["multi-platform"]) == ("a=10.0.0.1", "true")


CONFIG = {
    "proxies": {
        "default": {"httpProxy": "http://p", "noProxy": "x", "httpsProxy": "", "allProxy": "y"},
        "tcp://h": {"ftpProxy": "ftp://p"},
        "tcp://none": {},
    }
}


@pytest.mark.parametrize(
    ("config", "host", "expected"),
    [
        (CONFIG, "unix:///s", {"HTTP_PROXY": "http://p", "NO_PROXY": "x"}),
        (CONFIG, "tcp://h", {"FTP_PROXY": "ftp://p"}),
        (CONFIG, "tcp://none", {}),
        ({}, "x", {}),
        ({"proxies": []}, "x", {}),
        ({"proxies": {"x": 3}}, "x", {}),
    ],
)
def test_proxies(config: dict[str, object], host: str, expected: dict[str, str]) -> None:
    assert proxy_build_args(config, host) == expected


def test_a_proxy_that_is_given_wins() -> None:
    told = attributes({"build_args": {"HTTP_PROXY": "own"}}, proxies={"HTTP_PROXY": "p", "NO_PROXY": "x"})
    assert (told["build-arg:HTTP_PROXY"], told["build-arg:NO_PROXY"]) == ("own", "x")


def test_privileges() -> None:
    assert entitlements(BuildRequest.of(allow=["device"], network="host")) == ["device", "network.host"]
    assert entitlements(BuildRequest.of(allow=["network.host"], network="host")) == ["network.host"]
    assert entitlements(BuildRequest.of(network="none")) == []
