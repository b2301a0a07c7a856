"""Registries with one image, which ask for a password or a token; in this process."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Iterator

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


class Registry:
    """Wants a password, as HTTP has it.

    Attributes:
        host: with the port.
        asked: the Authorization fields of all requests, in order.
    """

    def __init__(self, authorization: str) -> None:
        self.asked: list[str | None] = []
        self.host = ""
        self._authorization = authorization
        image = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}
        config = json.dumps(image).encode()
        about = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(config), "size": len(config)}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": about, "layers": []}
        self._manifest = json.dumps(manifest).encode()
        self._blobs = {digest(blob): blob for blob in (config, self._manifest)}

    @property
    def challenge(self) -> str:
        return 'Basic realm="test"'

    def answer(self, path: str, authorization: str | None) -> tuple[int, dict[str, str], bytes]:
        self.asked.append(authorization)
        if authorization != self._authorization:
            return 401, {"WWW-Authenticate": self.challenge}, b""
        if "/manifests/" in path:
            return 200, {"Content-Type": MANIFEST, "Docker-Content-Digest": digest(self._manifest)}, self._manifest
        blob = self._blobs.get(path.rpartition("/")[2])
        return (404, {}, b"") if blob is None else (200, {"Content-Type": "application/octet-stream"}, blob)


class TokenRegistry(Registry):
    """Wants a token of its own token server, which takes one password.

    Attributes:
        sent: the forms that were posted to the token server, in order.
    """

    def __init__(self, password: str) -> None:
        super().__init__("Bearer the-token")
        self.sent: list[dict[str, str]] = []
        self._password = password

    @property
    def challenge(self) -> str:
        return f'Bearer realm="http://{self.host}/token",service="test",scope="repository:team/base:pull"'

    def token(self, form: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        self.sent.append(form)
        if form.get("password") != self._password:
            return 403, {}, json.dumps({"errors": [{"code": "DENIED", "message": "wrong password"}]}).encode()
        return 200, {"Content-Type": "application/json"}, b'{"access_token": "the-token", "expires_in": 300}'


RegistryT = TypeVar("RegistryT", bound=Registry)


@contextmanager
def running(registry: RegistryT) -> Iterator[RegistryT]:
    """Serve on a port of 127.0.0.1, which daemons take for insecure: plain HTTP is tried."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        default_request_version = "HTTP/1.1"  # so that a TLS greeting is answered in a way that daemons understand

        def do_GET(self) -> None:
            self.reply(*registry.answer(self.path, self.headers.get("Authorization")))

        def do_POST(self) -> None:
            form = self.rfile.read(int(self.headers["Content-Length"])).decode()
            assert isinstance(registry, TokenRegistry)
            self.reply(*registry.token(dict(parse_qsl(form))))

        def reply(self, status: int, fields: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {**fields, "Content-Length": str(len(body)), "Connection": "close"}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - the name is the base class's

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        registry.host = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()
