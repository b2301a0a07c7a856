"""What one build offers to the daemon that runs it: the services of its session."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from buildkit_session.session import Session, shared_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildkit_session.build import Target
    from buildkit_session.content_stores import ContentStores
    from buildkit_session.inputs import Inputs
    from buildkit_session.request.build_request import BuildRequest
    from buildkit_session.services import Service
    from buildkit_session.services.auth import Auth
    from buildkit_session.services.exporter import Exporter
    from buildkit_session.services.filesync import FileSync
    from buildkit_session.services.raw_socket import RawSocket
    from buildkit_session.services.ssh import Agent

__all__ = ["make_session"]


def make_session(
    request: BuildRequest,
    inputs: Inputs,
    *,
    shared: FileSync,
    targets: Mapping[int, Target],
    auth: Auth | None,
    agents: Mapping[str, Agent | RawSocket],
    stores: ContentStores | None,
    exporter: Exporter | None = None,
) -> Session:
    """Make the session of a build, with what the daemon may ask for; nothing that the build has no use for."""
    layouts = {**inputs.layouts, **(stores.stores if stores else {})}
    services: list[Service] = [shared] if inputs.directories else []
    if targets or exporter is not None:  # which may choose some
        from buildkit_session.services.filesend import FileSend  # noqa: PLC0415 - many builds export nothing

        services.append(FileSend(targets))
    if exporter is not None:
        services.append(exporter)
    if request.policy_verifier is not None:
        from buildkit_session.services.policy_verifier import PolicyVerifier  # noqa: PLC0415 - few builds have one

        services.append(PolicyVerifier(request.policy_verifier))
    if request.secrets:
        from buildkit_session.services.secrets import Secrets  # noqa: PLC0415 - few builds have any

        services.append(Secrets(request.secrets))
    if auth is not None:
        services.append(auth)
    if agents:
        from buildkit_session.services.ssh import Ssh  # noqa: PLC0415 - as above

        services.append(Ssh(agents))
    if inputs.upload is not None:
        services.append(inputs.upload)
    if layouts:
        from buildkit_session.services.content import Content  # noqa: PLC0415 - as above

        services.append(Content(layouts))
    return Session(
        services,
        shared_key=shared_key(inputs.directory) if inputs.directory is not None else secrets.token_hex(16),
        name=inputs.name,
    )
