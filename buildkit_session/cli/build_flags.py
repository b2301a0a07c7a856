"""The flags of ``buildkit-session build``: those of ``docker buildx build``, and which of them mean nothing.

Source: docker/buildx:commands/build.go (buildCmd), 0.29.1.
"""

from __future__ import annotations

from typing import Final

from buildkit_session.cli.flags import Flag

__all__ = ["BUILDER", "FLAGS", "IGNORED", "WARNED"]

BUILDER: Final = Flag("builder", "Use this builder of docker buildx, or docker context", "NAME")
"""The flag of every command that has to do with a daemon."""

_SHOWN: Final = (
    Flag("add-host", "Add a line to /etc/hosts of RUN steps, such as name=10.0.0.1", "HOST=IP"),
    Flag("allow", "Allow a privilege: network.host, security.insecure or device", "ENTITLEMENT"),
    Flag("annotation", "Add an annotation to the image of an explicit output", "[TYPE:]KEY=VALUE"),
    Flag("attest", "Add a statement about the image, such as type=sbom", "type=TYPE"),
    Flag("build-arg", "Set a build-time variable; without =VALUE it is taken from the environment", "NAME[=VALUE]"),
    Flag(
        "build-context",
        "Add a context: a directory, a git or http URL, docker-image://IMAGE or oci-layout://PATH",
        "NAME=VALUE",
    ),
    BUILDER,
    Flag("cache-from", "Take cache from an image, or from type=local,src=DIRECTORY", "CACHE"),
    Flag("cache-to", "Put the cache to type=registry,ref=IMAGE, type=local,dest=DIRECTORY or type=inline", "CACHE"),
    Flag(
        "call",
        "Ask in place of a build: check, outline, targets, or help (subrequests.describe) for all there are",
        "CALL",
    ),
    Flag("cgroup-parent", "The parent cgroup of RUN steps", "CGROUP"),
    Flag("check", "Check the Dockerfile; short for --call=check"),
    Flag("file", "Name of the Dockerfile, '-' or a URL (default: PATH/Dockerfile)", "PATH", short="f"),
    Flag("iidfile", "Write the image ID to a file", "FILE"),
    Flag("label", "Set metadata for an image", "NAME[=VALUE]"),
    Flag("load", "Load the image into the Engine; short for --output=type=docker"),
    Flag("metadata-file", "Write what the build has made to a file, as JSON", "FILE"),
    Flag("network", "Networking mode of RUN: default, none or host", "MODE"),
    Flag("no-cache", "Do not use cache when building the image"),
    Flag("no-cache-filter", "Do not use cache for these stages", "STAGE"),
    Flag(
        "output",
        "Where the result goes: a directory, '-' for a tar archive on standard output, or type=local, tar, oci, "
        "docker, image, registry or cacheonly with dest=PATH and attributes (default: an image in the Engine)",
        "OUTPUT",
        short="o",
    ),
    Flag("platform", "Target platforms, such as linux/amd64,linux/arm64", "PLATFORM"),
    Flag(
        "progress",
        "Type of progress: auto, plain, tty, rawjson, quiet or none; auto is BUILDKIT_PROGRESS, else tty on a terminal",
        "TYPE",
    ),
    Flag("provenance", "Add a statement about how the image was made; short for --attest=type=provenance", "ATTRS"),
    Flag("pull", "Always attempt to pull all referenced images"),
    Flag("push", "Push the image; short for --output=type=registry"),
    Flag("quiet", "Suppress the progress and print the image ID", short="q"),
    Flag("sbom", "Add a list of what the image holds; short for --attest=type=sbom", "ATTRS"),
    Flag("secret", "Offer a secret to RUN steps: id=ID,src=FILE or id=ID,env=VARIABLE", "SECRET"),
    Flag("shm-size", "Size of /dev/shm of RUN steps, such as 64m", "BYTES"),
    Flag("ssh", "Offer an ssh agent or keys to RUN steps: default, or ID=SOCKET or ID=KEY,KEY", "SSH"),
    Flag("tag", "Name of the image, and its tag", "NAME[:TAG]", short="t"),
    Flag("target", "Target build stage", "STAGE"),
    Flag("ulimit", "A limit of RUN steps, such as nofile=1024:2048", "LIMIT"),
)

IGNORED: Final = (
    *(Flag(name, "", hidden=True) for name in ("compress", "force-rm")),
    Flag("rm", "", hidden=True),
    *(Flag(name, "", "VALUE", hidden=True) for name in ("cpu-period", "cpu-quota", "cpu-shares", "cpuset-cpus")),
    *(Flag(name, "", "VALUE", hidden=True) for name in ("cpuset-mems", "memory-swap")),
    Flag("memory", "", "VALUE", short="m", hidden=True),
    Flag("print", "", "CALL", hidden=True),
)
"""Accepted for the sake of old command lines; ``print`` is the former name of ``call``."""

WARNED: Final = (
    Flag("isolation", "", "VALUE", hidden=True),
    Flag("security-opt", "", "VALUE", hidden=True),
    Flag("squash", "", hidden=True),
)
"""The same, with a warning."""

FLAGS: Final = (*_SHOWN, *IGNORED, *WARNED)
