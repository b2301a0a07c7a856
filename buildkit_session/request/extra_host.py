"""Names and addresses for ``/etc/hosts`` of RUN steps: ``--add-host``.

Source: docker/buildx:build/utils.go (toBuildkitExtraHosts).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from buildkit_session.errors import InputError
from buildkit_session.request.fields import read_fields
from buildkit_session.wording import a_type

__all__ = ["HOST_GATEWAY", "ExtraHost", "parse", "read_extra_hosts", "split_flag"]

HOST_GATEWAY: Final = "host-gateway"
"""Stands for the address of the machine that the daemon runs on, which only the daemon knows."""


@dataclass(frozen=True, slots=True)
class ExtraHost:
    """One name.

    Attributes:
        name: of the host.
        addresses: IPv4 or IPv6 without brackets, or :data:`HOST_GATEWAY` alone.
    """

    name: str
    addresses: tuple[str, ...]

    def resolved(self, gateway: str | None) -> list[tuple[str, str]]:
        """Pairs of name and address.

        Args:
            gateway: the address for :data:`HOST_GATEWAY`.

        Raises:
            InputError: it is needed and not known.
        """
        if self.addresses != (HOST_GATEWAY,):
            return [(self.name, address) for address in self.addresses]
        if gateway is None:
            raise InputError(
                f"unable to derive the IP value for {HOST_GATEWAY} of {self.name}: this daemon does not tell its "
                "address; write the address itself"
            )
        return [(self.name, gateway)]


def read_extra_hosts(given: object) -> tuple[ExtraHost, ...]:
    """Take a mapping of names to addresses, or a sequence of texts as :func:`parse` takes them.

    Raises:
        InputError: it is neither, or one of them cannot be.
    """
    if given is None:
        return ()
    if isinstance(given, Mapping):
        return tuple(_host(name, addresses, f"{name}={addresses}") for name, addresses in given.items())
    several = (given,) if isinstance(given, str | ExtraHost) else given
    if not isinstance(several, Iterable):
        raise InputError(f"add_hosts must be a list of texts such as name=10.0.0.1, not {a_type(given)}")
    return tuple(host if isinstance(host, ExtraHost) else parse(host) for host in several)


def parse(text: object) -> ExtraHost:
    """Read ``NAME=ADDRESS[,ADDRESS...]``; a colon will do for the sign, and IPv6 may have brackets.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(text, str):
        raise InputError(f"a host must be a text such as name=10.0.0.1, not {a_type(text)}")
    name, separator, addresses = text.partition("=" if "=" in text else ":")
    return _host(name if separator else "", addresses, text)


def split_flag(text: str) -> list[str]:
    """Take one ``--add-host`` apart: the flag is itself a record of several hosts.

    Raises:
        InputError: a quote is misplaced.
    """
    return read_fields(text, f"host {text!r}")


def _host(name: object, addresses: object, text: str) -> ExtraHost:
    parts = addresses.split(",") if isinstance(addresses, str) else addresses
    if not isinstance(name, str) or not name or not isinstance(parts, list | tuple) or not parts:
        raise InputError(f"invalid host {text}: use NAME=ADDRESS")
    if list(parts) == [HOST_GATEWAY]:
        return ExtraHost(name, (HOST_GATEWAY,))
    return ExtraHost(name, tuple(_address(str(part), text) for part in parts))


def _address(part: str, text: str) -> str:
    bare = part[1:-1] if len(part) > 2 and part.startswith("[") and part.endswith("]") else part
    try:
        address = ip_address(bare)
    except ValueError:
        address = None
    # The daemon takes no zone, such as that of fe80::1%eth0.
    if address is None or "%" in bare:
        raise InputError(f"invalid host {text}: {part or 'an empty text'} is no IP address")
    return bare
