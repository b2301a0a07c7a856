"""``buildkit-session build``: its flags, their meaning, and the order of what happens.

The meaning of every flag is that of ``docker buildx build``. This module is imported for ``--help`` as well, so it
imports nothing that is slow; the build itself is in :mod:`buildkit_session.cli.building`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit_session import output
from buildkit_session.cli.failure import FAILURE, explain, report
from buildkit_session.cli.flags import Flag
from buildkit_session.errors import InputError, SessionError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buildkit_session.cli.flags import CommandLine

__all__ = ["FLAGS", "FLAGS_LATER", "USAGE", "BuildOptions", "read_options", "run"]

USAGE = "build [OPTIONS] PATH"
FLAGS = (
    Flag("build-arg", "Set a build-time variable; without =VALUE it is taken from the environment", "NAME[=VALUE]"),
    Flag("file", "Name of the Dockerfile (default: PATH/Dockerfile)", "PATH", short="f"),
    Flag("iidfile", "Write the image ID to a file", "FILE"),
    Flag("label", "Set metadata for an image", "NAME[=VALUE]"),
    Flag("network", "Networking mode of RUN: default, none or host", "MODE"),
    Flag("no-cache", "Do not use cache when building the image"),
    Flag(
        "output",
        "Where the result goes: a directory, '-' for a tar archive on standard output, or type=local|tar|image with "
        "dest=PATH and attributes (default: an image in the Engine)",
        "OUTPUT",
        short="o",
    ),
    Flag("platform", "Target platform, such as linux/arm64", "PLATFORM"),
    Flag(
        "progress",
        "Type of progress: auto, plain, quiet or none; auto is BUILDKIT_PROGRESS or plain",
        "TYPE",
    ),
    Flag("pull", "Always attempt to pull all referenced images"),
    Flag("quiet", "Suppress the progress and print the image ID", short="q"),
    Flag("tag", "Name of the image, and its tag", "NAME[:TAG]", short="t"),
    Flag("target", "Target build stage", "STAGE"),
)
# Flags of ``docker buildx build`` that have no meaning here yet, and so are no typing errors.
FLAGS_LATER = frozenset(
    {
        *("add-host", "allow", "annotation", "attest", "builder", "build-context", "cache-from", "cache-to", "call"),
        *("cgroup-parent", "check", "load", "metadata-file", "no-cache-filter", "provenance", "push", "sbom", "secret"),
        *("shm-size", "ssh", "ulimit"),
    }
)
_PROGRESS = frozenset({"plain", "quiet", "none"})
_PROGRESS_LATER = frozenset({"tty", "rawjson"})
_NETWORKS = frozenset({"default", "none", "host"})
_SOURCE_DATE_EPOCH = "SOURCE_DATE_EPOCH"


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What the command line asks for.

    Attributes:
        context: the directory to build.
        address: of the Engine, or ``None`` to look for it.
        progress: ``plain``, ``quiet`` or ``none``.
        prints_id: whether the image id goes to standard output.
        debug: whether errors show their traceback.
    """

    context: str
    address: str | None
    file: str | None
    tags: Sequence[str]
    target: str | None
    build_args: Mapping[str, str]
    labels: Mapping[str, str]
    no_cache: bool
    pull: bool
    network: str | None
    platforms: Sequence[str]
    outputs: Sequence[output.Output]
    iidfile: Path | None
    progress: str
    prints_id: bool
    debug: bool

    @property
    def fills_stdout(self) -> bool:
        """Whether an archive or a listing goes to standard output, where an id would damage it."""
        return any(
            isinstance(out, output.ListingOutput) or (isinstance(out, output.TarOutput) and out.dest is None)
            for out in self.outputs
        )


def run(line: CommandLine) -> int:
    """Run the command and return its exit code."""
    debug = line.is_set("debug")
    try:
        options = read_options(line, os.environ)
        _remove_old_id(options)
    except SessionError as error:
        report(explain(error, debug=debug))
        return FAILURE
    from buildkit_session.cli import building  # noqa: PLC0415 - it loads the client, which help and mistakes do not need

    return building.run(options)


