"""The outputs of one build as a whole: what ``--push``, ``--load``, tags and annotations make of the list.

Source: docker/buildx:build/opt.go (CreateExports, toSolveOpt), commands/build.go (RunBuild).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_args

from buildkit_session import output
from buildkit_session.errors import InputError, UnsupportedError
from buildkit_session.output import DockerOutput, ImageOutput, ListingOutput, LocalOutput, OciOutput, Output, TarOutput
from buildkit_session.request.environment import NO_DEFAULT_LOAD, is_on
from buildkit_session.truth import TRUE
from buildkit_session.wording import a_type

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "EngineOutput",
    "OutputLike",
    "arrange",
    "check_for_engine",
    "default_outputs",
    "for_engine_build",
    "loads_elsewhere",
    "pushes",
    "read_outputs",
    "require_one_stdout",
    "require_tag_to_push",
    "sent",
    "with_attributes",
    "with_load",
    "with_push",
    "with_tags",
]

OutputLike: TypeAlias = "Output | str | os.PathLike[str] | Mapping[str, str]"
EngineOutput: TypeAlias = LocalOutput | ListingOutput | TarOutput | ImageOutput
"""What the Engine's own build endpoint can serve."""

_CLASSES: Final = get_args(Output)
_INDEX_ANNOTATIONS: Final = ("annotation-index.", "annotation-index-descriptor.")


def read_outputs(given: OutputLike | Iterable[OutputLike]) -> tuple[Output, ...]:
    """Take outputs, or one for a sequence of one; empty texts are skipped.

    Raises:
        InputError: one of them is none, or several go to standard output.
    """
    several = (given,) if isinstance(given, str | os.PathLike | Mapping | Output) else given
    if not isinstance(several, Iterable):
        raise InputError(f"outputs must be a list of outputs or texts, not {a_type(given)}")
    chosen = tuple(_read(one) for one in several if one != "")
    require_one_stdout(chosen)
    return chosen


def require_one_stdout(outputs: Iterable[Output]) -> None:
    """Raise InputError if more than one output goes to standard output."""
    if sum(getattr(out, "to_stdout", False) for out in outputs) > 1:
        raise InputError("multiple outputs configured to write to stdout; give all but one of them a dest")


def arrange(
    outputs: Iterable[Output],
    *,
    push: bool = False,
    load: bool = False,
    tags: Sequence[str] = (),
    annotations: Mapping[str, str] | None = None,
) -> tuple[Output, ...]:
    """Apply, in buildx's order, all that concerns the outputs.

    Args:
        outputs: as they were asked for.
        push: ``--push``.
        load: ``--load``.
        tags: names for images.
        annotations: exporter attributes and their values. The default output, which is added later, gets none.

    Raises:
        InputError: an image shall be pushed and has no name.
    """
    chosen = with_push(outputs) if push else tuple(outputs)
    chosen = with_load(chosen) if load else chosen
    chosen = with_attributes(chosen, annotations or {})
    chosen = with_tags(chosen, tags)
    require_tag_to_push(chosen)
    return chosen


def with_push(outputs: Iterable[Output]) -> tuple[Output, ...]:
    """Push every image among the outputs; add one if there is none."""
    chosen = tuple(outputs)
    if not any(isinstance(out, ImageOutput) for out in chosen):
        return (*chosen, output.registry())
    return tuple(replace(out, push=True) if isinstance(out, ImageOutput) else out for out in chosen)


def with_load(outputs: Iterable[Output]) -> tuple[Output, ...]:
    """Add an image that is loaded, unless there is one."""
    chosen = tuple(outputs)
    if any(isinstance(out, DockerOutput) and out.loads for out in chosen):
        return chosen
    return (*chosen, output.docker())


def with_attributes(outputs: Iterable[Output], attrs: Mapping[str, str]) -> tuple[Output, ...]:
    """Add attributes, as annotations are, to every output."""
    if not attrs:
        return tuple(outputs)
    return tuple(_with(out, attrs) for out in outputs)


