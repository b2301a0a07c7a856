"""A build in the words of the Engine's own endpoint, and what that cannot be asked for.

Source: moby/moby:api/server/router/build/build_routes.go, builder/builder-next/builder.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from buildkit_session.engine.api_version import ApiVersion
from buildkit_session.engine.build_params import CLIENT_SESSION, BuildParams, Ulimit
from buildkit_session.errors import UnsupportedError
from buildkit_session.output import ImageOutput
from buildkit_session.request.outputs import for_engine_build

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from buildkit_session.engine.info import EngineInfo
    from buildkit_session.inputs import Inputs
    from buildkit_session.output import Output
    from buildkit_session.request.build_request import BuildRequest

__all__ = ["make_build_params"]

# BuildKit in older Engines leaves them out without a word.
_RUN_SETTINGS_SINCE: Final = ApiVersion(1, 42)


def make_build_params(
    request: BuildRequest,
    inputs: Inputs,
    outputs: Sequence[Output],
    *,
    build_id: str,
    session: str,
    engine: EngineInfo | None,
) -> BuildParams:
    """Write the parameters of ``POST /build``.

    Args:
        request: the build.
        inputs: of the build.
        outputs: what the Engine is to make.
        build_id: the handle to cancel it with.
        session: the id of the session that serves it.
        engine: who is asked.

    Raises:
        UnsupportedError: this endpoint cannot do what is asked for; BuildKit's own API could, or a newer Engine.
    """
    for feature in _beyond(request, inputs, outputs):
        raise UnsupportedError(
            f"{feature} needs BuildKit's own API, and this build goes by the Engine's POST /build; if that was not "
            "asked for (way, --way), 'buildkit-session doctor' says why the other cannot be used",
            feature=feature,
            needs="BuildKit's own API",
            found="POST /build",
        )
    if engine is not None and engine.newest_api < _RUN_SETTINGS_SINCE and (request.shm_size or request.ulimits):
        feature = "a ulimit" if request.ulimits else "a size of /dev/shm"
        raise UnsupportedError(feature=feature, needs="BuildKit 0.10 (Docker 23.0)", found=engine.server)
    return BuildParams(
        build_id=build_id,
        session=session,
        remote=inputs.attrs.get("context", CLIENT_SESSION),
        dockerfile=inputs.dockerfile,
        tags=request.tags,
        target=request.target,
        build_args=request.build_args,
        labels=request.labels,
        no_cache=request.no_cache,
        pull=request.pull,
        network=request.network,
        platform=request.platforms[0] if request.platforms else "",
        outputs=[_exporter(out) for out in for_engine_build(outputs)],
        extra_hosts=[f"{host}:{address}" for entry in request.add_hosts for host, address in entry.resolved(None)],
        shm_size=request.shm_size,
        ulimits=[Ulimit(limit.name, limit.soft, limit.hard) for limit in request.ulimits],
        cache_from=[entry.attrs["ref"] for entry in request.cache_from],
    )


def _exporter(out: Output) -> tuple[str, dict[str, str]]:
    kind, attrs = out.exporter
    return ("moby", attrs) if isinstance(out, ImageOutput) else (kind, attrs)


def _beyond(request: BuildRequest, inputs: Inputs, outputs: Sequence[Output]) -> Iterable[str]:
    asked = {
        "a session exporter": request.session_exporter,
        "several outputs": len(outputs) > 1,
        "no output at all": not outputs,
        "a build for several platforms": len(request.platforms) > 1,
        "a named build context": request.build_contexts,
        "an attestation": any(request.attests.values()),
        "a privilege": request.allow,
        "cache export": any(entry.type != "inline" for entry in request.cache_to),
        "cache import other than from a registry": any(entry.type != "registry" for entry in request.cache_from),
        "a cgroup parent": request.cgroup_parent,
        "a source policy": request.source_policy or request.policy_verifier,
        "no_cache_filter": request.no_cache_filter,
        "a Dockerfile apart from its context": "dockerfilekey" in inputs.attrs,
        "an ssh agent": request.ssh,
    }
    return (feature for feature, is_asked in asked.items() if is_asked)
