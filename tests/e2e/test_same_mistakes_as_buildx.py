"""What the real buildx refuses is refused here, and where both have words for it, in the same ones."""

from __future__ import annotations

import re
import shlex
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from buildkit_session.errors import InputError
from buildkit_session.request.build_request import BuildRequest

if TYPE_CHECKING:
    from pathlib import Path
    from subprocess import CompletedProcess

    from buildkit_session.testing import Daemon, ReferenceClient

# Flags, the same as keywords, and what both texts have in common.
MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("-o type=", {"outputs": "type="}, "type is required for output"),
    ("-o dest=a,x=b", {"outputs": "dest=a,x=b"}, "type is required for output"),
    ("-o type=local", {"outputs": "type=local"}, "dest is required for local exporter"),
    ("-o type=local,dest=-", {"outputs": "type=local,dest=-"}, "dest cannot be stdout for local exporter"),
    ('-o type=local,dest=no/a\\"b', {"outputs": 'type=local,dest=no/a"b'}, ""),
    ("-o type=oci,tar=false", {"outputs": "type=oci,tar=false"}, "dest is required for oci exporter"),
    ("-o type=tar,dest=none/a", {"outputs": "type=tar,dest=none/a"}, "none"),
    (
        "-o type=tar -o type=oci",
        {"outputs": ["type=tar", "type=oci"]},
        "multiple outputs configured to write to stdout",
    ),
    ("--push", {"push": True}, "tag is needed when pushing to registry"),
    ("--cache-from type=,ref=a", {"cache_from": "type=,ref=a"}, "type"),
    ("--cache-from ref=a", {"cache_from": "ref=a"}, "type"),
    ("--cache-from type=registry,a", {"cache_from": "type=registry,a"}, "invalid value"),
    ("--cache-from type=registry", {"cache_from": "type=registry"}, "registry cache importer requires ref"),
    ("--cache-from type=local", {"cache_from": "type=local"}, "local cache importer requires src"),
    ("--secret src=p", {"secrets": ["src=p"]}, "secret missing id"),
    ("--secret id=x,foo", {"secrets": ["id=x,foo"]}, "must be a key=value pair"),
    ("--secret id=x,uid=0", {"secrets": ["id=x,uid=0"]}, "unexpected key 'uid'"),
    ("--secret id=x,type=vault", {"secrets": ["id=x,type=vault"]}, 'unsupported secret type "vault"'),
    ("--secret id=x,src=none", {"secrets": ["id=x,src=none"]}, "failed to stat none"),
    ("--ssh a=none", {"ssh": ["a=none"]}, "no such file or directory"),
    ("--ssh default", {"ssh": ["default"]}, "invalid empty ssh agent socket: make sure ssh_auth_sock is set"),
    ("--ssh a=/proc/self/status", {"ssh": ["a=/proc/self/status"]}, "failed to parse"),
    ("--attest sbom", {"attests": ["sbom"]}, "invalid value"),
    ("--attest mode=max", {"attests": ["mode=max"]}, "attestation type not specified"),
    ("--attest type=a,disabled=x", {"attests": ["type=a,disabled=x"]}, "invalid value disabled=x"),
    ("--provenance x", {"provenance": "x"}, "invalid value"),
    ("--annotation a", {"annotations": ["a"]}, "expected key=value"),
    ("--annotation layer:a=b", {"annotations": ["layer:a=b"]}, "unknown annotation type"),
    ("--annotation manifest[:a=b", {"annotations": ["manifest[:a=b"]}, "type and optional platform in square brackets"),
    ("--annotation manifest[x]:a=b", {"annotations": ["manifest[x]:a=b"]}, "unknown operating system or architecture"),
    ("--allow net.host", {"allow": "net.host"}, "unknown entitlement net.host"),
    ("--allow device=a,b", {"allow": "device=a,b"}, "invalid device config"),
    ("--allow device=a,b=c", {"allow": "device=a,b=c"}, "unknown device config key"),
    ("--build-context lib", {"build_contexts": ["lib"]}, "invalid context value: lib, expected key=value"),
    ("--build-context Base=.", {"build_contexts": ["Base=."]}, "invalid context name base"),
    ("--build-context a=", {"build_contexts": ["a="]}, "build context"),
    ("--build-context a=none", {"build_contexts": ["a=none"]}, "failed to get build context a: "),
    ("--build-context a=oci-layout://none", {"build_contexts": ["a=oci-layout://none"]}, "none"),
    ("--platform a/b/c/d", {"platforms": "a/b/c/d"}, "platform"),
    ("--platform linux/", {"platforms": "linux/"}, "platform"),
    ("--platform nonsense", {"platforms": "nonsense"}, "unknown operating system or architecture"),
    ("--call check,outline", {"call": "check,outline"}, "invalid print value: check,outline"),
    ("--call check,color=1", {"call": "check,color=1"}, "invalid print field: color=1"),
    ("--call check,ignorestatus=x", {"call": "check,ignorestatus=x"}, "invalid ignorestatus print value: x"),
    ("--ulimit nofile", {"ulimits": "nofile"}, "invalid ulimit argument: nofile"),
    ("--ulimit files=1", {"ulimits": "files=1"}, "invalid ulimit type: files"),
    ("--ulimit nofile=x", {"ulimits": "nofile=x"}, ""),
    ("--ulimit nofile=1:2:3", {"ulimits": "nofile=1:2:3"}, "too many limit value arguments"),
    ("--ulimit nofile=3:2", {"ulimits": "nofile=3:2"}, "less than or equal to hard limit: 3 > 2"),
    ("--shm-size x", {"shm_size": "x"}, "invalid size"),
    ("--shm-size 1mm", {"shm_size": "1mm"}, ""),
    ("--add-host a", {"add_hosts": "a"}, "invalid host a"),
    ("--add-host a=b", {"add_hosts": "a=b"}, "invalid host a=b"),
    ("--add-host a=fe80::1%e", {"add_hosts": "a=fe80::1%e"}, "invalid host a=fe80::1%e"),
    ("--network bridge", {"network": "bridge"}, "network mode"),
    ("--no-cache --no-cache-filter a", {"no_cache": True, "no_cache_filter": "a"}, "cannot currently be used together"),
    ("-t A", {"tags": "A"}, 'invalid tag "a"'),
    ("-t ''", {"tags": ""}, 'invalid tag ""'),
    ("--label =x", {"labels": {"": "x"}}, "empty key"),
    ("--build-arg =x", {"build_args": {"": "x"}}, "empty key"),
]


@pytest.fixture(scope="module")
def refusals(
    daemon: Daemon, reference: ReferenceClient, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, CompletedProcess[str]]:
    """What buildx says to each command line; it runs them side by side, as each is mostly its start."""
    context = tmp_path_factory.mktemp("context")
    (context / "Dockerfile").write_text("FROM scratch\n")

    def run(flags: str) -> CompletedProcess[str]:
        return reference.build(daemon.address, *shlex.split(flags), context, check=False)

    lines = [flags for flags, _, _ in MISTAKES]
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(lines, pool.map(run, lines), strict=True))


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.mark.parametrize(("flags", "keywords", "words"), MISTAKES)
def test_both_refuse(
    refusals: dict[str, CompletedProcess[str]], flags: str, keywords: dict[str, Any], words: str
) -> None:
    theirs = refusals[flags]
    assert theirs.returncode != 0
    assert not re.search("cannot connect|failed to solve", theirs.stderr, re.IGNORECASE), "refused for another reason"
    assert words in theirs.stderr.lower()
    with pytest.raises(InputError) as caught:
        BuildRequest.of(**keywords).check()
    assert words in str(caught.value).lower()
