"""``buildkit-session build``: the meaning of its flags.

That is, for every flag, the one it has for ``docker buildx build``. This module is imported for ``--help`` as well, so
it imports nothing that is slow; the build itself is in :mod:`buildkit_session.cli.building`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from buildkit_session.cli.build_flags import FLAGS, WARNED
from buildkit_session.cli.console import Console
from buildkit_session.cli.displays import MODES
from buildkit_session.cli.failure import BAD_USAGE, FAILURE, explain, report, usage_hint
from buildkit_session.errors import InputError, SessionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from buildkit_session.cli.flags import CommandLine
    from buildkit_session.output import Output
    from buildkit_session.request.keywords import RequestKeywords

__all__ = ["FLAGS", "USAGE", "BuildOptions", "read_options", "run"]

USAGE = "build [OPTIONS] PATH | URL | -"

_SOURCE_DATE_EPOCH: Final = "SOURCE_DATE_EPOCH"


class BuildOptions(NamedTuple):
    """What the command line asks for.

    Attributes:
        context: a directory, a URL or ``-``.
        address: of the daemon, or ``None`` to look for it.
        builder: the name of a builder, or ``None``.
        file: the Dockerfile, if it is not the usual one.
        keywords: what is built, as for :meth:`Client.build`.
        outputs: those of ``keywords``.
        call: the question to ask in place of a build, or empty.
        iidfile: where the image's id goes.
        metadata_file: where everything about the result goes.
        progress: one of the modes of :mod:`~buildkit_session.cli.displays`.
        prints_id: whether the image id goes to standard output.
        fills_stdout: whether an archive or a listing goes to standard output, where an id would damage it.
        debug: whether errors show their traceback.
    """

    context: str
    address: str | None
    builder: str | None
    file: str | None
    keywords: RequestKeywords
    outputs: Sequence[Output]
    call: str
    iidfile: Path | None
    metadata_file: Path | None
    progress: str
    prints_id: bool
    fills_stdout: bool
    debug: bool

    @property
    def asks(self) -> bool:
        """Whether a question is asked in place of a build."""
        return self.call.partition(",")[0] not in {"", "build"}


def run(line: CommandLine) -> int:
    """Run the command and return its exit code."""
    debug = line.is_set("debug")
    for flag in WARNED:
        if line.all(flag.name):
            Console.messages().write(f"WARNING: {flag.name} flag is ignored\n")
    try:
        _check_values(line)
    except InputError as error:
        Console.messages().write(
            f"{error}{usage_hint(f'Usage:  buildkit-session {USAGE}', 'buildkit-session build')}\n"
        )
        return BAD_USAGE
    try:
        options = read_options(line, os.environ)
        _require_place(options.metadata_file, options)
        _remove_old_id(options)
        _require_place(options.iidfile, options)
    except SessionError as error:
        report(explain(error, debug=debug))
        return FAILURE
    from buildkit_session.cli import building  # noqa: PLC0415 - it loads the client, which help and mistakes do not need

    return building.run(options)


def _check_values(line: CommandLine) -> None:
    """Look at the values that docker takes for a part of the flag: one that is wrong is a typing error.

    Raises:
        InputError: one of them is.
    """
    if size := line.last("shm-size"):
        from buildkit_session.request.shm_size import read_shm_size  # noqa: PLC0415 - few builds have one

        read_shm_size(size)
    if limits := line.all("ulimit"):
        from buildkit_session.request.ulimit import read_ulimits  # noqa: PLC0415 - as above

        read_ulimits(limits)


def read_options(line: CommandLine, environ: Mapping[str, str]) -> BuildOptions:
    """Give the command line its meaning.

    Args:
        line: the command line, with one operand.
        environ: the environment, for build arguments without a value and the settings docker takes from it.

    Raises:
        InputError: a value is not one of those allowed, or two flags contradict each other.
    """
    from buildkit_session.local_output import ListingOutput  # noqa: PLC0415 - --help does not need all this
    from buildkit_session.request.build_request import BuildRequest  # noqa: PLC0415
    from buildkit_session.request.outputs import read_outputs  # noqa: PLC0415

    prints_id, progress = _read_progress(line)
    outputs = read_outputs(line.all("output"))
    keywords = _read_keywords(line, environ, outputs)
    BuildRequest.of(**keywords)  # mistakes come to light before anything is touched
    return BuildOptions(
        context=line.operands[0],
        address=line.last("host"),
        builder=line.last("builder"),
        file=line.last("file") or None,
        keywords=keywords,
        outputs=outputs,
        call="check" if line.is_set("check") else line.last("call") or line.last("print") or "",
        iidfile=_path(line.last("iidfile")),
        metadata_file=_path(line.last("metadata-file")),
        progress=progress,
        prints_id=prints_id,
        fills_stdout=any(getattr(out, "to_stdout", False) or isinstance(out, ListingOutput) for out in outputs),
        debug=line.is_set("debug"),
    )


def _read_keywords(line: CommandLine, environ: Mapping[str, str], outputs: Sequence[Output]) -> RequestKeywords:
    platform = environ.get("DOCKER_DEFAULT_PLATFORM", "")
    return {
        "tags": line.all("tag"),
        "target": line.last("target") or None,
        "build_args": _read_build_args(line.all("build-arg"), environ),
        "build_contexts": line.all("build-context"),
        "labels": dict(_key_value(text) for text in line.all("label")),
        "annotations": line.all("annotation"),
        "attests": line.all("attest"),
        "sbom": line.last("sbom"),
        "provenance": line.last("provenance"),
        "add_hosts": list(_read_hosts(line.all("add-host"))),
        "allow": line.all("allow"),
        "cache_from": line.all("cache-from"),
        "cache_to": line.all("cache-to"),
        "cgroup_parent": line.last("cgroup-parent"),
        "network": line.last("network"),
        "no_cache": line.is_set("no-cache"),
        "no_cache_filter": [stage for text in line.all("no-cache-filter") for stage in text.split(",")],
        "platforms": line.all("platform") or ([platform] if platform else []),
        "pull": line.is_set("pull"),
        "push": line.is_set("push"),
        "load": line.is_set("load"),
        "shm_size": line.last("shm-size"),
        "source_policy": environ.get("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY") or None,
        "ulimits": line.all("ulimit"),
        "outputs": outputs,
        "secrets": line.all("secret"),
        "ssh": line.all("ssh"),
    }


def _read_progress(line: CommandLine) -> tuple[bool, str]:
    """Return whether the image id is printed, and the mode of the display.

    The id is printed for the flags alone: with ``BUILDKIT_PROGRESS=quiet`` buildx prints nothing.
    """
    given = line.last("progress") or "auto"
    if given not in MODES:
        raise InputError(f"invalid progress mode {given}; use {', '.join(MODES[:-1])} or {MODES[-1]}")
    if not line.is_set("quiet"):
        return given == "quiet", given
    if given not in {"auto", "quiet", "none"}:
        raise InputError(f"progress={given} and quiet cannot be used together")
    return True, "none" if given == "none" else "quiet"


def _read_build_args(given: Sequence[str], environ: Mapping[str, str]) -> dict[str, str | None]:
    # One date makes every layer reproducible, so docker passes this variable on without being asked.
    names = [_SOURCE_DATE_EPOCH, *given]
    resolved = (text if "=" in text else f"{text}={environ[text]}" for text in names if "=" in text or text in environ)
    return dict(_key_value(text) for text in resolved)


def _key_value(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    if not key:
        raise InputError(f'invalid key-value pair "{text}": empty key')
    return key, value


def _read_hosts(given: Sequence[str]) -> Iterator[str]:
    if not given:
        return
    from buildkit_session.request.extra_host import split_flag  # noqa: PLC0415 - few builds have any

    for text in given:
        yield from split_flag(text)


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _require_place(file: Path | None, options: BuildOptions) -> None:
    """Refuse a file for the result that cannot be written, unless the build itself may make its folder."""
    if file is None:
        return
    from buildkit_session.cli.atomic_file import require_place  # noqa: PLC0415 - as above
    from buildkit_session.local_output import LocalOutput  # noqa: PLC0415

    made = [out.dest.resolve() for out in options.outputs if isinstance(out, LocalOutput)]
    if not any(file.resolve().is_relative_to(folder) for folder in made):
        require_place(file)


def _remove_old_id(options: BuildOptions) -> None:
    """Remove what an earlier build wrote, so that a failed build leaves no id behind."""
    if options.iidfile is None:
        return
    if any(out.exporter[0] in {"local", "tar"} for out in options.outputs):
        raise InputError("local and tar exporters are incompatible with image ID file")
    try:
        options.iidfile.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"removing image ID file: {options.iidfile}: {error.strerror}") from error
