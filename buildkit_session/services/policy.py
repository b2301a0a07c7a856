"""Decisions about the sources of a build: what a policy is asked about, and what it may answer.

.. code-block:: python

    async def decide(source: bk.policy.Source) -> bk.policy.Decision:
        if source.of_session:
            return bk.policy.allow()
        if source.scheme != "docker-image":
            return bk.policy.deny(f"nothing is fetched by {source.scheme} here")
        if source.image is None:
            return bk.policy.more()
        return bk.policy.allow() if source.image.digest in approved else bk.policy.deny("not approved")

    await client.build(".", source_policy=decide)

The daemon asks about everything that steps are made of: base images, the frontend that ``# syntax=`` names, files from
the web, repositories, directories and uploads of this session. It asks about the same one more than once, and about
several at once, so answers should be cheap and always the same. Cache that a build imports is no source.

Source: moby/buildkit:sourcepolicy/policysession/policysession.proto, solver/llbsolver/policy.go,
frontend/gateway/pb/gateway.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from buildkit_session.errors import InputError
from buildkit_session.wording import a_type

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable

__all__ = [
    "Allow",
    "AttestationChain",
    "Convert",
    "Decide",
    "Decision",
    "Deny",
    "GitMetadata",
    "HttpMetadata",
    "ImageMetadata",
    "More",
    "Source",
    "Verifier",
    "allow",
    "convert",
    "deny",
    "more",
    "verifier",
]

PATIENCE: Final = 60.0
"""Seconds for one decision, by default. The daemon waits for ever."""

MAX_MESSAGES: Final = 32
MAX_MESSAGE: Final = 2048
"""Characters of a message. All of them travel in the trailers of the failed build, beside its Dockerfile."""

_SESSION_SCHEMES: Final = ("local", "oci-layout")
_UPLOAD: Final = "http://buildkit-session/"

Algorithm: TypeAlias = Literal["sha256", "sha384", "sha512"]


@dataclass(frozen=True, slots=True)
class AttestationChain:
    """From an image to what vouches for it. Nothing of it is verified: compare the digests with the contents.

    Attributes:
        root: the digest of the index.
        image_manifest: of the image for the platform.
        attestation_manifest: of its attestations.
        signature_manifests: of what signs them.
        blobs: contents by digest.
    """

    root: str = ""
    image_manifest: str = ""
    attestation_manifest: str = ""
    signature_manifests: tuple[str, ...] = ()
    blobs: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class ImageMetadata:
    """What is known of an image.

    Attributes:
        digest: ``sha256:...``; empty for what an Engine with its classic store has there already, which keeps none:
            ``more(resolve_mode="pull")`` asks the registry.
        config: its JSON; empty where it was not asked for.
        attestations: where they were asked for.
    """

    digest: str
    config: bytes = field(default=b"", repr=False)
    attestations: AttestationChain | None = None


@dataclass(frozen=True, slots=True)
class GitMetadata:
    """What is known of a git repository.

    Attributes:
        checksum: the object that the reference names: a commit, or an annotated tag.
        ref: the full name of the reference.
        commit_checksum: the commit, where a tag stands before it.
        commit_object: the raw object, where it was asked for.
        tag_object: likewise.
    """

    checksum: str
    ref: str = ""
    commit_checksum: str = ""
    commit_object: bytes = field(default=b"", repr=False)
    tag_object: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class HttpMetadata:
    """What is known of a file from the web.

    Attributes:
        checksum: the digest of its content.
        filename: the name it will have.
        digest: by the algorithm and with the suffix that were asked for.
        suffix: the bytes that this digest counts after the content.
    """

    checksum: str
    filename: str = ""
    digest: str = ""
    suffix: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Source:
    """What a build wants to use.

    Attributes:
        identifier: in the daemon's spelling: ``docker-image://docker.io/library/alpine:latest``, ``local://context``,
            ``git://...``, ``https://...``.
        attrs: such as ``http.checksum`` or ``git.fullurl``.
        platform: ``linux/arm64``; empty for what has none.
        image: what is known of an image, once it was asked for by :func:`more`.
        git: the same of a repository. Since BuildKit 0.27.
        http: the same of a file from the web. Since BuildKit 0.27.
    """

    identifier: str
    attrs: Mapping[str, str] = field(default_factory=dict)
    platform: str = ""
    image: ImageMetadata | None = None
    git: GitMetadata | None = None
    http: HttpMetadata | None = None

    @property
    def scheme(self) -> str:
        """What stands before ``://``, such as ``docker-image``."""
        return self.identifier.partition("://")[0]

    @property
    def of_session(self) -> bool:
        """Whether it comes from this side: a directory, an OCI layout, or a context that is a stream."""
        return self.scheme in _SESSION_SCHEMES or self.identifier.startswith(_UPLOAD)


@dataclass(frozen=True, slots=True)
class Allow:
    """Use it."""


@dataclass(frozen=True, slots=True)
class Deny:
    """Do not use it: the build fails, and anybody who sees the build may read the messages.

    Raises:
        InputError: the messages are no texts, or too many or too long.
    """

    messages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not all(isinstance(message, str) for message in self.messages):
            raise InputError("the messages of a denial must be texts")
        if len(self.messages) > MAX_MESSAGES or any(len(message) > MAX_MESSAGE for message in self.messages):
            raise InputError(f"a denial has at most {MAX_MESSAGES} messages of {MAX_MESSAGE} characters")


