"""A BuildKit client in pure Python.

.. code-block:: python

    import buildkit_session as bk

    async with bk.connect() as client:
        await client.build(".", target="dist", outputs=[bk.output.local("out")])

Names are imported when they are first used, so that ``import buildkit_session`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_session import output
    from buildkit_session.answer import CallAnswer
    from buildkit_session.build import Build, BuildResult
    from buildkit_session.client import Client, connect
    from buildkit_session.context import Context
    from buildkit_session.engine.address import TlsFiles
    from buildkit_session.engine.cache_records import CacheRecord
    from buildkit_session.engine.check_report import CheckReport
    from buildkit_session.engine.daemon import DaemonInfo
    from buildkit_session.engine.events import (
        EngineText,
        ImageId,
        ProgressEvent,
        ProgressGroup,
        Vertex,
        VertexLog,
        VertexStatus,
        VertexWarning,
    )
    from buildkit_session.engine.history_values import BuildRecord, BuildState
    from buildkit_session.engine.info import EngineInfo
    from buildkit_session.engine.workers import Worker
    from buildkit_session.errors import (
        BuildError,
        CallbackError,
        ConnectionClosed,
        EngineError,
        EngineUnreachable,
        FailedStep,
        InputError,
        LocalProtocolError,
        ProtocolError,
        QuotaExceeded,
        RemoteProtocolError,
        RpcError,
        SessionError,
        StreamReset,
        TransferError,
        UnsupportedError,
        UpgradeRefused,
    )
    from buildkit_session.fsutil.dockerignore import IgnoreLine
    from buildkit_session.fsutil.listing import ListedEntry
    from buildkit_session.plan import (
        DirectoryTotal,
        IgnoreDecision,
        Plan,
        PlannedEntry,
        PlannedKind,
        PlanWarning,
        PlanWarningKind,
    )
    from buildkit_session.request import secret, ssh
    from buildkit_session.request.keywords import BuildKeywords
    from buildkit_session.request.session_exporter import SessionExporter
    from buildkit_session.services import policy
    from buildkit_session.services.credentials import Credentials, CredentialSource
    from buildkit_session.services.docker_config import DockerConfig
    from buildkit_session.services.exported import Exported
    from buildkit_session.services.exporter import ExportRequest
    from buildkit_session.source import SourceExcerpt, SourceFile, SourceRange

__all__ = [
    "Build",
    "BuildError",
    "BuildKeywords",
    "BuildRecord",
    "BuildResult",
    "BuildState",
    "CacheRecord",
    "CallAnswer",
    "CallbackError",
    "CheckReport",
    "Client",
    "ConnectionClosed",
    "Context",
    "CredentialSource",
    "Credentials",
    "DaemonInfo",
    "DirectoryTotal",
    "DockerConfig",
    "EngineError",
    "EngineInfo",
    "EngineText",
    "EngineUnreachable",
    "ExportRequest",
    "Exported",
    "FailedStep",
    "IgnoreDecision",
    "IgnoreLine",
    "ImageId",
    "InputError",
    "ListedEntry",
    "LocalProtocolError",
    "Plan",
    "PlanWarning",
    "PlanWarningKind",
    "PlannedEntry",
    "PlannedKind",
    "ProgressEvent",
    "ProgressGroup",
    "ProtocolError",
    "QuotaExceeded",
    "RemoteProtocolError",
    "RpcError",
    "SessionError",
    "SessionExporter",
    "SourceExcerpt",
    "SourceFile",
    "SourceRange",
    "StreamReset",
    "TlsFiles",
    "TransferError",
    "UnsupportedError",
    "UpgradeRefused",
    "Vertex",
    "VertexLog",
    "VertexStatus",
    "VertexWarning",
    "Worker",
    "connect",
    "output",
    "policy",
    "secret",
    "ssh",
]

__version__ = "0.1.0"

# The module that each name comes from; errors are not listed, there are too many.
_HOME = {
    **dict.fromkeys(("Build", "BuildResult"), "build"),
    "BuildKeywords": "request.keywords",
    **dict.fromkeys(("BuildRecord", "BuildState"), "engine.history_values"),
    "CacheRecord": "engine.cache_records",
    "CallAnswer": "answer",
    "CheckReport": "engine.check_report",
    **dict.fromkeys(("Client", "connect"), "client"),
    "Context": "context",
    **dict.fromkeys(("CredentialSource", "Credentials"), "services.credentials"),
    "DaemonInfo": "engine.daemon",
    **dict.fromkeys(
        ("DirectoryTotal", "IgnoreDecision", "Plan", "PlanWarning", "PlanWarningKind", "PlannedEntry", "PlannedKind"),
        "plan",
    ),
    "DockerConfig": "services.docker_config",
    "EngineInfo": "engine.info",
    **dict.fromkeys(
        (
            *("EngineText", "ImageId", "ProgressEvent", "ProgressGroup"),
            *("Vertex", "VertexLog", "VertexStatus", "VertexWarning"),
        ),
        "engine.events",
    ),
    "ExportRequest": "services.exporter",
    "Exported": "services.exported",
    "IgnoreLine": "fsutil.dockerignore",
    "ListedEntry": "fsutil.listing",
    "SessionExporter": "request.session_exporter",
    **dict.fromkeys(("SourceExcerpt", "SourceFile", "SourceRange"), "source"),
    "TlsFiles": "engine.address",
    "Worker": "engine.workers",
}

# Modules that are part of the public face themselves.
_MODULES = {"output": "output", "policy": "services.policy", "secret": "request.secret", "ssh": "request.ssh"}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"buildkit_session.{_MODULES[name]}")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"buildkit_session.{_HOME.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
