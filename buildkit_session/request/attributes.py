"""A request in the words of the Dockerfile frontend: its name, its attributes, the privileges of the build.

Everything here is pure: what depends on the session, the daemon or the environment is an argument.

Source: docker/buildx:build/opt.go (toSolveOpt, loadInputs), 0.29.1; moby/buildkit:client/solve.go (parseCacheOptions).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from buildkit_session.request.attestation import for_frontend
from buildkit_session.request.entitlement import NETWORK_HOST
from buildkit_session.request.environment import SOURCE_DATE_EPOCH
from buildkit_session.truth import TRUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from buildkit_session.request.build_request import BuildRequest
    from buildkit_session.request.cache import CacheEntry

__all__ = ["entitlements", "frontend_attributes", "proxy_build_args"]

_BUILT_IN: Final = "dockerfile.v0"
_GATEWAY: Final = "gateway.v0"
_SYNTAX: Final = "BUILDKIT_SYNTAX"
_MULTI_PLATFORM: Final = "BUILDKIT_MULTI_PLATFORM"
_CONTEXTS: Final = "moby.buildkit.frontend.contexts+forward"
_GIT_QUERY: Final = "moby.buildkit.frontend.gitquerystring"
# Fields of a proxy in config.json, and the build arguments that they become. allProxy is none of them.
_PROXIES: Final = {
    "httpProxy": "HTTP_PROXY",
    "httpsProxy": "HTTPS_PROXY",
    "noProxy": "NO_PROXY",
    "ftpProxy": "FTP_PROXY",
}


def frontend_attributes(
    request: BuildRequest,
    *,
    dockerfile_name: str,
    docker_driver: bool,
    environ: Mapping[str, str],
    attestations_supported: bool = False,
    cache_imports: Iterable[CacheEntry] | None = None,
    context_attrs: Mapping[str, str] | None = None,
    host_gateway: str | None = None,
    proxies: Mapping[str, str] | None = None,
) -> tuple[str, dict[str, str]]:
    """Say what a build asks for as buildx does.

    Args:
        request: the build.
        dockerfile_name: of the Dockerfile, in the mount or inside of the remote context.
        docker_driver: whether the daemon is an Engine.
        environ: may hold ``SOURCE_DATE_EPOCH`` and ``BUILDX_NO_DEFAULT_ATTESTATIONS``.
        attestations_supported: by the daemon and its image store.
        cache_imports: what the daemon is asked to take cache from, where that is not the request's own list: local
            caches that are there, with their digests, and what the environment has filled in.
        context_attrs: what the inputs of the build add or replace: ``context``, ``dockerfilekey``, ``context:NAME`` of
            a layout.
        host_gateway: the address that ``host-gateway`` stands for.
        proxies: as :func:`proxy_build_args` gives them.

    Returns:
        The name of the frontend, and its attributes. A question (``request.call``) is not among them: see
        :meth:`Call.attributes <buildkit_session.engine.subrequest.Call.attributes>`.

    Raises:
        UnsupportedError: attestations are asked for, and not supported.
        InputError: ``host-gateway`` is used, and not known; a variable is neither true nor false.
    """
    inputs = context_attrs or {}
    build_args = _build_args(request, environ, proxies or {})
    attests = for_frontend(request.attests, supported=attestations_supported, environ=environ)
    frontend, syntax = _frontend(build_args)
    attrs = {
        "filename": dockerfile_name,
        **syntax,
        **{f"build-arg:{name}": value for name, value in build_args.items()},
        **{f"label:{name}": value for name, value in request.labels.items()},
        **_texts(request, docker_driver=docker_driver, host_gateway=host_gateway),
        **({"no-cache": ""} if request.no_cache else {}),
        **({"multi-platform": "true"} if build_args.get(_MULTI_PLATFORM) in TRUE else {}),
        **{f"attest:{kind}": value for kind, value in attests.items()},
        **_cache_imports(request.cache_from if cache_imports is None else cache_imports),
        **_contexts(request, inputs.get("context", "")),
        **inputs,
    }
    return frontend, attrs


def entitlements(request: BuildRequest) -> list[str]:
    """The privileges that the daemon is asked for; ``--network=host`` is one by itself."""
    asked = [*request.allow, NETWORK_HOST] if request.network == "host" else request.allow
    return list(dict.fromkeys(asked))


def proxy_build_args(config: Mapping[str, object], host: str) -> dict[str, str]:
    """Build arguments for the proxies of docker's ``config.json``.

    Args:
        config: the content of the file.
        host: the address of the daemon, as the docker CLI has it; ``default`` is taken where nothing is said for it.
    """
    proxies = config.get("proxies")
    found = proxies.get(host, proxies.get("default")) if isinstance(proxies, dict) else None
    if not isinstance(found, dict):
        return {}
    named = {name: found.get(key) for key, name in _PROXIES.items()}
    return {name: value for name, value in named.items() if isinstance(value, str) and value}


def _build_args(request: BuildRequest, environ: Mapping[str, str], proxies: Mapping[str, str]) -> dict[str, str]:
    given = {name: value for name, value in request.build_args.items() if value is not None}
    unasked = dict(proxies)
    if epoch := environ.get(SOURCE_DATE_EPOCH):
        unasked[SOURCE_DATE_EPOCH] = epoch
    return {**{name: value for name, value in unasked.items() if name not in request.build_args}, **given}


def _frontend(build_args: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Choose the frontend: the build argument works like ``# syntax=`` of a Dockerfile, and wins over it."""
    syntax = build_args.get(_SYNTAX)
    if syntax is None:
        return _BUILT_IN, {}
    return _GATEWAY, {"source": syntax.strip().partition(" ")[0], "cmdline": syntax}


