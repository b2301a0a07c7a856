"""The outputs of a build that a session exporter chooses while it runs: they get what those get that are known before.

That is checks, a number that follows theirs, a target under it, and a place in the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import to_thread

from buildkit_session.errors import InputError, RemoteProtocolError, UnsupportedError
from buildkit_session.export_targets import make_targets
from buildkit_session.output import DockerOutput, OciOutput
from buildkit_session.request.outputs import arrange, loads_elsewhere, pushes, read_outputs, require_one_stdout, sent
from buildkit_session.services.callbacks import called
from buildkit_session.services.exporter import Exporter
from buildkit_session.solve_request import exporter_of, require_support

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from buildkit_session.build import Target
    from buildkit_session.engine.daemon import DaemonInfo
    from buildkit_session.engine.solving import Afterwards
    from buildkit_session.output import Output
    from buildkit_session.request.build_request import BuildRequest
    from buildkit_session.request.session_exporter import SessionExporter
    from buildkit_session.services.exporter import ExportRequest

__all__ = ["ChosenOutputs"]


class ChosenOutputs:
    """The choice of one build.

    Args:
        exporter: the caller's.
        request: the build.
        daemon: who runs it.
        outputs: that are known before; those that are chosen come after them.
        targets: of those, by number; those of the others are added.
        afterwards: what else is left to do when the daemon has done its part.

    Attributes:
        service: serves it.
        outputs: all of them, as far as they are known.
    """

    def __init__(
        self,
        exporter: SessionExporter,
        request: BuildRequest,
        daemon: DaemonInfo,
        *,
        outputs: Sequence[Output],
        targets: dict[int, Target],
        afterwards: Afterwards | None,
    ) -> None:
        self.service = Exporter(self)
        self.outputs = list(outputs)
        self._exporter = exporter
        self._request = request
        self._daemon = daemon
        self._targets = targets
        self._afterwards = afterwards
        self._found = self._finalizing = self._finalized = False

    async def find(self, request: ExportRequest) -> Sequence[tuple[str, Mapping[str, str]]]:
        """Ask the caller, and prepare for what he chooses.

        Raises:
            CallbackError: he has not chosen.
            InputError, UnsupportedError: what he chose cannot be, or not at this time.
        """
        given = await called(self._exporter.find, request, kind="exporter", what="the session exporter's find")
        if given is None:
            raise InputError("the session exporter's find has returned None; return outputs, or an empty list for none")
        chosen = sent(arrange(read_outputs(given), tags=self._request.tags, annotations=self._request.annotations))
        require_one_stdout((*self.outputs, *chosen))
        require_support(self._request, chosen, self._daemon)
        for feature in self._too_late(chosen):
            raise UnsupportedError(f"a session exporter cannot choose {feature}; name it in outputs=", feature=feature)
        await to_thread.run_sync(_check, chosen)
        self._targets |= make_targets(chosen, {}, first=len(self.outputs))
        self.outputs += chosen
        self._found = True
        return [exporter_of(out, self._daemon) for out in chosen]

    async def finalize(self, response: Mapping[str, str]) -> None:
        """Tell the caller that all is exported.

        Raises:
            CallbackError: he has raised something.
        """
        self._finalizing = True
        if self._exporter.finalize is not None:
            what = "the session exporter's finalize"
            await called(self._exporter.finalize, response, kind="exporter", what=what)
        self._finalized = True

    async def afterwards(self, response: Mapping[str, str]) -> Mapping[str, str]:
        """Do what is left when the daemon reports success.

        Raises:
            CallbackError: as :meth:`finalize`, where the daemon knows no such step.
            RemoteProtocolError: the daemon cannot have done what it reports.
        """
        if not self._found:
            raise RemoteProtocolError("the daemon reports success, but it has not let the session exporter choose")
        if not self._finalizing:
            await self.finalize(response)
        if not self._finalized:
            raise RemoteProtocolError("the daemon reports success, but the session exporter has not finalized")
        return response if self._afterwards is None else await self._afterwards(response)

    def _too_late(self, outputs: Iterable[Output]) -> Iterable[str]:
        """Name what has to be arranged before a build begins."""
        engine = self._daemon.is_engine
        for out in outputs:
            if isinstance(out, OciOutput | DockerOutput) and not out.tar:
                yield "a layout (tar=false)"
            if loads_elsewhere(out, docker_driver=engine):
                yield "an image that another Engine loads"
            if pushes(out) and engine and not self._daemon.has_containerd_store:
                yield "an image that an Engine with its classic store pushes"


def _check(outputs: Iterable[Output]) -> None:
    for out in outputs:
        out.check()
