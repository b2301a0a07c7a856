"""``buildkit-session history rm``: let the daemon forget builds.

Source: docker/buildx:commands/history/rm.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildkit_session.cli.flags import Flag
from buildkit_session.errors import InputError

if TYPE_CHECKING:
    from buildkit_session import Client
    from buildkit_session.cli.flags import CommandLine

__all__ = ["FLAGS", "OPERANDS", "USAGE", "run"]

USAGE = "history rm [OPTIONS] [REF...]"
OPERANDS = (0, None)
FLAGS = (Flag("all", "Remove all build records"),)


def run(line: CommandLine) -> int:
    """Run the command and return its exit code."""
    from buildkit_session.cli import asking  # noqa: PLC0415 - it loads the client, which help does not need

    if not line.operands and not line.is_set("all"):
        return asking.refuse(line, InputError("rm requires at least one argument"))
    if line.operands and line.is_set("all"):
        return asking.refuse(line, InputError("rm requires either --all or at least one argument"))

    async def question(client: Client) -> None:
        refs = [ref.rpartition("/")[2] for ref in line.operands]
        if line.is_set("all"):
            refs = [record.ref for record in await client.history() if record.completed is not None]
        await client.remove_history(*refs)

    return asking.ask(line, question)
