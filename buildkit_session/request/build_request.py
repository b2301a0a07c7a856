"""All that one build asks for, as checked values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self, TypeAlias

from buildkit_session import arguments
from buildkit_session.engine.subrequest import Call
from buildkit_session.errors import InputError
from buildkit_session.request import secret as secrets_of
from buildkit_session.request import ssh as ssh_of
from buildkit_session.request.annotation import read_annotations
from buildkit_session.request.attestation import read_attestations
from buildkit_session.request.cache import parse_cache_from, parse_cache_to, with_inline
from buildkit_session.request.call import parse as parse_call
from buildkit_session.request.entitlement import read_entitlements
from buildkit_session.request.extra_host import read_extra_hosts
from buildkit_session.request.named_context import LocalContext, OciLayoutContext, read_named_contexts
from buildkit_session.request.outputs import arrange, read_outputs
from buildkit_session.request.platforms import read_platforms
from buildkit_session.request.secret import Secret
from buildkit_session.request.shm_size import read_shm_size
from buildkit_session.request.ssh import SshAgent, SshKeys
from buildkit_session.request.ulimit import read_ulimits

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from buildkit_session.output import Output
    from buildkit_session.request.cache import CacheEntry, CacheLike
    from buildkit_session.request.extra_host import ExtraHost
    from buildkit_session.request.named_context import NamedContext
    from buildkit_session.request.outputs import OutputLike
    from buildkit_session.request.ssh import SshSource
    from buildkit_session.request.ulimit import Ulimit

    # What the keyword arguments of a build may be.
    Texts: TypeAlias = Sequence[str] | str
    Attestation: TypeAlias = bool | str | Mapping[str, str] | None
    Attests: TypeAlias = Texts | Mapping[str, Attestation]
    Contexts: TypeAlias = Texts | Mapping[str, "str | NamedContext | os.PathLike[str]"]
    Caches: TypeAlias = "CacheLike | Sequence[CacheLike]"
    Hosts: TypeAlias = "Texts | Sequence[ExtraHost] | Mapping[str, str | Sequence[str]]"
    Limits: TypeAlias = "Texts | Sequence[Ulimit] | Mapping[str, int | str | tuple[int, int]]"
    Outputs: TypeAlias = "OutputLike | Sequence[OutputLike]"
    Secrets: TypeAlias = "Texts | Mapping[str, Secret]"
    Agents: TypeAlias = "Texts | Mapping[str, SshSource | str]"

__all__ = ["BuildRequest"]

_NO_CONTENT: Final = "use bk.secret.value(), env(), file() or call()"


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
        ulimits: of RUN steps, ordered by name.
        outputs: where the result goes; ``push``, ``load``, tags and annotations are in them already. None means the
            default, which only the daemon's kind decides.
        secrets: by id.
        ssh: agents and keys by id.
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
    ulimits: tuple[Ulimit, ...] = ()
    outputs: tuple[Output, ...] = ()
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    ssh: Mapping[str, SshSource] = field(default_factory=dict)

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
        ulimits: Limits | None = None,
        outputs: Outputs = (),
        secrets: Secrets | None = None,
        ssh: Agents = (),
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
            ulimits: ``["nofile=1024:2048"]`` or ``{"nofile": (1024, 2048)}``.
            outputs: texts, mappings or values of :mod:`buildkit_session.output`.
            secrets: ``{"id": secret}`` with values of :mod:`~buildkit_session.request.secret`, or ``["id=x,env=Y"]``.
            ssh: ``["default"]``, ``["id=key.pem"]`` or ``{"id": agent}``.

        Raises:
            InputError: an argument cannot be, or some do not go together. Except for the kind of the paths of ``ssh``,
                nothing was looked up in the file system: that is :meth:`check`.
        """
        names, arguments_of_build = arguments.tags(tags), arguments.variables("build_args", build_args)
        filtered = tuple(stage for stage in arguments.texts("no_cache_filter", no_cache_filter) if stage)
        if no_cache and filtered:
            raise InputError("--no-cache and --no-cache-filter cannot currently be used together; choose one")
        annotated = read_annotations(annotations)
        return cls(
            tags=names,
            target=_text("target", target),
            build_args=arguments_of_build,
            build_contexts=read_named_contexts(build_contexts),
            labels=arguments.labels(labels),
            annotations=annotated,
            attests=read_attestations(attests, sbom, provenance),
            add_hosts=read_extra_hosts(add_hosts),
            allow=read_entitlements(allow),
            cache_from=_read_caches("cache_from", cache_from, parse_cache_from),
            cache_to=with_inline(_read_caches("cache_to", cache_to, parse_cache_to), arguments_of_build),
            call=parse_call(_text("call", call)) if not isinstance(call, Call) else call,
            cgroup_parent=_text("cgroup_parent", cgroup_parent),
            network=arguments.network(network),
            no_cache=no_cache,
            no_cache_filter=filtered,
            platforms=read_platforms(platforms),
            pull=pull,
            shm_size=read_shm_size(shm_size),
            ulimits=read_ulimits(ulimits),
            outputs=arrange(read_outputs(outputs), push=push, load=load, tags=names, annotations=annotated),
            secrets=_read_secrets(secrets),
            ssh=_read_ssh(ssh),
        )

    def check(self) -> None:
        """Look at everything on this machine that the build will need. Blocks: call it in a thread.

        Raises:
            InputError: something is missing or cannot be used.
        """
        for out in self.outputs:
            out.check()
        for secret in self.secrets.values():
            secret.check()
        for source in self.ssh.values():
            source.check()
        for name, context in self.build_contexts.items():
            if isinstance(context, LocalContext | OciLayoutContext):
                context.check(name)


def _text(name: str, value: object) -> str:
    if value is not None and not isinstance(value, str):
        raise InputError(f"{name} must be a text, not a {type(value).__name__}")
    return value or ""


def _read_caches(
    name: str, given: CacheLike | Iterable[CacheLike], parse: Callable[[CacheLike], list[CacheEntry]]
) -> tuple[CacheEntry, ...]:
    if isinstance(given, list | tuple):
        return tuple(entry for one in given for entry in parse(one))
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        return tuple(parse(given))  # what is none is refused there
    raise InputError(f"{name} must be a list of cache entries, not a {type(given).__name__}")


def _read_secrets(given: object) -> dict[str, Secret]:
    if not isinstance(given, Mapping):
        return dict(secrets_of.parse(text) for text in arguments.texts("secrets", given or ()) if text)
    for name, source in given.items():
        if not isinstance(source, Secret):  # the value is not shown: it may be the secret itself
            raise InputError(f"secrets: the value of {name!r} is a {type(source).__name__}; {_NO_CONTENT}")
    return dict(given)


def _read_ssh(given: object) -> dict[str, SshSource]:
    if isinstance(given, Mapping):
        pairs = [(name, _source(name, value)) for name, value in given.items()]
    else:
        pairs = [ssh_of.parse(text) for text in arguments.texts("ssh", given or ()) if text]
    found: dict[str, SshSource] = {}
    for name, source in pairs:
        if name in found:
            raise InputError(f'duplicate agent ID "{name}"; name all keys of it at once: {name}=KEY,KEY')
        found[name] = source
    return found


def _source(name: str, value: object) -> SshSource:
    if isinstance(value, SshAgent | SshKeys):
        return value
    if not isinstance(value, str):
        raise InputError(f"ssh: the value of {name!r} is a {type(value).__name__}; use bk.ssh.agent() or keys()")
    return ssh_of.parse(f"{name}={value}")[1]