def with_tags(outputs: Iterable[Output], tags: Sequence[str]) -> tuple[Output, ...]:
    """Give the images among the outputs their names; without tags they keep what they have."""
    if not tags:
        return tuple(outputs)
    return tuple(_named(out, ",".join(tags)) for out in outputs)


def require_tag_to_push(outputs: Iterable[Output]) -> None:
    """Raise InputError if an image shall be pushed and has no name."""
    for out in outputs:
        if isinstance(out, ImageOutput) and pushes(out) and not out.exporter[1].get("name"):
            raise InputError(
                "tag is needed when pushing to registry; give the build a tag, tags= (-t), or the output a name"
            )


def pushes(out: Output) -> bool:
    """Whether the output goes to a registry."""
    return isinstance(out, ImageOutput) and out.exporter[1].get("push") in TRUE


def loads_elsewhere(out: Output, *, docker_driver: bool) -> bool:
    """Whether the image must travel from the daemon to the Engine that loads it."""
    return isinstance(out, DockerOutput) and out.loads and not (docker_driver and out.context is None)


def check_for_engine(outputs: Iterable[Output], *, multi_platform: bool) -> None:
    """Refuse what the builder of an Engine cannot do with images, before it is asked.

    Args:
        outputs: of the build, with their annotations.
        multi_platform: whether its image store has indexes, as that of containerd.

    Raises:
        UnsupportedError: an image is to be pushed by its digest alone, or an annotation is for an index.
    """
    for out in outputs:
        attrs = out.exporter[1]
        if pushes(out) and attrs.get("push-by-digest") in TRUE:
            raise UnsupportedError("push-by-digest is currently not implemented for an Engine; use another builder")
        if multi_platform or not isinstance(out, ImageOutput | DockerOutput):
            continue
        if any(name.startswith(_INDEX_ANNOTATIONS) for name in attrs):
            raise UnsupportedError(
                "index annotations not supported for single platform export; "
                "turn on the containerd image store, or annotate the manifest"
            )


def default_outputs(*, docker_driver: bool, environ: Mapping[str, str]) -> tuple[Output, ...]:
    """What a build makes when nothing is asked for: an Engine keeps the image, others keep the cache alone."""
    if docker_driver and not is_on(environ, NO_DEFAULT_LOAD):
        return (output.image(),)
    return ()


def sent(outputs: Iterable[Output]) -> tuple[Output, ...]:
    """Those that the daemon is told of: all but ``cacheonly``, which only keeps the default output away."""
    return tuple(out for out in outputs if not isinstance(out, output.CacheOnlyOutput))


def for_engine_build(outputs: Iterable[Output]) -> tuple[EngineOutput, ...]:
    """Take what the Engine's own build endpoint can serve; an image to load is one to keep there.

    Raises:
        UnsupportedError: it cannot serve one of them.
    """
    return tuple(_for_engine_build(out) for out in outputs)


def _for_engine_build(out: Output) -> EngineOutput:
    if pushes(out):
        raise UnsupportedError(
            "pushing the image is not supported on this API of the Engine; build it, then push it with docker"
        )
    if isinstance(out, EngineOutput):
        return out
    if isinstance(out, DockerOutput) and out.loads and out.context is None:
        return ImageOutput(attrs=out.attrs)
    kind = "docker with dest or context" if isinstance(out, DockerOutput) else out.exporter[0]
    raise UnsupportedError(f"output type {kind} is not supported on this API of the Engine; use local, tar or image")


def _read(given: object) -> Output:
    if isinstance(given, str | Mapping):
        return output.parse(given)
    if isinstance(given, os.PathLike):
        return output.local(given)
    if not isinstance(given, _CLASSES):
        raise InputError(f"an output must be a text or a value of buildkit_session.output, not {a_type(given)}")
    chosen: Output = given
    return chosen


def _with(out: Output, attrs: Mapping[str, str]) -> Output:
    changed: Any = replace(out, attrs={**out.attrs, **attrs})
    made: Output = changed
    return made


def _named(out: Output, name: str) -> Output:
    if isinstance(out, ImageOutput):
        return replace(out, name=name)
    return _with(out, {"name": name}) if isinstance(out, OciOutput | DockerOutput) else out
