"""Places for the exports of one build: what takes them on this side, by the number that the daemon knows each by."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildkit_session import output

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buildkit_session.build import Target
    from buildkit_session.engine.image_load import ImageLoader
    from buildkit_session.output import Output

__all__ = ["make_targets"]


def make_targets(outputs: Sequence[Output], loaders: Mapping[int, ImageLoader], *, first: int = 0) -> dict[int, Target]:
    """Make what takes the exports, by the number of the output; those that stay in the daemon have nothing.

    Args:
        outputs: that the daemon is told of.
        loaders: for those that another Engine loads, by their number.
        first: the number of the first output.
    """
    return {number: made for number, out in enumerate(outputs, first) if (made := _target(out, loaders.get(number)))}


def _target(out: Output, loader: ImageLoader | None) -> Target | None:
    if isinstance(out, output.ImageOutput | output.CustomOutput | output.CacheOnlyOutput):
        return None
    if isinstance(out, output.OciOutput | output.DockerOutput):
        return _image_target(out, loader)
    # Here, not above: a build that exports nothing does without what writes exports, a tenth of all there is to load.
    from buildkit_session.services import targets  # noqa: PLC0415

    if isinstance(out, output.LocalOutput):
        return targets.DirectoryTarget(out.dest, out.receive_options, mode=out.mode)
    if isinstance(out, output.ListingOutput):
        return targets.ListingTarget(out.receive_options)
    return _file_target(out)


def _image_target(out: output.OciOutput | output.DockerOutput, loader: ImageLoader | None) -> Target | None:
    if not out.tar:
        return None  # the content store takes it
    if isinstance(out, output.DockerOutput) and out.loads:
        if loader is None:
            return None  # it is in the Engine's store then
        from buildkit_session.services import targets  # noqa: PLC0415 - as above

        return targets.FeedTarget(loader.loading, out.limits)
    return _file_target(out)


def _file_target(out: output.TarOutput | output.OciOutput | output.DockerOutput) -> Target:
    from buildkit_session.services import targets  # noqa: PLC0415 - as above

    if isinstance(out.dest, Path):
        return targets.FileTarget(out.dest, out.limits)
    dest: Any = sys.stdout.buffer if out.to_stdout else out.dest
    return targets.StreamTarget(dest, out.limits)
