"""Certificates for mutual TLS on loopback, made by the ``openssl`` program for one test run."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from buildkit_session.testing.errors import Unavailable

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Certificates", "make_certificates", "openssl"]

_DAYS = "2"
_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
# The name that clients on loopback connect to.
_SERVER_NAMES = "subjectAltName=IP:127.0.0.1,DNS:localhost"


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: an authority, and what it has signed for a server and for its clients.

    ``ca``, ``cert`` and ``key`` are named as a Docker client expects them, in a folder fit for ``DOCKER_CERT_PATH``.

    Attributes:
        ca: whom both sides trust.
        cert: of the client.
        key: of the client.
        server_cert: valid for 127.0.0.1 and localhost.
        server_key: of the server.
    """

    ca: Path
    cert: Path
    key: Path
    server_cert: Path
    server_key: Path


def make_certificates(folder: Path) -> Certificates:
    """Make an authority and certificates signed by it, all valid for two days.

    Args:
        folder: where the files go; it exists.

    Raises:
        Unavailable: there is no ``openssl``, or it failed.
    """
    openssl(
        "req", "-x509", *_CURVE, "-days", _DAYS, "-subj", "/CN=test authority",
        *("-keyout", folder / "ca-key.pem", "-out", folder / "ca.pem"),
    )  # fmt: skip
    _signed(folder, "server", "localhost", f"{_SERVER_NAMES}\nextendedKeyUsage=serverAuth\n")
    _signed(folder, "client", "test client", "extendedKeyUsage=clientAuth\n")
    (folder / "client.pem").rename(folder / "cert.pem")
    (folder / "client-key.pem").rename(folder / "key.pem")
    return Certificates(
        ca=folder / "ca.pem",
        cert=folder / "cert.pem",
        key=folder / "key.pem",
        server_cert=folder / "server.pem",
        server_key=folder / "server-key.pem",
    )


def _signed(folder: Path, name: str, subject: str, extensions: str) -> None:
    request, settings = folder / f"{name}.csr", folder / f"{name}.ext"
    settings.write_text(extensions)
    openssl("req", *_CURVE, "-subj", f"/CN={subject}", "-keyout", folder / f"{name}-key.pem", "-out", request)
    openssl(
        "x509", "-req", "-days", _DAYS, "-in", request, "-extfile", settings, "-CAcreateserial",
        *("-CA", folder / "ca.pem", "-CAkey", folder / "ca-key.pem", "-out", folder / f"{name}.pem"),
    )  # fmt: skip
    request.unlink()
    settings.unlink()


def openssl(*arguments: str | Path, data: bytes = b"") -> bytes:
    """Run ``openssl`` on ``data`` and return what it printed.

    Raises:
        Unavailable: there is none, or it failed.
    """
    try:
        done = subprocess.run(["openssl", *arguments], input=data, capture_output=True, timeout=60, check=True)
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"openssl {arguments[0]} failed: {error.stderr.decode(errors='replace')}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(
            f"openssl could not be run (on Debian and Ubuntu: apt-get install openssl): {error}"
        ) from error
    return done.stdout