@dataclass(frozen=True, slots=True)
class Convert:
    """Use something else, which is asked about next.

    Attributes:
        identifier: of what is used.
        attrs: of what is used; ``None`` for those that the source has.

    Raises:
        InputError: it names no source.
    """

    identifier: str
    attrs: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if not _is_identifier(self.identifier):
            raise InputError(
                f"a source is named by its scheme, such as docker-image://alpine, not by {self.identifier!r}"
            )
        if self.attrs is not None and not _is_texts(self.attrs):
            raise InputError("the attributes of a source must be a mapping of names to texts")


@dataclass(frozen=True, slots=True)
class More:
    """Say more of it, and ask again. The fields that do not fit the kind of the source are left out of account.

    Attributes:
        config: of an image: its config too, and not the digest alone.
        attestation_chain: of an image: what vouches for it. Since BuildKit 0.27.
        attestations: of an image: types of predicates whose attestations are read. Since BuildKit 0.28.
        git_objects: of a repository: the raw objects of commit and tag.
        http_algorithm: of a file: also a digest by this algorithm, of its content and ``http_suffix``. Since
            BuildKit 0.28.
        http_suffix: bytes, such as the trailer of a signature.
        resolve_mode: of an image: ``default``, ``pull`` or ``local``.

    Raises:
        InputError: there is no such algorithm.
    """

    config: bool = True
    attestation_chain: bool = False
    attestations: tuple[str, ...] = ()
    git_objects: bool = False
    http_algorithm: Algorithm | None = None
    http_suffix: bytes = b""
    resolve_mode: str = ""

    def __post_init__(self) -> None:
        if self.http_algorithm not in (None, "sha256", "sha384", "sha512"):
            raise InputError(f"http_algorithm must be sha256, sha384 or sha512, not {self.http_algorithm!r}")


Decision: TypeAlias = Allow | Deny | Convert | More
Rules: TypeAlias = "Mapping[str, object] | str | os.PathLike[str] | None"
Decide: TypeAlias = "Callable[[Source], Awaitable[Decision] | Decision]"


@dataclass(frozen=True, slots=True)
class Verifier:
    """Decides about every source of a build; see :func:`verifier`.

    Attributes:
        decide: the decision about one source.
        timeout: seconds for one decision; ``None`` for no limit.
        rules: that hold besides, and first; as for ``source_policy`` without a function.

    Raises:
        InputError: the fields cannot be that.
    """

    decide: Decide
    timeout: float | None = PATIENCE
    rules: Rules = None

    def __post_init__(self) -> None:
        if not callable(self.decide):
            raise InputError(f"a policy must be a function of a source, not {a_type(self.decide)}")
        if self.timeout is not None and not (_is_number(self.timeout) and self.timeout > 0):
            raise InputError(f"the timeout of a policy must be seconds above 0, or None, not {self.timeout!r}")


def allow() -> Allow:
    """Let the build use the source."""
    return Allow()


def deny(*messages: str) -> Deny:
    """Refuse the source, which fails the build.

    Args:
        messages: why; they come back as :attr:`BuildError.denials <buildkit_session.BuildError.denials>` from
            BuildKit 0.27 on. Whoever can see the build in the daemon can read them.
    """
    return Deny(messages)


def convert(identifier: str, attrs: Mapping[str, str] | None = None) -> Convert:
    """Have the build use another source in its place. Since BuildKit 0.27; 0.26 fails the build.

    The policy is asked about that one next. To convert a source to itself allows it. A daemon gives up after ten
    rounds.

    Args:
        identifier: such as ``docker-image://docker.io/library/alpine@sha256:...``.
        attrs: its attributes; by default those that the source has, such as a checksum that it must match.
    """
    return Convert(identifier, attrs)


def more(
    *,
    config: bool = True,
    attestation_chain: bool = False,
    attestations: tuple[str, ...] | list[str] = (),
    git_objects: bool = False,
    http_algorithm: Algorithm | None = None,
    http_suffix: bytes = b"",
    resolve_mode: str = "",
) -> More:
    """Ask for what the daemon can find out about the source: the digest of an image, the commit of a repository.

    The policy is asked again with :attr:`Source.image`, :attr:`Source.git` or :attr:`Source.http`. What comes from this
    side has nothing more to know, and to ask for it fails the build.

    Args: see :class:`More`.
    """
    return More(
        config=config,
        attestation_chain=attestation_chain,
        attestations=tuple(attestations),
        git_objects=git_objects,
        http_algorithm=http_algorithm,
        http_suffix=http_suffix,
        resolve_mode=resolve_mode,
    )


def verifier(
    decide: Decide,
    *,
    timeout: float | None = PATIENCE,
    rules: Rules = None,
) -> Verifier:
    """Make a policy with other settings than those that a function alone has.

    Args:
        decide: a function of a :class:`Source`; with ``async def`` it runs on the event loop, else in a thread, for
            several sources at once.
        timeout: seconds for one decision.
        rules: a static policy that holds besides: a mapping, or the path of a file. A source is first put to them, then
            to the function.
    """
    return Verifier(decide, timeout, rules)


def _is_identifier(given: object) -> bool:
    return isinstance(given, str) and bool(given.partition("://")[0]) and "://" in given


def _is_number(given: object) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool)


def _is_texts(given: object) -> bool:
    return isinstance(given, Mapping) and all(
        isinstance(name, str) and isinstance(text, str) for name, text in given.items()
    )
