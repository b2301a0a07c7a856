"""All that one build asks for, as checked values."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

from buildkit_session.errors import InputError
from buildkit_session.request import arguments
from buildkit_session.request.outputs import arrange, read_outputs
from buildkit_session.truth import TRUE
from buildkit_session.wording import a_type

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from buildkit_session.engine.subrequest import Call
    from buildkit_session.grpc.interception import Interceptor
    from buildkit_session.messages.moby.buildkit.v1.sourcepolicy import Policy
    from buildkit_session.output import Output
    from buildkit_session.request.cache import CacheEntry, CacheLike
    from buildkit_session.request.extra_host import ExtraHost
    from buildkit_session.request.named_context import NamedContext
    from buildkit_session.request.outputs import OutputLike
    from buildkit_session.request.secret import Secret
    from buildkit_session.request.session_exporter import Find, SessionExporter, SessionExporterLike
    from buildkit_session.request.ssh import SshSource
    from buildkit_session.request.ulimit import Ulimit
    from buildkit_session.services import Service
    from buildkit_session.services.policy import Decide, Verifier

    # What the keyword arguments of a build may be.
    Texts: TypeAlias = Sequence[str] | str
    Attestation: TypeAlias = bool | str | Mapping[str, str] | None
    Attests: TypeAlias = Texts | Mapping[str, Attestation]
    Contexts: TypeAlias = Texts | Mapping[str, "str | NamedContext | os.PathLike[str]"]
    Caches: TypeAlias = "CacheLike | Sequence[CacheLike]"
    Hosts: TypeAlias = "Texts | Sequence[ExtraHost] | Mapping[str, str | Sequence[str]]"
    Limits: TypeAlias = "Texts | Sequence[Ulimit] | Mapping[str, int | str | tuple[int, int]]"
    Outputs: TypeAlias = "OutputLike | Sequence[OutputLike]"
    Policies: TypeAlias = Mapping[str, object] | str | os.PathLike[str] | Verifier | Decide | None
    Exporters: TypeAlias = SessionExporter | SessionExporterLike | Find | None
    Secrets: TypeAlias = "Texts | Mapping[str, Secret]"
    Agents: TypeAlias = "Texts | Mapping[str, SshSource | str]"

__all__ = ["BuildRequest"]

_NOTHING: Final[tuple[object, ...]] = (None, (), [], {}, "")
_INLINE_ARGUMENT: Final = "BUILDKIT_INLINE_CACHE"
_READERS: Final = {
    "add_hosts": "extra_host.read_extra_hosts",
    "allow": "entitlement.read_entitlements",
    "annotations": "annotation.read_annotations",
    "attests": "attestation.read_attestations",
    "build_contexts": "named_context.read_named_contexts",
    "cache_from": "cache.read_cache_from",
    "cache_to": "cache.read_cache_to",
    "call": "call.read_call",
    "interceptors": "serving.read_interceptors",
    "platforms": "platforms.read_platforms",
    "secrets": "secret.read_secrets",
    "services": "serving.read_services",
    "session_exporter": "session_exporter.read_session_exporter",
    "shm_size": "shm_size.read_shm_size",
    "source_policy": "source_policy.read_source_policies",
    "ssh": "ssh.read_agents",
    "ulimits": "ulimit.read_ulimits",
}
"""What reads an argument. Most builds have few, and the start of a build is not to load what reads the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One build. Make it with :meth:`of`, which checks and normalises; the class itself takes finished values.

    Attributes:
        tags: names for the image.
        target: the stage to build; empty for the last one.
        build_args: values for ``ARG``; one of ``None`` is left to the Dockerfile.
        build_contexts: further contexts by name.
        labels: of the image.
        annotations: exporter attributes and their values; they are in the outputs already.
        attests: for each type what the frontend is told; ``None`` for one that is refused.
        add_hosts: lines for ``/etc/hosts``.
        allow: privileges.
        cache_from: where cache is taken from.
        cache_to: where it is put; the inline cache of a build argument is in it already.
        call: the question that is asked in place of a build.
        cgroup_parent: of RUN steps.
        network: of RUN steps: ``default``, ``none`` or ``host``, or empty.
        no_cache: run every step again.
        no_cache_filter: stages whose steps are run again.
        platforms: to build for, in their usual spelling; none leaves it to the daemon.
        pull: look for newer base images.
        shm_size: bytes of ``/dev/shm``; 0 leaves it to the daemon.
        source_policy: rules about the sources of the build.
        policy_verifier: decides about them while it runs.
        ulimits: of RUN steps, ordered by name.
        outputs: where the result goes; ``push``, ``load``, tags and annotations are in them already. None means the
            default, which only the daemon's kind decides.
        session_exporter: chooses more of them while it runs.
        secrets: by id.
        ssh: agents and keys by id.
        services: of the caller's own, that the session serves besides.
        interceptors: what every call of the daemon goes through, the outermost first.
    """

    tags: tuple[str, ...] = ()
    target: str = ""
    build_args: Mapping[str, str | None] = field(default_factory=dict, repr=False)  # people put secrets there
    build_contexts: Mapping[str, NamedContext] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    attests: Mapping[str, str | None] = field(default_factory=dict)
    add_hosts: tuple[ExtraHost, ...] = ()
    allow: tuple[str, ...] = ()
    cache_from: tuple[CacheEntry, ...] = ()
    cache_to: tuple[CacheEntry, ...] = ()
    call: Call | None = None
    cgroup_parent: str = ""
    network: str = ""
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    pull: bool = False
    shm_size: int = 0
    source_policy: Policy | None = None
    policy_verifier: Verifier | None = None
    ulimits: tuple[Ulimit, ...] = ()
    outputs: tuple[Output, ...] = ()
    session_exporter: SessionExporter | None = None
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    ssh: Mapping[str, SshSource] = field(default_factory=dict)
    services: tuple[Service, ...] = ()
    interceptors: tuple[Interceptor, ...] = ()

    @classmethod
    def of(
        cls,
        *,
        tags: Texts = (),
        target: str | None = None,
        build_args: Mapping[str, str | None] | None = None,
        build_contexts: Contexts | None = None,
        labels: Mapping[str, str] | None = None,
        annotations: Texts | Mapping[str, str] | None = None,
        attests: Attests | None = None,
        sbom: Attestation = None,
        provenance: Attestation = None,
        add_hosts: Hosts | None = None,
        allow: Texts = (),
        cache_from: Caches = (),
        cache_to: Caches = (),
        call: str | Call | None = None,
        cgroup_parent: str | None = None,
        network: str | None = None,
        no_cache: bool = False,
        no_cache_filter: Texts = (),
        platforms: Texts = (),
        pull: bool = False,
        push: bool = False,
        load: bool = False,
        shm_size: str | int | None = None,
        source_policy: Policies = None,
        ulimits: Limits | None = None,
        outputs: Outputs = (),
        session_exporter: Exporters = None,
        secrets: Secrets | None = None,
        ssh: Agents = (),
        services: Sequence[Service] | Service = (),
        interceptors: Sequence[Interceptor] | Interceptor = (),
    ) -> Self:
        """Take the arguments of a build as people write them: texts of the command line, mappings or objects.

        Args:
            tags: ``[HOST/]NAME[:TAG]``.
            target: the stage to build; the last one by default.
            build_args: values for ``ARG``; one of ``None`` is left to the Dockerfile.
            build_contexts: ``{"lib": "../lib"}`` or ``["lib=../lib"]``.
            labels: names and values.
            annotations: ``["manifest:KEY=VALUE"]`` or ``{"manifest:KEY": "VALUE"}``.
            attests: ``["type=sbom"]`` or ``{"provenance": "mode=max"}``.
            sbom: true, false or attributes.
            provenance: the same, such as ``"mode=max"``.
            add_hosts: ``["NAME=ADDRESS"]`` or ``{"NAME": "ADDRESS"}``.
            allow: ``network.host``, ``security.insecure``, ``device``.
            cache_from: ``"type=local,src=cache"``, image references, mappings or entries.
            cache_to: the same; a directory is ``dest``.
            call: ``check``, ``outline``, ``targets`` in place of a build.
            cgroup_parent: of RUN steps.
            network: of RUN steps: ``default``, ``none`` or ``host``.
            no_cache: run every step again.
            no_cache_filter: stages whose steps are run again.
            platforms: ``linux/arm64``, lists of them joined by commas, or ``local``.
            pull: look for newer base images.
            push: push the image.
            load: load the image into the Engine.
            shm_size: such as ``64m``, or bytes.
            source_policy: a mapping, or the path of a file with rules; or a function that decides.
            ulimits: ``["nofile=1024:2048"]`` or ``{"nofile": (1024, 2048)}``.
            outputs: texts, mappings or values of :mod:`buildkit_session.output`.
            session_exporter: a function that chooses outputs, or an object with a method ``find``.
            secrets: ``{"id": secret}`` with values of :mod:`~buildkit_session.request.secret`, or ``["id=x,env=Y"]``.
            ssh: ``["default"]``, ``["id=key.pem"]`` or ``{"id": agent}``.
            services: objects with ``routes()``, as :class:`~buildkit_session.services.own.Service`.
            interceptors: coroutine functions, as :class:`~buildkit_session.grpc.interception.Interceptor`.

        Raises:
            InputError: an argument cannot be, or some do not go together. Except for the kind of the paths of ``ssh``,
                nothing was looked up in the file system: that is :meth:`check`.
        """
        names, variables = arguments.tags(tags), arguments.variables("build_args", build_args)
        filtered = tuple(stage for stage in arguments.texts("no_cache_filter", no_cache_filter) if stage)
        if arguments.flag("no_cache", no_cache) and filtered:
            raise InputError(
                "--no-cache and --no-cache-filter cannot currently be used together; choose one "
                "(no_cache=, no_cache_filter=)"
            )
        rules, verifier = _read("source_policy", source_policy) or (None, None)
        annotated: dict[str, str] = _read("annotations", annotations) or {}
        stated = any(value not in _NOTHING for value in (attests, sbom, provenance))
        return cls(
            tags=names,
            target=_text("target", target),
            build_args=variables,
            build_contexts=_read("build_contexts", build_contexts) or {},
            labels=arguments.labels(labels),
            annotations=annotated,
            attests=_reader("attests")(attests, sbom, provenance) if stated else {},
            add_hosts=_read("add_hosts", add_hosts) or (),
            allow=_read("allow", allow) or (),
            cache_from=_read("cache_from", cache_from) or (),
            cache_to=_read("cache_to", _with_inline(cache_to, variables)) or (),
            call=_read("call", call),
            cgroup_parent=_text("cgroup_parent", cgroup_parent),
            network=arguments.network(network),
            no_cache=no_cache,
            no_cache_filter=filtered,
            platforms=_read("platforms", platforms) or (),
            pull=arguments.flag("pull", pull),
            shm_size=_read("shm_size", shm_size) or 0,
            source_policy=rules,
            policy_verifier=verifier,
            ulimits=_read("ulimits", ulimits) or (),
            outputs=arrange(
                read_outputs(outputs),
                push=arguments.flag("push", push),
                load=arguments.flag("load", load),
                tags=names,
                annotations=annotated,
            ),
            session_exporter=_read("session_exporter", session_exporter),
            secrets=_read("secrets", secrets) or {},
            ssh=_read("ssh", ssh) or {},
            services=_read("services", services) or (),
            interceptors=_read("interceptors", interceptors) or (),
        )

    def check(self) -> None:
        """Look at everything on this machine that the build will need. Blocks: call it in a thread.

        Raises:
            InputError: something is missing or cannot be used.
        """
        for out in self.outputs:
            out.check()
        for name, secret in self.secrets.items():
            _check_secret(name, secret)
        for source in self.ssh.values():
            source.check()
        if self.build_contexts:
            import_module("buildkit_session.request.named_context").check_all(self.build_contexts)


def _check_secret(name: str, secret: Secret) -> None:
    try:
        secret.check()
    except InputError as error:
        raise InputError(f"secret {name!r}: {error}") from error


def _text(name: str, value: object) -> str:
    if value is not None and not isinstance(value, str):
        raise InputError(f"{name} must be a text, not {a_type(value)}")
    return value or ""


def _with_inline(cache_to: object, build_args: Mapping[str, str | None]) -> object:
    """Add the inline cache that a build argument asks for."""
    if build_args.get(_INLINE_ARGUMENT) not in TRUE:
        return cache_to
    return [*(cache_to if isinstance(cache_to, list | tuple) else [cache_to or ""]), "type=inline"]


def _read(name: str, given: object) -> Any:
    """Read an argument; ``None`` if nothing was given."""
    return None if given in _NOTHING else _reader(name)(given)


def _reader(name: str) -> Any:
    module, _, function = _READERS[name].partition(".")
    return getattr(import_module(f"buildkit_session.request.{module}"), function)
