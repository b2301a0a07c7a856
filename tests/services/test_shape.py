"""All services of the library have one shape, say what their calls ask for, and are in docs/services.md."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest

import buildkit_session
from buildkit_session.grpc.metadata import Metadata
from buildkit_session.messages.containerd.services.content.v1 import InfoRequest, WriteContentRequest
from buildkit_session.messages.moby.buildkit.secrets.v1 import GetSecretRequest
from buildkit_session.messages.moby.buildkit.v1.frontend import ResolveSourceMetaResponse
from buildkit_session.messages.moby.buildkit.v1.sourcepolicy.policysession import CheckPolicyRequest
from buildkit_session.messages.moby.filesync.v1 import CredentialsRequest
from buildkit_session.messages.moby.sshforward.v1 import CheckAgentRequest
from buildkit_session.messages.pb.ops import SourceOp
from buildkit_session.services.auth import Auth
from buildkit_session.services.content import Content
from buildkit_session.services.credentials import StaticCredentials
from buildkit_session.services.exporter import Exporter
from buildkit_session.services.filesend import FileSend
from buildkit_session.services.filesync import FileSync
from buildkit_session.services.health import Health
from buildkit_session.services.policy_verifier import PolicyVerifier
from buildkit_session.services.secrets import Secrets
from buildkit_session.services.ssh import Ssh
from buildkit_session.services.upload import Upload

FOLDER = Path(buildkit_session.__file__).parent / "services"
DOCUMENT = FOLDER.parents[1] / "docs" / "services.md"

SERVICES: dict[str, Any] = {
    "auth": lambda: Auth(StaticCredentials({})),
    "content": lambda: Content({}),
    "exporter": lambda: Exporter(cast("Any", None)),
    "filesend": lambda: FileSend({}),
    "filesync": lambda: FileSync({}),
    "health": lambda: Health(()),
    "policy_verifier": lambda: PolicyVerifier(cast("Any", None)),
    "secrets": lambda: Secrets({}),
    "ssh": lambda: Ssh({}),
    "upload": lambda: Upload([]),
}
"""By module."""

NO_SERVICES = {"__init__": "their protocol", "auth_calls": "a part of auth", "deferred": "any", "own": "the caller's"}


def source(identifier: str) -> CheckPolicyRequest:
    return CheckPolicyRequest(source=ResolveSourceMetaResponse(source=SourceOp(identifier)))


STORE = [(b"buildkit-attachable-store-id", b"oci:base")]


def test_none_is_left_out() -> None:
    """A new service has a line above, and so its shape, its subjects and its documentation are looked at."""
    found = {path.stem for path in FOLDER.glob("*.py") if "def routes(self)" in path.read_text()}
    assert found - set(NO_SERVICES) == set(SERVICES)


@pytest.mark.parametrize("module", SERVICES)
def test_one_module_has_one_service(module: str) -> None:
    """Its docstring names the service first and in the end its source; a row of the document names each method."""
    text = inspect.getdoc(import_module(f"buildkit_session.services.{module}")) or ""
    head = re.match(r"``([\w.]+)``: ", text)
    assert head is not None
    assert "\nSource: " in text
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| `/{head[1]}/`")]
    assert len(rows) == 1
    for route in SERVICES[module]().routes():
        service, _, method = route.path.rpartition("/")
        assert service == f"/{head[1]}"
        assert f"`{method}`" in rows[0]


@pytest.mark.parametrize(
    ("module", "method", "metadata", "request_", "subject"),
    [
        ("filesync", "DiffCopy", [(b"dir-name", b"context")], None, "context"),
        ("filesync", "TarStream", [], None, ""),
        ("filesend", "DiffCopy", [(b"buildkit-attachable-exporter-id", b"3")], None, "3"),
        ("filesend", "DiffCopy", [], None, "0"),
        ("secrets", "GetSecret", [], GetSecretRequest(id="npm"), "npm"),
        ("auth", "Credentials", [], CredentialsRequest(host="ghcr.io"), "ghcr.io"),
        ("ssh", "CheckAgent", [], CheckAgentRequest(), "default"),
        ("ssh", "ForwardAgent", [(b"buildkit.ssh.id", b"github")], None, "github"),
        ("upload", "Pull", [(b"urlpath", b"/id")], None, "context"),
        ("policy_verifier", "CheckPolicy", [], source("https://me:pw@h/a@b?sig=x"), "https://h/a@b"),
        ("policy_verifier", "CheckPolicy", [], source("git://me:pw@h/a.git#main"), "git://h/a.git#main"),
        ("policy_verifier", "CheckPolicy", [], source("docker-image://a@sha256:b"), "docker-image://a@sha256:b"),
        ("policy_verifier", "CheckPolicy", [], CheckPolicyRequest(), ""),
        ("content", "ListStatuses", STORE, None, "oci:base"),
        ("content", "Info", STORE, InfoRequest(digest="sha256:a"), "oci:base sha256:a"),
        ("content", "Write", STORE, WriteContentRequest(ref="r"), "oci:base r"),
        ("content", "Write", STORE, WriteContentRequest(ref="r", expected="sha256:a"), "oci:base sha256:a"),
    ],
)
def test_what_a_call_asks_for(
    module: str, method: str, metadata: list[tuple[bytes, bytes]], request_: Any, subject: str
) -> None:
    [told] = [route.subject for route in SERVICES[module]().routes() if route.path.endswith(f"/{method}")]
    assert told.needs_request == (request_ is not None)
    assert told.tell(Metadata(metadata), request_) == subject


def test_those_say_it_that_have_something_to_name() -> None:
    for module, make in SERVICES.items():
        assert all((route.subject is None) == (module in {"exporter", "health"}) for route in make().routes())
