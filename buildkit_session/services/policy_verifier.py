"""``moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier``: the daemon asks whether it may use a source.

It asks about every source of the build, about the same one again and again, and about many at once. An answer that is
empty would allow the source, so each is written out, and whatever goes wrong here ends the call with an error: then the
daemon uses nothing, and the build fails.

Source: moby/buildkit:sourcepolicy/policysession/policysession.proto, solver/llbsolver/policy.go.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import InputError, RpcError
from buildkit_session.grpc.router import Route, messages, of_request, unary
from buildkit_session.grpc.status import Status
from buildkit_session.messages.moby.buildkit.v1.frontend import (
    ChecksumRequest,
    ChecksumRequestChecksumAlgo,
    ResolveSourceGitRequest,
    ResolveSourceHttpRequest,
    ResolveSourceImageRequest,
    ResolveSourceMetaRequest,
)
from buildkit_session.messages.moby.buildkit.v1.sourcepolicy import PolicyAction
from buildkit_session.messages.moby.buildkit.v1.sourcepolicy.policysession import (
    CheckPolicyRequest,
    CheckPolicyResponse,
    DecisionResponse,
    DenyMessage,
)
from buildkit_session.messages.pb.ops import SourceOp
from buildkit_session.printable import printable
from buildkit_session.services.callbacks import called
from buildkit_session.services.policy import (
    Allow,
    AttestationChain,
    Convert,
    Deny,
    GitMetadata,
    HttpMetadata,
    ImageMetadata,
    More,
    Source,
)
from buildkit_session.wording import a_type

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buildkit_session.messages.moby.buildkit.v1 import frontend
    from buildkit_session.messages.pb import Platform
    from buildkit_session.services.policy import Verifier

__all__ = ["PolicyVerifier"]

log = logging.getLogger("buildkit_session.policy")

_ALGORITHMS: Final = {
    "sha256": ChecksumRequestChecksumAlgo.SHA256,
    "sha384": ChecksumRequestChecksumAlgo.SHA384,
    "sha512": ChecksumRequestChecksumAlgo.SHA512,
}
_PRIVATE: Final = re.compile(r"(?<=^git://)[^/]*@|(?<=^http://)[^/]*@|(?<=^https://)[^/]*@|\?.*", re.DOTALL)
"""Of an identifier: a login, and a query, which may sign the request."""
_SHOWN: Final = 200
"""Characters of an identifier that an error shows."""


class PolicyVerifier:
    """Serves the decisions of a policy.

    Args:
        verifier: the policy.
    """

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    def __repr__(self) -> str:
        return "<PolicyVerifier>"

    def routes(self) -> Iterable[Route]:
        """See :class:`~buildkit_session.services.Service`."""
        path = "/moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/CheckPolicy"
        codecs = messages(CheckPolicyRequest, CheckPolicyResponse)
        return (Route(path, unary(self._check_policy), codecs, subject=of_request(_subject)),)

    async def _check_policy(self, request: CheckPolicyRequest) -> CheckPolicyResponse:
        op = request.source.source if request.source is not None else None
        if request.source is None or op is None or not op.identifier:
            raise RpcError(Status.INVALID_ARGUMENT, "a policy is asked about a source, and none is named")
        source = _source(op, request.source, request.platform)
        decision = await self._decide(source)
        log.debug("> %s %s", type(decision).__name__.lower(), _shown(source))
        return _response(decision, source, op, request.platform)

    async def _decide(self, source: Source) -> object:
        """Have the caller's code decide; raises as :func:`called`. The daemon is told no more than that."""
        what = f"the source policy, asked about {_shown(source)},"
        return await called(self._verifier.decide, source, kind="policy", what=what, seconds=self._verifier.timeout)


def _subject(request: CheckPolicyRequest) -> str:
    op = request.source.source if request.source is not None else None
    return "" if op is None else _public(op.identifier)


def _shown(source: Source) -> str:
    """The source for logs and errors."""
    return printable(_public(source.identifier)[:_SHOWN])


def _public(identifier: str) -> str:
    """Leave out what in a URL may be secret."""
    return _PRIVATE.sub("", identifier)


def _response(decision: object, source: Source, op: SourceOp, platform: Platform | None) -> CheckPolicyResponse:
    """Write an answer out: nothing that is not one of the four becomes one.

    Raises:
        InputError: it is none, or asks for more where there is nothing more.
    """
    if isinstance(decision, More):
        return CheckPolicyResponse(request=_question(decision, source, op, platform))
    if isinstance(decision, Deny):
        said = [DenyMessage(message=message) for message in decision.messages]
        return _decided(DecisionResponse(action=PolicyAction.DENY, deny_messages=said))
    if isinstance(decision, Convert):
        update = SourceOp(decision.identifier, dict(op.attrs if decision.attrs is None else decision.attrs))
        # The daemon would ask about the same again, and again.
        if update != op:
            return _decided(DecisionResponse(action=PolicyAction.CONVERT, update=update))
    elif not isinstance(decision, Allow):
        raise InputError(f"a source policy must return a decision such as policy.deny(), not {a_type(decision)}")
    return _decided(DecisionResponse(action=PolicyAction.ALLOW))


def _decided(decision: DecisionResponse) -> CheckPolicyResponse:
    return CheckPolicyResponse(decision=decision)


def _question(more: More, source: Source, op: SourceOp, platform: Platform | None) -> ResolveSourceMetaRequest:
    if source.scheme == "local":
        raise InputError(f"the source policy asks for more about {_shown(source)}, and there is no more")
    checksum = None
    if more.http_algorithm is not None:
        checksum = ChecksumRequest(algo=_ALGORITHMS[more.http_algorithm], suffix=more.http_suffix)
    return ResolveSourceMetaRequest(
        source=op,
        platform=platform,
        resolve_mode=more.resolve_mode,
        image=ResolveSourceImageRequest(
            no_config=not more.config,
            attestation_chain=more.attestation_chain,
            resolve_attestations=list(more.attestations),
        ),
        git=ResolveSourceGitRequest(return_object=more.git_objects),
        http=ResolveSourceHttpRequest(checksum_request=checksum),
    )


def _source(op: SourceOp, found: frontend.ResolveSourceMetaResponse, platform: Platform | None) -> Source:
    parts = (platform.os, platform.architecture, platform.variant) if platform is not None else ()
    return Source(
        op.identifier,
        dict(op.attrs),
        platform="/".join(part for part in parts if part),
        image=None if found.image is None else _image(found.image),
        git=None if found.git is None else _git(found.git),
        http=None if found.http is None else _http(found.http),
    )


def _image(found: frontend.ResolveSourceImageResponse) -> ImageMetadata:
    chain = found.attestation_chain
    return ImageMetadata(found.digest, found.config, None if chain is None else _chain(chain))


def _chain(chain: frontend.AttestationChain) -> AttestationChain:
    return AttestationChain(
        chain.root,
        chain.image_manifest,
        chain.attestation_manifest,
        tuple(chain.signature_manifests),
        {digest: blob.data for digest, blob in chain.blobs.items()},
    )


def _git(found: frontend.ResolveSourceGitResponse) -> GitMetadata:
    return GitMetadata(found.checksum, found.ref, found.commit_checksum, found.commit_object, found.tag_object)


def _http(found: frontend.ResolveSourceHttpResponse) -> HttpMetadata:
    answer = found.checksum_response
    return HttpMetadata(
        found.checksum,
        found.filename,
        digest=answer.digest if answer is not None else "",
        suffix=answer.suffix if answer is not None else b"",
    )