def _texts(request: BuildRequest, *, docker_driver: bool, host_gateway: str | None) -> dict[str, str]:
    """What is left out when it is empty."""
    hosts = [pair for host in request.add_hosts for pair in host.resolved(host_gateway)]
    texts = {
        "target": request.target,
        "platform": ",".join(request.platforms),
        # An Engine prefers the images it has.
        "image-resolve-mode": "pull" if request.pull else "local" if docker_driver else "",
        "no-cache": ",".join(request.no_cache_filter),
        "shm-size": str(request.shm_size or ""),
        "add-hosts": ",".join(f"{name}={address}" for name, address in hosts),
        "ulimit": ",".join(f"{limit.name}={limit.soft}:{limit.hard}" for limit in request.ulimits),
        "cgroup-parent": request.cgroup_parent,
        "force-network-mode": request.network if request.network != "default" else "",
    }
    return {name: value for name, value in texts.items() if value}


def _cache_imports(entries: Iterable[CacheEntry]) -> dict[str, str]:
    """Say what the build itself is told too, for frontends that start builds of their own."""
    shown = [
        {"Type": entry.type, **({"Attrs": dict(sorted(entry.attrs.items()))} if entry.attrs else {})}
        for entry in entries
    ]
    return {"cache-imports": json.dumps(shown, separators=(",", ":"), ensure_ascii=False)} if shown else {}


def _contexts(request: BuildRequest, main: str) -> dict[str, str]:
    """Name the contexts, and what the frontend must be able to do for them: one that cannot refuses the build.

    buildx asks for the options of git for any URL with a ``?``; a plain download needs them not.
    """
    named = request.build_contexts
    if not named and not main:
        return {}
    from buildkit_session.request.named_context import option  # noqa: PLC0415 - most builds have a directory alone
    from buildkit_session.request.remote_context import GitSource, parse_git  # noqa: PLC0415 - as above

    told = {f"context:{name}": value for name, one in named.items() if (value := option(name, one)) is not None}
    caps = [_CONTEXTS] if named else []
    if (git := parse_git(main)) is not None and git.has_query:
        caps.append(_GIT_QUERY)
    if any(isinstance(one, GitSource) and one.has_query for one in named.values()):
        caps.append(f"{_GIT_QUERY}+forward")
    return {**told, **({"frontend.caps": ",".join(caps)} if caps else {})}
