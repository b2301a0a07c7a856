"""Names for ``/etc/hosts``."""

from __future__ import annotations

import pytest

from buildkit_session.errors import InputError
from buildkit_session.request.extra_host import read_extra_hosts, split_flag


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["a=1.2.3.4"], "a=1.2.3.4"),
        (["a:1.2.3.4"], "a=1.2.3.4"),
        (["a:::1", "b=[::2]"], "a=::1,b=::2"),
        (["a=1.2.3.4,[::1]"], "a=1.2.3.4,a=::1"),
        (["a=host-gateway"], "a=10.0.0.1"),
        ({"a": "1.2.3.4", "b": ["::1", "::2"]}, "a=1.2.3.4,b=::1,b=::2"),
        ("a=1.2.3.4", "a=1.2.3.4"),
        (None, ""),
    ],
)
def test_hosts(given: object, told: str) -> None:
    pairs = [pair for host in read_extra_hosts(given) for pair in host.resolved("10.0.0.1")]
    assert ",".join(f"{name}={address}" for name, address in pairs) == told


@pytest.mark.parametrize(
    "text", ["a", "a=", "=1.2.3.4", "a=b", "a=fe80::1%eth0", "a=1.2.3.4,", "a=1.2.3.4,host-gateway"]
)
def test_hosts_without_an_address(text: str) -> None:
    with pytest.raises(InputError, match="invalid host"):
        read_extra_hosts([text])


def test_the_gateway_must_be_known() -> None:
    with pytest.raises(InputError, match="unable to derive the IP value for host-gateway of a"):
        read_extra_hosts("a=host-gateway")[0].resolved(None)


def test_the_flag_is_a_list() -> None:
    assert split_flag('a=1.2.3.4,"b=::1,::2"') == ["a=1.2.3.4", "b=::1,::2"]


@pytest.mark.parametrize("given", [3, [3], {"a": 3}, {3: "::1"}])
def test_what_is_no_list_of_hosts(given: object) -> None:
    with pytest.raises(InputError, match="host"):
        read_extra_hosts(given)
