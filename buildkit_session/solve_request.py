"""A build in the words of BuildKit's Control API, and what a daemon cannot be asked for.

Source: docker/buildx:build/opt.go (toSolveOpt), moby/buildkit:client/solve.go.
"""

from __future__ import annotations

import secrets
import string
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import UnsupportedError
from buildkit_session.messages.moby.buildkit import v1
from buildkit_session.output import DockerOutput, ImageOutput, OciOutput
from buildkit_session.request.attributes import entitlements, frontend_attributes
from buildkit_session.request.outputs import check_for_engine, loads_elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from buildkit_session.engine.daemon import DaemonInfo
    from buildkit_session.inputs import Inputs
    from buildkit_session.output import Output
    from buildkit_session.request.build_request import BuildRequest
    from buildkit_session.request.cache import CacheEntry

__all__ = ["exporter_of", "make_ref", "make_solve_request", "require_support"]

_ALPHABET: Final = string.digits + string.ascii_lowercase
_C8D: Final = "the containerd image store"
_HOW: Final = "switch it on in the Engine (features: containerd-snapshotter), or use a buildkitd"


def make_ref() -> str:
    """Choose the name of a build, under which the daemon's history keeps it."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(25))


def require_support(request: BuildRequest, outputs: Sequence[Output], daemon: DaemonInfo) -> None:
    """Refuse what an Engine with its own image store cannot do, before anything is sent.

    Raises:
        UnsupportedError: names what is asked for, what that needs, and what there is.
    """
    if not daemon.is_engine:
        return
    check_for_engine(outputs, multi_platform=daemon.has_containerd_store)
    if daemon.has_containerd_store:
        return
    for feature in _beyond_graph_store(request, outputs):
        found = f"{daemon.engine.server if daemon.engine else 'an Engine'} with its classic image store"
        raise UnsupportedError(
            f"{feature} is not supported by {found} at {daemon.address}; it needs {_C8D}: {_HOW}",
            feature=feature,
            needs=_C8D,
            found=found,
        )


def make_solve_request(
    request: BuildRequest,
    inputs: Inputs,
    outputs: Sequence[Output],
    *,
    ref: str,
    session: str,
    daemon: DaemonInfo,
    environ: Mapping[str, str],
    cache_from: Iterable[CacheEntry],
    proxies: Mapping[str, str],
    attrs: Mapping[str, str],
) -> v1.SolveRequest:
    """Write the request.

    Args:
        request: the build.
        inputs: of the build.
        outputs: what the daemon is to export, in the order of the session's targets.
        ref: the name of the build.
        session: the id of the session that serves it.
        daemon: who is asked.
        environ: the environment.
        cache_from: the places to take cache from, digests filled in.
        proxies: build arguments for proxies.
        attrs: further attributes of the frontend.
    """
    imported = _complete(cache_from, environ)
    frontend, told = frontend_attributes(
        request,
        dockerfile_name=inputs.dockerfile,
        docker_driver=daemon.is_engine,
        environ=environ,
        attestations_supported=not daemon.is_engine or daemon.has_containerd_store,
        cache_imports=imported,
        context_attrs=inputs.attrs,
        host_gateway=next((worker.host_gateway for worker in daemon.workers if worker.host_gateway), None),
        proxies=proxies,
    )
    exporters = [v1.Exporter(*exporter_of(out, daemon)) for out in outputs]
    first = exporters[0] if exporters else v1.Exporter()
    return v1.SolveRequest(
        ref=ref,
        # Daemons before BuildKit 0.13 read these two.
        exporter_deprecated=first.type,
        exporter_attrs_deprecated=first.attrs,
        exporters=exporters,
        session=session,
        frontend=frontend,
        frontend_attrs={**told, **attrs},
        cache=v1.CacheOptions(
            exports=[_cache(entry) for entry in _complete(request.cache_to, environ)],
            imports=[_cache(entry) for entry in imported],
        ),
        entitlements=entitlements(request),
        source_policy=request.source_policy,
        enable_session_exporter=request.session_exporter is not None,
        source_policy_session=session if request.policy_verifier is not None else "",
    )


def _complete(entries: Iterable[CacheEntry], environ: Mapping[str, str]) -> Iterable[CacheEntry]:
    if not (given := tuple(entries)):
        return ()
    from buildkit_session.request.cache import complete  # noqa: PLC0415 - few builds name a cache

    return complete(given, environ)


def _cache(entry: CacheEntry) -> v1.CacheOptionsEntry:
    return v1.CacheOptionsEntry(entry.type, dict(entry.attrs))


def exporter_of(out: Output, daemon: DaemonInfo) -> tuple[str, dict[str, str]]:
    """The type and the attributes of an output, as this daemon knows them."""
    kind, attrs = out.exporter
    # Under this name an Engine knows its own store, whichever that is.
    if daemon.is_engine and (isinstance(out, ImageOutput) or _stays(out)):
        kind = "moby"
    return kind, attrs


def _stays(out: Output) -> bool:
    """Whether an Engine loads the image into its own store."""
    return isinstance(out, DockerOutput) and out.loads and not loads_elsewhere(out, docker_driver=True)


def _beyond_graph_store(request: BuildRequest, outputs: Iterable[Output]) -> Iterable[str]:
    """Name what is asked for in vain, in buildx's words."""
    if len(request.platforms) > 1:
        yield "Multi-platform build"
    for out in outputs:
        if isinstance(out, OciOutput) or (isinstance(out, DockerOutput) and not _stays(out)):
            yield f"{out.exporter[0].upper() if isinstance(out, OciOutput) else 'Docker'} exporter"
    if any(entry.type != "inline" for entry in request.cache_to):
        yield "Cache export"
    if any(attrs is not None for attrs in request.attests.values()):
        yield "Attestation"
    if _has_layouts(request):
        yield "A build context of type oci-layout"


def _has_layouts(request: BuildRequest) -> bool:
    if not request.build_contexts:
        return False
    from buildkit_session.request.named_context import OciLayoutContext  # noqa: PLC0415 - few builds have any

    return any(isinstance(context, OciLayoutContext) for context in request.build_contexts.values())