def read_options(line: CommandLine, environ: Mapping[str, str]) -> BuildOptions:
    """Give the command line its meaning.

    Args:
        line: the command line, with one operand.
        environ: the environment, for build arguments without a value and the settings docker takes from it.

    Raises:
        InputError: a value is not one of those allowed, or two flags contradict each other.
        UnsupportedError: docker could do it, this version cannot.
    """
    prints_id, progress = _read_progress(line, environ)
    iidfile = line.last("iidfile")
    return BuildOptions(
        context=_not_stdin(line.operands[0], "the build context"),
        address=line.last("host"),
        file=_not_stdin(file, "the Dockerfile") if (file := line.last("file")) else None,
        tags=line.all("tag"),
        target=line.last("target") or None,
        build_args=_read_build_args(line.all("build-arg"), environ),
        labels=dict(_key_value(text) for text in line.all("label")),
        no_cache=line.is_set("no-cache"),
        pull=line.is_set("pull"),
        network=_read_network(line.last("network")),
        platforms=_read_platforms(line.all("platform"), environ),
        outputs=[output.parse(text) for text in line.all("output")],
        iidfile=Path(iidfile) if iidfile else None,
        progress=progress,
        prints_id=prints_id,
        debug=line.is_set("debug"),
    )


def _read_progress(line: CommandLine, environ: Mapping[str, str]) -> tuple[bool, str]:
    """Return whether the image id is printed, and the kind of progress.

    The id is printed for the flags alone: with ``BUILDKIT_PROGRESS=quiet`` buildx prints nothing.
    """
    given = line.last("progress") or "auto"
    if line.is_set("quiet"):
        if given not in {"auto", "quiet", "none"}:
            raise InputError(f"progress={given} and quiet cannot be used together")
        return True, "none" if given == "none" else "quiet"
    if given != "auto":
        return given == "quiet", _known_progress(given)
    wanted = environ.get("BUILDKIT_PROGRESS") or "auto"
    # A preference for all tools must not stop this one for want of a terminal display.
    return False, "plain" if wanted in {"auto", "tty"} else _known_progress(wanted)


def _known_progress(mode: str) -> str:
    if mode in _PROGRESS_LATER:
        raise UnsupportedError(f"progress mode {mode} is not supported yet; use auto, plain, quiet or none")
    if mode not in _PROGRESS:
        raise InputError(f"invalid progress mode {mode}; use auto, plain, quiet or none")
    return mode


def _not_stdin(path: str, what: str) -> str:
    if path == "-":
        raise UnsupportedError(f"reading {what} from standard input is not supported yet; name a path")
    return path


def _read_build_args(given: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    # One date makes every layer reproducible, so docker passes this variable on without being asked.
    names = [_SOURCE_DATE_EPOCH, *given]
    resolved = (text if "=" in text else f"{text}={environ[text]}" for text in names if "=" in text or text in environ)
    return dict(_key_value(text) for text in resolved)


def _key_value(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    if not key:
        raise InputError(f'invalid key-value pair "{text}": empty key')
    return key, value


def _read_network(mode: str | None) -> str | None:
    if mode is not None and mode not in _NETWORKS:
        raise InputError(f'network mode "{mode}" not supported by buildkit; use default, none or host')
    return mode


def _read_platforms(given: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    texts = given or [environ.get("DOCKER_DEFAULT_PLATFORM", "")]
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]


def _remove_old_id(options: BuildOptions) -> None:
    """Remove what an earlier build wrote, so that a failed build leaves no id behind."""
    if options.iidfile is None:
        return
    if any(not isinstance(out, output.ImageOutput) for out in options.outputs):
        raise InputError("local and tar exporters are incompatible with image ID file")
    try:
        options.iidfile.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"removing image ID file: {options.iidfile}: {error.strerror}") from error
