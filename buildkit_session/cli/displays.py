"""Which display shows a build.

Each is imported when it is chosen: the others would make the start of every build slower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from buildkit_session.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildkit_session.cli.display import Display

__all__ = ["MODES", "choose_display", "choose_mode"]

MODES: Final = ("auto", "none", "plain", "quiet", "rawjson", "tty")
"""What ``--progress`` and ``BUILDKIT_PROGRESS`` may be."""


def choose_mode(wanted: str, *, terminal: bool, environ: Mapping[str, str]) -> str:
    """Resolve ``auto``: the preference in ``BUILDKIT_PROGRESS``, else ``tty`` on a terminal and ``plain`` elsewhere.

    Args:
        wanted: one of :data:`MODES`, from the command line.
        terminal: whether standard error is a terminal.
        environ: the environment.

    Returns:
        A mode other than ``auto``.

    Raises:
        InputError: there is no such mode, or ``tty`` was asked for and there is no terminal.
    """
    if wanted != "auto":
        mode = _known(wanted)
        if mode == "tty" and not terminal:
            raise InputError("progress mode tty needs standard error to be a terminal; use auto or plain")
        return mode
    preferred = _known(environ.get("BUILDKIT_PROGRESS") or "auto")
    if preferred not in {"auto", "tty"}:
        return preferred
    # A preference for all tools must not stop this one for want of a terminal. A dumb one cannot move its cursor.
    return "tty" if terminal and environ.get("TERM") != "dumb" else "plain"


def choose_display(
    mode: str,
    *,
    terminal: bool,
    environ: Mapping[str, str],
    debug: bool = False,
    builder: str = "",
    driver: str = "docker",
) -> Display:
    """Make the display for ``mode``; see :func:`choose_mode` for the first arguments and what is raised.

    Args:
        mode: one of :data:`MODES`.
        terminal: whether standard error is a terminal.
        environ: the environment, also for colours and the height of windows.
        debug: whether warnings are explained.
        builder: the name of the builder instance, or empty.
        driver: what drives it.
    """
    resolved = choose_mode(mode, terminal=terminal, environ=environ)
    if resolved == "tty":
        return _tty(environ, builder=builder, driver=driver, debug=debug)
    if resolved == "plain":
        from buildkit_session.cli.plain import PlainDisplay  # noqa: PLC0415

        return PlainDisplay(builder=builder, driver=driver, explain_warnings=debug)
    if resolved == "rawjson":
        from buildkit_session.cli.rawjson import RawJsonDisplay  # noqa: PLC0415

        return RawJsonDisplay()
    from buildkit_session.cli.quiet import NoDisplay, QuietDisplay  # noqa: PLC0415

    return QuietDisplay() if resolved == "quiet" else NoDisplay()


def _tty(environ: Mapping[str, str], *, builder: str, driver: str, debug: bool) -> Display:
    from buildkit_session.cli.palette import read_palette  # noqa: PLC0415
    from buildkit_session.cli.tty import LOG_LINES, TtyDisplay  # noqa: PLC0415

    rows = environ.get("BUILDKIT_TTY_LOG_LINES", "")
    return TtyDisplay(
        builder=builder,
        driver=driver,
        palette=read_palette(environ),
        log_lines=int(rows) if rows.isascii() and rows.isdigit() and len(rows) < 5 else LOG_LINES,
        explain_warnings=debug,
    )


def _known(mode: str) -> str:
    if mode not in MODES:
        raise InputError(f"invalid progress mode {mode}; use {', '.join(MODES[:-1])} or {MODES[-1]}")
    return mode
