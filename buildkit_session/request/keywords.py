"""The keyword arguments of a build, for :meth:`Client.build` and whoever passes them on."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buildkit_session.grpc.interception import Interceptor
    from buildkit_session.registry_auth import CredentialsLike
    from buildkit_session.request.build_request import (
        Agents,
        Attestation,
        Attests,
        Caches,
        Contexts,
        Exporters,
        Hosts,
        Limits,
        Outputs,
        Policies,
        Secrets,
        Texts,
    )
    from buildkit_session.services import Service

__all__ = ["BuildKeywords", "RequestKeywords"]


class RequestKeywords(TypedDict, total=False):
    """Those that say what the daemon is asked for; :class:`BuildKeywords` explains them."""

    tags: Texts
    target: str | None
    build_args: Mapping[str, str | None] | None
    build_contexts: Contexts | None
    labels: Mapping[str, str] | None
    annotations: Texts | Mapping[str, str] | None
    attests: Attests | None
    sbom: Attestation
    provenance: Attestation
    add_hosts: Hosts | None
    allow: Texts
    cache_from: Caches
    cache_to: Caches
    cgroup_parent: str | None
    network: str | None
    no_cache: bool
    no_cache_filter: Texts
    platforms: Texts
    pull: bool
    push: bool
    load: bool
    shm_size: str | int | None
    source_policy: Policies
    ulimits: Limits | None
    outputs: Outputs
    session_exporter: Exporters
    secrets: Secrets | None
    ssh: Agents
    services: Sequence[Service] | Service
    interceptors: Sequence[Interceptor] | Interceptor


class BuildKeywords(RequestKeywords, total=False):
    """The keyword arguments of :meth:`Client.build`, ``start``, ``call`` and ``check``.

    All are optional, and mean what the flag of the same name means to ``docker buildx build``. What may be several is a
    list; one that is alone need not be in one.

    Attributes:
        tags: names for the image, ``[HOST/]NAME[:TAG]``.
        target: the stage to build; the last one by default.
        build_args: values for ``ARG``; one of ``None`` is left to the Dockerfile.
        build_contexts: further contexts: ``{"lib": "../lib", "base": "docker-image://alpine"}``.
        labels: labels of the image.
        annotations: ``{"KEY": "value"}``, or texts with a type and a platform in front, as ``index:KEY=value``.
            An output must be named for them: the one that an Engine has by default gets none, as with buildx.
        attests: statements about how the image was made: ``{"sbom": True, "provenance": "mode=max"}``.
        sbom: short for ``attests={"sbom": ...}``.
        provenance: short for ``attests={"provenance": ...}``.
        add_hosts: lines for ``/etc/hosts``: ``{"host": "10.0.0.1"}``.
        allow: privileges, such as ``network.host``.
        cache_from: where cache is taken from: image references, or ``type=local,src=cache``.
        cache_to: where it is put, such as ``type=local,dest=cache``.
        cgroup_parent: of ``RUN`` steps.
        network: of ``RUN`` steps: ``default``, ``none`` or ``host``.
        no_cache: run every step again.
        no_cache_filter: stages whose steps are run again.
        platforms: ``os/arch[/variant]``, to build for.
        pull: look for newer base images.
        push: send the image to its registry.
        load: load the image into the Engine.
        shm_size: of ``/dev/shm``: bytes, or ``64m``.
        source_policy: rules about the sources of the build: a mapping, or the path of a file in JSON; or a
            function that decides about each source: see :mod:`buildkit_session.policy`.
        ulimits: ``{"nofile": (1024, 2048)}``.
        outputs: where the result goes: values of :mod:`buildkit_session.output` or texts as for ``--output``. An Engine
            keeps an image by default, a buildkitd nothing but its cache.
        session_exporter: chooses further outputs when the result is there: a function, or a :class:`.SessionExporter`.
            With it there is no default.
        secrets: ``{"id": secret}`` with values of :mod:`buildkit_session.secret`, or ``["id=x,env=Y"]``.
        ssh: agents and keys by id: ``["default"]``, or ``{"id": agent}`` with values of :mod:`buildkit_session.ssh`.
        services: gRPC services of your own that the daemon may call, such as a :class:`Service`; see docs/services.md.
        interceptors: coroutine functions around every call of the daemon, see :class:`Interceptor`; those of the client
            are outside of these.
        credentials: of registries, as for :func:`buildkit_session.connect`, and in place of what was given there: for a
            host that is missing here nothing is taken from there. ``None`` and ``{}`` mean none. Builds with
            credentials of their own share no tokens, and no answers of functions, with any other build.
    """

    credentials: CredentialsLike | None
