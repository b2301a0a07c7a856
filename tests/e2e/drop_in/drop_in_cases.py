"""The command lines of the drop-in suite: each goes through ``docker buildx build`` and through ours.

In the words, ``{registry}`` is a place of each client's own in a registry, ``{base}`` an image there, ``{scanner}`` an
image that writes an SBOM, ``{git}`` the URL of a repository with the context ``files``, ``{http}`` that of a server
with ``context.tar``, ``Dockerfile`` and ``a.txt``, and ``{agent}`` the socket of an ssh agent.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CASES", "Aspect", "Case", "Kind"]

#: Docker 20.10; the newest with the classic store; the newest with containerd's; BuildKit without Docker.
Kind: TypeAlias = Literal["20.10", "classic", "c8d", "buildkitd"]
#: What is observed, and compared all but the last: see ``observe`` in ``drop_in_runs``.
Aspect: TypeAlias = Literal["exit", "complaint", "stdout", "files", "images", "pushed", "steps", "cached", "stderr"]

ALL: tuple[Kind, ...] = ("20.10", "classic", "c8d", "buildkitd")
ENGINES: tuple[Kind, ...] = ("20.10", "classic", "c8d")
NEW: tuple[Kind, ...] = ("classic", "c8d", "buildkitd")
FULL: tuple[Kind, ...] = ("c8d", "buildkitd")
CLASSIC: tuple[Kind, ...] = ("classic",)
C8D: tuple[Kind, ...] = ("c8d",)
BUILDKITD: tuple[Kind, ...] = ("buildkitd",)
OLDEST: tuple[Kind, ...] = ("20.10",)
TWO: tuple[Kind, ...] = ("classic", "buildkitd")


@dataclass(frozen=True, slots=True)
class Case:
    """A command line and what must come of it.

    Attributes:
        name: of the case.
        lines: the words after ``build``; several lines are run one after the other in one folder, the last one is
            looked at.
        on: the daemons it runs on.
        context: which of the contexts lies in ``context``.
        stdin: what it reads: nothing, the context as ``tar`` or ``tar.gz``, or a text that is the Dockerfile.
        environment: more variables.
        exit: the status it ends with.
        complaint: a pattern that is found in what it writes to stderr.
        makes: the files that are there afterwards.
        allowed: what may differ, each with the reason.
    """

    name: str
    lines: tuple[tuple[str, ...], ...]
    on: tuple[Kind, ...]
    context: str = "files"
    stdin: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    exit: int = 0
    complaint: str = ""
    makes: tuple[str, ...] = ()
    allowed: Mapping[Aspect, str] = field(default_factory=dict)


def _case(
    name: str,
    line: str | tuple[str, ...],
    on: tuple[Kind, ...] = CLASSIC,
    context: str = "files",
    *,
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
    exit: int = 0,  # noqa: A002 - what it is called in a table
    complaint: str = "",
    makes: str = "",
    allowed: Mapping[Aspect, str] | None = None,
) -> Case:
    lines = (line,) if isinstance(line, str) else line
    return Case(
        name,
        tuple(tuple(shlex.split(text)) for text in lines),
        on,
        context,
        stdin,
        environment or {},
        exit,
        complaint,
        tuple(filter(None, makes.split(" & "))),
        allowed or {},
    )


def _wrong(
    name: str,
    line: str,
    complaint: str,
    on: tuple[Kind, ...] = CLASSIC,
    context: str = "files",
    *,
    exit: int = 1,  # noqa: A002 - what it is called in a table
    stdin: str = "",
    allowed: Mapping[Aspect, str] | None = None,
) -> Case:
    """A command line that fails, with a pattern that the words of both clients match, whatever the case of letters."""
    case = _case(name, line, on, context, stdin=stdin, allowed=allowed)
    return replace(case, exit=exit, complaint=complaint)


_NO_NET = "--network=none"
_NO_STEPS: Mapping[Aspect, str] = {"steps": "ours refuses before it asks the daemon for anything"}
_NO_FILE: Mapping[Aspect, str] = {"files": "buildx leaves an empty file behind"}

_OUTPUTS = [
    _case("local, short", "-o out context", ALL, makes="out"),
    _case("local", "--output type=local,dest=out context", CLASSIC, makes="out"),
    _case("local, run", f"{_NO_NET} -o out context", ALL, "run", makes="out"),
    _case("local into a folder of an odd name", "-o dest=out context", makes="dest=out"),
    _case(
        "local into a deep folder",
        "-o type=local,dest=deep/er/out context",
        makes="deep",
        allowed={"files": "folders that are made on the way get the permissions of the umask, not 0700"},
    ),
    _case("local, split by platform", "-o type=local,dest=out,platform-split=true context", BUILDKITD, makes="out"),
    _case("tar", "-o type=tar,dest=out.tar context", ALL, makes="out.tar"),
    _case("tar on stdout, short", "-o - context", TWO),
    _case("tar on stdout", "-o type=tar,dest=- context"),
    _case("tar on stdout by default", "-o type=tar context", CLASSIC),
    _case("quoted fields", """-o 'type=local,"dest=out, with commas"' context""", makes="out, with commas"),
    _case("keys in capitals", "-o TYPE=local,DEST=out context", makes="out"),
    _case("oci", "-o type=oci,dest=image.tar context", FULL, makes="image.tar"),
    _case("oci with a name", "-t drop-in/oci:1 -o type=oci,dest=image.tar context", C8D, makes="image.tar"),
    _case("oci as a folder", "-o type=oci,tar=false,dest=layout context", FULL, makes="layout"),
    _case("oci on stdout", "-o type=oci context", C8D),
    _case("oci on stdout, named", "-o type=oci,dest=- context", BUILDKITD),
    _case("docker archive", "-t drop-in/docker:1 -o type=docker,dest=image.tar context", BUILDKITD, makes="image.tar"),
    _case("docker archive on stdout", "-t drop-in/docker:1 -o type=docker,dest=- context", C8D),
    _case("zstd", "-o type=oci,dest=image.tar,compression=zstd,force-compression=true context", C8D, makes="image.tar"),
    _case("uncompressed", "-o type=oci,dest=image.tar,compression=uncompressed context", C8D, makes="image.tar"),
    _case("image", "-t drop-in/image:1 context", ENGINES),
    _case("image, run", f"{_NO_NET} -t drop-in/run:1 context", ENGINES, "run"),
    _case("image with two tags", "-t drop-in/one:1 --tag=drop-in/two:2 context", ("classic", "c8d")),
    _case("image without a version in its tag", "-tdrop-in/plain context", CLASSIC),
    _case("image named by the output", "-o type=image,name=drop-in/named:1 context", C8D),
    _case("image with two names", """-o 'type=image,"name=drop-in/n1:1,drop-in/n2:1"' context""", CLASSIC),
    _case("image without a name", "context", ENGINES),
    _case("load", "--load -t drop-in/load:1 context", ENGINES),
    _case("docker without a file", "-o type=docker,name=drop-in/load:2 context", C8D),
    _case("no output", "context", BUILDKITD, complaint="no output specified"),
    _case("cacheonly", "-o type=cacheonly context", ("20.10", "classic", "buildkitd")),
    _case("two outputs", "-o out -o type=tar,dest=out.tar context", FULL, makes="out & out.tar"),
    _case(
        "three outputs",
        "-t drop-in/three:1 -o type=oci,dest=image.tar -o out -o type=image context",
        C8D,
        makes="image.tar & out",
    ),
    _case("archive and image", "-t drop-in/both:1 --load -o type=tar,dest=out.tar context", C8D, makes="out.tar"),
]

_PUSHES = [
    _case("push", "--push -t {registry}/pushed:1 context", ("classic", "c8d", "buildkitd")),
    _case("push from the oldest", "--push -t {registry}/pushed:1 context", OLDEST),
    _case("push two tags", "--push -t {registry}/a:1 -t {registry}/b:2 context", BUILDKITD),
    _case("registry", "-o type=registry,name={registry}/typed:1 context", C8D),
    _case("image with push", "-t {registry}/image:1 -o type=image,push=true context", BUILDKITD),
    _case("push and load", "--push --load -t {registry}/two-ways:1 context", CLASSIC),
    _case("push several platforms", "--push --platform linux/amd64,linux/arm64 -t {registry}/multi:1 context", FULL),
    _case("push without attestations", "--push --provenance=false -t {registry}/bare:1 context", C8D),
]

_PLATFORMS = [
    _case("foreign platform", "--platform linux/arm64 -t drop-in/arm:1 context", ("20.10", "c8d")),
    _case("foreign platform, files", "--platform linux/arm64 -o out context", TWO, makes="out"),
    _case("platform by another name", "--platform linux/x86_64 -t drop-in/x86:1 context"),
    _case("platform with a variant", "--platform=linux/arm/v7 -t drop-in/v7:1 context"),
    _case("platform of this machine", "--platform local -t drop-in/local:1 context"),
    _case(
        "platform from the environment",
        "-t drop-in/env:1 context",
        environment={"DOCKER_DEFAULT_PLATFORM": "linux/s390x"},
    ),
    _case("two platforms, files", "--platform linux/amd64,linux/arm64 -o out context", FULL, makes="out"),
    _case(
        "two platforms, oci",
        "--platform linux/amd64 --platform linux/arm64 -o type=oci,dest=image.tar context",
        FULL,
        makes="image.tar",
    ),
    _case("one platform as if several", "--build-arg BUILDKIT_MULTI_PLATFORM=1 -o out context", C8D, makes="out"),
    _wrong(
        "two platforms on the classic store",
        "--platform linux/amd64,linux/arm64 context",
        "multi-platform build is not supported|several platforms",
    ),
]

_VALUES = [
    _case("build argument", "--build-arg GREETING=hi -t drop-in/arg:1 context", ("20.10", "classic")),
    _case("build argument with commas", "--build-arg 'GREETING=a=b,c d' -t drop-in/arg:2 context"),
    _case("empty build argument", "--build-arg GREETING= -t drop-in/arg:3 context"),
    _case(
        "build arguments from the environment",
        "--build-arg GREETING --build-arg MISSING -t drop-in/arg:4 context",
        environment={"GREETING": "from the environment"},
    ),
    _case("build argument that no stage takes", "--build-arg NOBODY=x -o out context", makes="out"),
    _case("build argument in a step", f"{_NO_NET} --build-arg NAME=you -o out context", BUILDKITD, "run", makes="out"),
    _case("labels", "--label a=b --label 'c=d e' --label f -t drop-in/label:1 context", ("20.10", "classic")),
    _case("label over one of the Dockerfile", "--label greeting=mine -t drop-in/label:2 context"),
    _case("target", "--target first -o out context", ("20.10", "classic", "buildkitd"), makes="out"),
    _case(
        "annotation", "--annotation org.example.k=v -o type=oci,dest=image.tar context", BUILDKITD, makes="image.tar"
    ),
    _case(
        "annotations of index and manifest",
        "--annotation index,manifest:k=v --platform linux/amd64,linux/arm64 -o type=oci,dest=image.tar context",
        FULL,
        makes="image.tar",
    ),
    _case(
        "annotation of one platform",
        "--annotation manifest[linux/arm64]:k=v --platform linux/amd64,linux/arm64 -o type=oci,dest=image.tar context",
        C8D,
        makes="image.tar",
    ),
    _case("annotation without an output", "--annotation k=v -t drop-in/annotated:1 context", C8D),
    _case(
        "date from the environment",
        "-t drop-in/date:1 context",
        CLASSIC,
        environment={"SOURCE_DATE_EPOCH": "1600000000"},
    ),
    _case(
        "date for layers",
        "-o type=oci,dest=image.tar,rewrite-timestamp=true context",
        C8D,
        environment={"SOURCE_DATE_EPOCH": "1600000000"},
        makes="image.tar",
    ),
    _case("date as an argument", "--build-arg SOURCE_DATE_EPOCH=1600000000 -t drop-in/date:2 context", CLASSIC),
]

_DOCKERFILES = [
    _case("file in the context", "-f context/other.Dockerfile -o out context", CLASSIC, makes="out"),
    _case(
        "file outside", "--file outside/Named.Dockerfile -o out context", ("20.10", "classic", "buildkitd"), makes="out"
    ),
    _case("file outside that ignores", "-f outside/Own.Dockerfile -o out context", BUILDKITD, makes="out"),
    _case(
        "file with an ignore file of its own",
        "-f context/own.Dockerfile -o out context",
        CLASSIC,
        "ignoring",
        makes="out",
    ),
    _case("file on stdin", "-f - -o out context", ALL, stdin="FROM scratch\nCOPY a.txt /from-stdin\n", makes="out"),
    _case("file by URL", "-f {http}/Dockerfile -o out context", TWO, makes="out"),
    _case("lower-case name", "-o out context", CLASSIC, "lower", makes="out"),
    _case("ignored files", "-o out context", ("20.10", "classic", "buildkitd"), "ignoring", makes="out"),
    _case("warnings", "-o out context", TWO, "warned", makes="out", complaint="warnings found"),
]

_CONTEXTS = [
    _case("context as tar", "-o out -", ALL, stdin="tar", makes="out"),
    _case("context as compressed tar", "-o out -", CLASSIC, stdin="tar.gz", makes="out"),
    _case("context as tar, another file", "-f other.Dockerfile -o out -", BUILDKITD, stdin="tar", makes="out"),
    _case(
        "Dockerfile as the context",
        "-o out -",
        ("20.10", "classic", "buildkitd"),
        stdin="FROM scratch\nWORKDIR /made/here\n",
        makes="out",
    ),
    _case("git", "-o out {git}", ("20.10", "classic", "buildkitd"), makes="out"),
    _case("git, a branch", "-o out {git}#side", CLASSIC, makes="out"),
    _case("git, a folder of a branch", "-o out {git}#side:dir", TWO, makes="out"),
    _case("git, another file", "-f other.Dockerfile -o out {git}", BUILDKITD, makes="out"),
    _case(
        "git, a file of this machine", "-f - -o out {git}", CLASSIC, stdin="FROM scratch\nCOPY a.txt /x\n", makes="out"
    ),
    _case("archive by URL", "-o out {http}/context.tar", ("20.10", "classic", "buildkitd"), makes="out"),
    _case("Dockerfile by URL", "-o out {http}/Dockerfile.plain", CLASSIC, makes="out"),
    _case("named folder", "--build-context extra=extra -o out context", NEW, "named", makes="out"),
    _case("named git", "--build-context extra={git} -o out context", BUILDKITD, "named", makes="out"),
    # Both daemons, of BuildKit 0.25, refuse every URL here that is no repository.
    _wrong("named URL", "--build-context extra={http}/a.txt -o out context", "invalid argument", TWO, "named-file"),
    _case("named image", "--build-context extra=docker-image://{base} -o out context", TWO, "named", makes="out"),
    _case("named layout", "--build-context extra=oci-layout://given -o out context", FULL, "named", makes="out"),
    _case(
        "named layout, by tag",
        "--build-context extra=oci-layout://given:latest -o out context",
        C8D,
        "named",
        makes="out",
    ),
    _case(
        "a name for a stage",
        "--build-context extra=docker-image://{base} -o out context",
        CLASSIC,
        "named-stage",
        makes="out",
    ),
    _case("base image", "--build-arg BASE={base} -o out context", ALL, "based", makes="out"),
    _case("base image, pulled", "--pull --build-arg BASE={base} -o out context", TWO, "based", makes="out"),
]

_STEPS = [
    _case("no cache", f"--no-cache {_NO_NET} -o type=cacheonly context", TWO, "run"),
    _case("no cache for one stage", f"--no-cache-filter one {_NO_NET} -o type=cacheonly context", TWO, "two-stages"),
    _case(
        "no cache for two stages",
        f"--no-cache-filter one --no-cache-filter two {_NO_NET} -o type=cacheonly context",
        CLASSIC,
        "two-stages",
    ),
    _case(
        "network of the host",
        "--allow network.host --network host -o out context",
        ("20.10", "classic", "buildkitd"),
        "network",
        makes="out",
    ),
    _case("no network", "--network none -o out context", ("20.10", "classic"), "network", makes="out"),
    _case(
        "host",
        f"--add-host one.example:10.0.0.1 {_NO_NET} -o out context",
        ("20.10", "classic", "buildkitd"),
        "hosts",
        makes="out",
    ),
    _case(
        "hosts",
        f"--add-host a.example=10.0.0.2,b.example:10.0.0.3 --add-host c.example=[::1] {_NO_NET} -o out context",
        CLASSIC,
        "hosts",
        makes="out",
    ),
    _case("shared memory", f"--shm-size 32m {_NO_NET} -o out context", TWO, "shm", makes="out"),
    _case("limits", f"--ulimit nofile=100:200 --ulimit core=0 {_NO_NET} -o out context", TWO, "ulimit", makes="out"),
    _case("group of processes", f"--cgroup-parent drop-in {_NO_NET} -o out context", TWO, "cgroup", makes="out"),
    _case(
        "more than is needed is allowed",
        f"--allow security.insecure {_NO_NET} -o out context",
        BUILDKITD,
        "run",
        makes="out",
    ),
    _case(
        "secret from a file", f"--secret id=token,src=token.txt {_NO_NET} -o out context", ALL, "secret", makes="out"
    ),
    _case(
        "secret from a variable",
        f"--secret id=token,env=TOKEN {_NO_NET} -o out context",
        BUILDKITD,
        "secret",
        environment={"TOKEN": "t"},
        makes="out",
    ),
    _case(
        "secret from the variable of its name",
        f"--secret id=token {_NO_NET} -o out context",
        CLASSIC,
        "secret",
        environment={"token": "t"},
        makes="out",
    ),
    _case(
        "secret with type and source",
        f"--secret type=file,id=token,source=token.txt {_NO_NET} -o out context",
        CLASSIC,
        "secret",
        makes="out",
    ),
    _case(
        "secrets in every form",
        "--secret id=by-file,src=token.txt --secret type=file,id=by-type,source=token.txt --secret id=by-env,env=TOKEN "
        "--secret type=env,id=by-env-type,env=TOKEN --secret type=env,id=by-env-src,src=TOKEN --secret id=token.txt "
        "--secret id=VARIABLE --secret 'id=quoted,\"src=token,2.txt\"' --secret id=empty,src=empty.txt "
        f"--secret id=last,src=empty.txt --secret id=last,env=TOKEN {_NO_NET} -o out context",
        ALL,
        "secrets",
        environment={"TOKEN": "t \u00fc=,", "VARIABLE": "v"},
        makes="out",
    ),
    _case(
        "ssh agent by variable",
        f"--ssh default {_NO_NET} -o out context",
        ("20.10", "classic", "buildkitd"),
        "ssh",
        environment={"SSH_AUTH_SOCK": "{agent}"},
        makes="out",
    ),
    _case("ssh agent by path", f"--ssh default={{agent}} {_NO_NET} -o out context", BUILDKITD, "ssh", makes="out"),
    _case("ssh agent with a name", f"--ssh key={{agent}} {_NO_NET} -o out context", CLASSIC, "ssh-id", makes="out"),
]

_CACHE = [
    _case("again", (f"{_NO_NET} -o out context",) * 2, ALL, "run", makes="out"),
    _case(
        "again, one stage anew",
        (f"--no-cache-filter one {_NO_NET} -o out context",) * 2,
        TWO,
        "two-stages",
        makes="out",
    ),
    _case("again, from a tar", ("-o out -",) * 2, CLASSIC, stdin="tar", makes="out"),
    _case("cache in a folder", "--cache-to type=local,dest=cache -o out context", C8D, makes="cache & out"),
    _case(
        "cache in a folder, all",
        f"--cache-to type=local,dest=cache,mode=max {_NO_NET} -o out context",
        BUILDKITD,
        "run",
        makes="cache & out",
    ),
    _case(
        "cache from a folder",
        (
            f"--cache-to type=local,dest=cache {_NO_NET} context",
            f"--cache-from type=local,src=cache {_NO_NET} -o out context",
        ),
        FULL,
        "run",
        makes="cache & out",
    ),
    _case("cache in a registry", "--cache-to type=registry,ref={registry}/cache:1 -o out context", FULL, makes="out"),
    _case(
        "cache from a registry",
        ("--cache-to type=registry,ref={registry}/cache:2 context", "--cache-from {registry}/cache:2 -o out context"),
        FULL,
        makes="out",
    ),
    _case(
        "cache from an image",
        "--cache-from type=registry,ref={base} -o out context",
        ("20.10", "classic", "buildkitd"),
        makes="out",
    ),
    _case("cache from nowhere", "--cache-from type=local,src=nowhere -o out context", FULL, makes="out"),
    _case("inline cache", "--cache-to type=inline --push -t {registry}/inline:1 context", NEW),
    _case("inline cache by argument", "--build-arg BUILDKIT_INLINE_CACHE=1 -t drop-in/inline:1 context", CLASSIC),
    _case(
        "cache of another service is left out",
        "--cache-to type=gha --cache-from type=gha -o out context",
        C8D,
        makes="out",
    ),
    _wrong(
        "cache that the classic store has not",
        "--cache-to type=local,dest=cache context",
        "cache export",
    ),
    _wrong("cache without a type", "--cache-to dest=cache context", "type required|type is required", C8D),
    _wrong("cache of an unknown type", "--cache-to type=nonsense context", "unknown cache exporter", C8D),
]

_ATTESTATIONS = [
    _case("provenance", "--provenance=true -o type=oci,dest=image.tar context", FULL, makes="image.tar"),
    _case("much provenance", "--provenance mode=max -o type=oci,dest=image.tar context", FULL, makes="image.tar"),
    _case("no provenance", "--provenance=false -o type=oci,dest=image.tar context", FULL, makes="image.tar"),
    _case(
        "provenance as attestation",
        "--attest type=provenance,mode=min -o type=oci,dest=image.tar context",
        BUILDKITD,
        makes="image.tar",
    ),
    _case(
        "attestation switched off",
        "--attest type=provenance,disabled=true -o type=oci,dest=image.tar context",
        C8D,
        makes="image.tar",
    ),
    _case(
        "no attestation by default",
        "-o type=oci,dest=image.tar context",
        C8D,
        environment={"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"},
        makes="image.tar",
    ),
    _case(
        "bill of materials",
        "--sbom generator={scanner} -o type=oci,dest=image.tar context",
        BUILDKITD,
        makes="image.tar",
    ),
    _case(
        "bill of materials as attestation",
        "--attest type=sbom,generator={scanner} -o out context",
        BUILDKITD,
        makes="out",
    ),
    _wrong("attestation on the classic store", "--provenance=true context", "attestations? .*not supported"),
    _wrong(
        "attestation of an unknown type",
        "--attest type=nonsense context",
        "unknown attestation",
        C8D,
    ),
]

_ANSWERS = [
    _case("id file", "--iidfile iid -t drop-in/iid:1 context", ENGINES, makes="iid"),
    _case("id file without a name", "--iidfile iid context", C8D, makes="iid"),
    _case(
        "id file with an archive",
        "--iidfile iid -o type=oci,dest=image.tar context",
        BUILDKITD,
        makes="iid & image.tar",
    ),
    _case("metadata", "--metadata-file meta.json -t drop-in/meta:1 context", ENGINES, makes="meta.json"),
    _case("metadata of files", "--metadata-file meta.json -o out context", ALL, makes="meta.json & out"),
    _case(
        "metadata of an archive",
        "--metadata-file meta.json -t drop-in/m:1 -o type=oci,dest=image.tar context",
        BUILDKITD,
        makes="meta.json",
    ),
    _case(
        "metadata of several platforms",
        "--metadata-file meta.json --platform linux/amd64,linux/arm64 -o out context",
        FULL,
        makes="meta.json",
    ),
    _case(
        "metadata with all provenance",
        "--metadata-file meta.json --build-arg GREETING=x --label a=b -t drop-in/m:2 context",
        NEW[:2],
        environment={"BUILDX_METADATA_PROVENANCE": "max"},
        makes="meta.json",
    ),
    _case(
        "metadata without provenance",
        "--metadata-file meta.json -o out context",
        CLASSIC,
        environment={"BUILDX_METADATA_PROVENANCE": "disabled"},
        makes="meta.json",
    ),
    _case(
        "metadata with warnings",
        "--metadata-file meta.json -o out context",
        CLASSIC,
        "warned",
        environment={"BUILDX_METADATA_WARNINGS": "1"},
        makes="meta.json",
    ),
    _case("quiet", "-q -t drop-in/quiet:1 context", ENGINES),
    _case("quiet with files", "--quiet -o out context", BUILDKITD, makes="out"),
    _case("quiet with an archive on stdout", "-q -o - context"),
    _case("progress quiet", "--progress=quiet -t drop-in/quiet:2 context", TWO[:1]),
    _case("progress none", "--progress=none -o out context", CLASSIC, makes="out"),
    _case("progress plain", f"--progress plain {_NO_NET} -o out context", ("20.10", "c8d"), "run", makes="out"),
    _case("progress raw", "--progress rawjson -o out context", TWO, makes="out"),
    _case(
        "progress from the environment",
        "-o out context",
        CLASSIC,
        environment={"BUILDKIT_PROGRESS": "rawjson"},
        makes="out",
    ),
    _case(
        "quiet from the environment", "-t drop-in/quiet:3 context", CLASSIC, environment={"BUILDKIT_PROGRESS": "quiet"}
    ),
    _case("flags without an effect", "--rm --force-rm --compress -o out context", CLASSIC, makes="out"),
    _case("switched off", "--no-cache=false --pull=false --push=false --load=0 -o out context", CLASSIC, makes="out"),
]

_CALLS = [
    _case("check, clean", "--check context", TWO),
    _case("check with warnings", "--check context", FULL, "warned", exit=1),
    _case("check by call", "--call=check context", CLASSIC, "warned", exit=1),
    _case("check, status ignored", "--call=check,ignorestatus=true context", CLASSIC, "warned"),
    _case("check as JSON", "--call check,format=json context", TWO, "warned", exit=1),
    _case("outline", "--call=outline context", TWO, "documented"),
    _case("outline of a target", "--call=outline --target shipped context", CLASSIC, "documented"),
    _case("outline as JSON", "--call=outline,format=json context", CLASSIC, "documented"),
    _case("targets", "--call=targets context", BUILDKITD, "documented"),
    _case("targets as JSON", "--call=targets,format=json context", CLASSIC, "documented"),
    _case("call build", "--call build -o out context", CLASSIC, makes="out"),
]

_FAILURES = [
    _wrong("target by number", "--target 7 -o out context", 'target stage "7" could not be found'),
    _wrong(
        "layout for the classic store",
        "--build-context extra=oci-layout://given context",
        "oci-layout",
        CLASSIC,
        "named",
        allowed=_NO_STEPS,
    ),
    _wrong(
        "step that fails", f"{_NO_NET} -o out context", r"exit code: 7", ("20.10", "classic", "buildkitd"), "failing"
    ),
    _wrong(
        "mistake in the Dockerfile",
        "-o out context",
        "unknown instruction: COPPY",
        ("20.10", "c8d", "buildkitd"),
        "syntax-error",
    ),
    _wrong("file to copy is missing", "-o out context", "missing.*not found", ("20.10", "classic"), "lacking"),
    _wrong("unknown target", "--target nonsense context", "nonsense.*could not be found", ("20.10", "buildkitd")),
    _wrong("no Dockerfile", "-f nonsense context", "no such file|not found", CLASSIC, allowed=_NO_STEPS),
    _wrong("Dockerfile missing in a tar", "-f nonsense -", "nonsense", CLASSIC, stdin="tar"),
    _wrong(
        "base image that is not there",
        "--build-arg BASE={registry}/nonsense:1 -o out context",
        "nonsense:1",
        TWO,
        "based",
    ),
    _wrong("required secret", f"{_NO_NET} -o out context", "secret.*not found", TWO, "required-secret"),
    _wrong(
        "step that may not be insecure",
        f"--allow security.insecure {_NO_NET} -o out context",
        "security.insecure is not allowed",
        CLASSIC,
        "run",
    ),
    _wrong(
        "unknown exporter",
        "-o type=nonsense context",
        'exporter "nonsense" could not be found',
        CLASSIC,
    ),
    _wrong(
        "oci on the classic store",
        "-o type=oci,dest=image.tar context",
        "oci .*(not supported|needs the containerd image store)",
        allowed=_NO_FILE,
    ),
    _wrong("push to nobody", "--push -t 127.0.0.1:1/nobody:1 context", "failed to push|connection refused", C8D),
    _wrong(
        "frontend that is not there",
        "--build-arg BUILDKIT_SYNTAX=127.0.0.1:1/frontend context",
        "127.0.0.1:1/frontend",
        CLASSIC,
    ),
]

_MISTAKES = [
    _wrong("no context", "", exit=1, complaint="requires (exactly )?1 argument"),
    _wrong("two contexts", "context context", exit=1, complaint="requires (exactly )?1 argument"),
    _wrong("unknown flag", "--nonsense context", exit=125, complaint="unknown flag: --nonsense"),
    _wrong("flag without a value", "context --tag", exit=125, complaint="flag needs an argument: --tag"),
    _wrong("switch with a value", "--pull=maybe context", exit=125, complaint="invalid argument|invalid boolean"),
    _wrong("missing context", "nonsense", 'path "nonsense" not found'),
    _wrong("empty stdin", "-", "no local sources enabled|no Dockerfile|empty", CLASSIC, allowed=_NO_STEPS),
    _wrong("Dockerfile and context on stdin", "-f - -", "stdin|standard input", stdin="FROM scratch\n"),
    _wrong(
        "Dockerfile on stdin and a name",
        "-f other.Dockerfile -",
        "ambiguous Dockerfile source|stdin",
        stdin="FROM scratch\n",
    ),
    _wrong("tag in capitals", "-t Drop/In context", "invalid (tag|reference)|must be lowercase"),
    _wrong("output without a type", "-o dest=out,name=x context", "type is required"),
    _wrong("local without a folder", "-o type=local context", "dest(ination)? .*(required|needs)|dest is required"),
    _wrong("local on stdout", "-o type=local,dest=- context", "dest(ination)?.*(stdout|directory)|not supported"),
    _wrong("stdout twice", "-o - -o type=tar context", "stdout", C8D),
    _wrong("output that is no CSV", """-o 'type=local,"dest=out' context""", "quote|CSV|parse"),
    _wrong("push without a tag", "--push context", "tag is needed", FULL),
    _wrong(
        "id file with files",
        "--iidfile iid -o out context",
        "local and tar exporters are incompatible with image ID file",
    ),
    _wrong("network nobody knows", "--network nonsense context", "network mode .nonsense. (is )?not supported"),
    _wrong("entitlement nobody knows", "--allow nonsense context", "nonsense"),
    _wrong("host without an address", "--add-host nonsense context", "invalid host|bad format|nonsense"),
    _wrong("host with a wrong address", "--add-host a.example:nonsense context", "nonsense"),
    _wrong("size that is none", "--shm-size nonsense context", exit=125, complaint="invalid (argument|size)"),
    _wrong("limit that is none", "--ulimit nonsense context", exit=125, complaint="invalid ulimit|invalid argument"),
    _wrong("platform nobody knows", "--platform a/b/c/d context", "a/b/c/d|cannot be parsed|invalid"),
    _wrong("label without a key", "--label =v context", "empty key|invalid key-value"),
    _wrong(
        "secret with an unknown field", "--secret id=token,nonsense=1 context", "unexpected key 'nonsense'|nonsense"
    ),
    _wrong("secret without an id", "--secret src=token.txt context", "id|missing", context="secret"),
    _wrong("secret without a file", "--secret id=token,src=nonsense context", "nonsense.*no such file", TWO, "secret"),
    _wrong("secret that is no pair", "--secret nonsense context", "invalid field 'nonsense'|must be a key=value"),
    _wrong(
        "ssh without an agent", "--ssh default context", "SSH_AUTH_SOCK|invalid empty ssh agent socket", CLASSIC, "ssh"
    ),
    _wrong("ssh agent that is not there", "--ssh default=nonsense context", "nonsense", CLASSIC, "ssh"),
    _wrong("named context that is not there", "--build-context extra=nonsense context", "nonsense", CLASSIC, "named"),
    _wrong("named context without a value", "--build-context nonsense context", "nonsense|invalid context value"),
    _wrong("named context in capitals", "--build-context Extra=extra context", "Extra|lowercase"),
    _wrong(
        "layout that is not there", "--build-context extra=oci-layout://nonsense context", "nonsense", CLASSIC, "named"
    ),
    _wrong(
        "no cache, and not for one stage",
        "--no-cache --no-cache-filter first context",
        "cannot both be set|cannot be used together|no-cache",
    ),
    _wrong("quiet and plain", "-q --progress plain context", "cannot be used together|quiet"),
    _wrong("progress nobody knows", "--progress nonsense context", "invalid progress mode nonsense"),
    _wrong("call nobody knows", "--call nonsense context", "nonsense"),
    _wrong(
        "annotation that is none",
        "--annotation nonsense -o type=oci,dest=image.tar context",
        "nonsense|annotation",
        C8D,
        allowed=_NO_FILE,
    ),
    _wrong(
        "annotation of nothing",
        "--annotation nonsense:k=v -o type=oci,dest=image.tar context",
        "nonsense",
        C8D,
        allowed=_NO_FILE,
    ),
    _wrong("builder that is not there", "--builder nonsense context", "nonsense"),
]

CASES: tuple[Case, ...] = (
    *_OUTPUTS,
    *_PUSHES,
    *_PLATFORMS,
    *_VALUES,
    *_DOCKERFILES,
    *_CONTEXTS,
    *_STEPS,
    *_CACHE,
    *_ATTESTATIONS,
    *_ANSWERS,
    *_CALLS,
    *_FAILURES,
    *_MISTAKES,
)
