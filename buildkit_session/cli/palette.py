"""The colours of the terminal display, and how a person chooses them.

``NO_COLOR`` turns them off. ``BUILDKIT_COLORS`` changes some: ``run=cyan:error=light-red:cancel=128,128,128``.

Source: moby/buildkit:util/progress/progressui/colors.go, init.go; no-color.org.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FAINT", "RESET", "Palette", "read_palette"]

log = logging.getLogger("buildkit_session.cli")

RESET: Final = "\x1b[0m"
FAINT: Final = "\x1b[2m"

_NAMES: Final = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_COLOURS: Final = {
    "default": "\x1b[39m",
    **{name: f"\x1b[{30 + number}m" for number, name in enumerate(_NAMES)},
    **{f"light-{name}": f"\x1b[{90 + number}m" for number, name in enumerate(_NAMES)},
}


@dataclass(frozen=True, slots=True)
class Palette:
    """What is written before a line to colour it; empty where it keeps the terminal's colour."""

    run: str = _COLOURS["blue"]
    error: str = _COLOURS["red"]
    cancel: str = _COLOURS["yellow"]
    warning: str = _COLOURS["yellow"]


_COLOURLESS: Final = Palette(run="", error="", cancel="", warning="")
_KEYS: Final = frozenset({"run", "error", "cancel", "warning"})


def read_palette(environ: Mapping[str, str]) -> Palette:
    """Choose the colours. What cannot be understood is logged and ignored: a taste must not stop a build."""
    if environ.get("NO_COLOR"):
        return _COLOURLESS
    palette = Palette()
    for entry in filter(None, environ.get("BUILDKIT_COLORS", "").split(":")):
        key, _, value = entry.partition("=")
        colour = _COLOURS.get(value.lower()) or _from_rgb(value)
        if key.lower() in _KEYS and colour:
            palette = replace(palette, **{key.lower(): colour})
        else:
            log.warning("BUILDKIT_COLORS: %r is ignored; write run|error|cancel|warning=NAME or =R,G,B", entry)
    return palette


def _from_rgb(text: str) -> str:
    """Give the nearest of the 6 x 6 x 6 colours that nearly every terminal has, or nothing."""
    try:
        red, green, blue = map(int, text.split(","))
    except ValueError:
        return ""
    if not all(0 <= part <= 255 for part in (red, green, blue)):
        return ""
    return f"\x1b[38;5;{16 + 36 * (red // 43) + 6 * (green // 43) + blue // 43}m"
