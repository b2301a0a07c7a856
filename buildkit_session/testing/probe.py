"""Ask a Docker daemon who it is."""

from __future__ import annotations

from dataclasses import dataclass

from buildkit_session.testing.api import Api, Refused
from buildkit_session.testing.errors import DaemonUnavailable

__all__ = ["Answer", "probe"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a daemon says of itself: its version (``20.10.24+dfsg1``) and the newest API it speaks (``1.41``)."""

    version: str
    api_version: str


def probe(address: str, *, timeout: float = 10) -> Answer:
    """Ask the daemon at an address for its version.

    Args:
        address: ``unix:///path`` or ``tcp://host:port`` (without TLS).
        timeout: seconds for each step of the exchange.

    Raises:
        DaemonUnavailable: nobody answers there, or not as a Docker daemon does.
    """
    try:
        fields = Api(address, timeout=timeout).call("GET", "/version")
        return Answer(version=str(fields["Version"]), api_version=str(fields["ApiVersion"]))
    except (Refused, KeyError, TypeError) as error:
        raise DaemonUnavailable(f"what answers at {address} is not a Docker daemon: {error!r}") from error
