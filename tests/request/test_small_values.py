"""The values that are a line of text each: hosts, limits, sizes, privileges, annotations, questions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from buildkit_session.engine.build_params import Ulimit
from buildkit_session.engine.subrequest import Call
from buildkit_session.errors import InputError
from buildkit_session.request import call, extra_host, ulimit
from buildkit_session.request.annotation import needs_index, read_annotations
from buildkit_session.request.entitlement import read_entitlements
from buildkit_session.request.environment import is_on
from buildkit_session.request.extra_host import read_extra_hosts
from buildkit_session.request.shm_size import read_shm_size
from buildkit_session.request.ulimit import read_ulimits

if TYPE_CHECKING:
    from collections.abc import Callable


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
    assert extra_host.attribute(read_extra_hosts(given), "10.0.0.1") == told


@pytest.mark.parametrize(
    "text", ["a", "a=", "=1.2.3.4", "a=b", "a=fe80::1%eth0", "a=1.2.3.4,", "a=1.2.3.4,host-gateway"]
)
def test_hosts_without_an_address(text: str) -> None:
    with pytest.raises(InputError, match="invalid host"):
        read_extra_hosts([text])


def test_the_gateway_must_be_known() -> None:
    with pytest.raises(InputError, match="unable to derive the IP value for host-gateway of a"):
        extra_host.attribute(read_extra_hosts("a=host-gateway"))


def test_the_flag_is_a_list() -> None:
    assert extra_host.split_flag('a=1.2.3.4,"b=::1,::2"') == ["a=1.2.3.4", "b=::1,::2"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["nproc=5", "nofile=1:2"], "nofile=1:2,nproc=5:5"),
        (["nofile=1", "nofile=+2"], "nofile=2:2"),
        (["core=-1:-1", "cpu=5:-1"], "core=-1:-1,cpu=5:-1"),
        ({"nofile": (1, 2), "nproc": 3, "core": "4:5"}, "core=4:5,nofile=1:2,nproc=3:3"),
        ([Ulimit("nofile", 1, 2)], "nofile=1:2"),
        ("nofile=1", "nofile=1:1"),
        (None, ""),
    ],
)
def test_limits(given: object, told: str) -> None:
    assert ulimit.attribute(read_ulimits(given)) == told


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nofile", "invalid ulimit argument: nofile"),
        ("files=1", "invalid ulimit type: files"),
        ("nofile=1:2:3", "too many limit value arguments"),
        ("nofile=x", "invalid limit 'x' for ulimit nofile"),
        ("nofile=1_0", "invalid limit"),
        ("nofile=", "invalid limit ''"),
        ("nofile=9223372036854775808", "invalid limit"),
        ("nofile=3:2", "less than or equal to hard limit: 3 > 2"),
        ("nofile=-1:2", r"less than or equal to hard limit: -1 \(unlimited\) > 2"),
        ({"nofile": True}, "invalid limit True"),
        ([Ulimit("nofile", 3, 2)], "less than or equal"),
        (3, "ulimits must be a list"),
        ([3], "a ulimit must be a text"),
    ],
)
def test_limits_that_cannot_be(given: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_ulimits(given)


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ("64m", 64 << 20),
        ("1G", 1 << 30),
        ("1.5kB", 1536),
        ("2 KiB", 2048),
        ("100b", 100),
        ("100", 100),
        (".5k", 512),
        ("1.m", 1 << 20),
        ("1.7", 1),
        (4096, 4096),
        ("", 0),
        (None, 0),
    ],
)
def test_sizes_of_memory(given: str | int | None, size: int) -> None:
    assert read_shm_size(given) == size


@pytest.mark.parametrize("given", ["x", "-1", "1x", "1mm", "1kbb", "m", "1  m", "9999999p", -1, True, 1 << 63])
def test_sizes_that_cannot_be(given: str | int) -> None:
    with pytest.raises(InputError, match="for shm-size"):
        read_shm_size(given)


def test_privileges() -> None:
    known = ["network.host", "security.insecure", "device", "device=", "device=a/b", "device=a,alias=b", ""]
    assert read_entitlements(known) == tuple(known[:-1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("net.host", "unknown entitlement net.host"),
        ("network.host=", "unknown entitlement network.host="),
        ("device=a,b", "invalid device config 'b'"),
        ("device=a,b=c", "unknown device config key 'b'"),
    ],
)
def test_privileges_that_nobody_knows(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_entitlements([text])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a=b=c"], {"annotation.a": "b=c"}),
        (["manifest:a=b"], {"annotation-manifest.a": "b"}),
        (
            ["index,manifest[linux/arm64/v8]:a=b"],
            {"annotation-index.a": "b", "annotation-manifest[linux/arm64/v8].a": "b"},
        ),
        (["manifest-descriptor[x86_64]:a=b"], {"annotation-manifest-descriptor[linux/amd64].a": "b"}),
        (["index[linux/amd64]:a=b"], {"annotation-index.a": "b"}),
        (["a="], {"annotation.a": ""}),
        ({"a": "b", "index-descriptor:c": "d"}, {"annotation.a": "b", "annotation-index-descriptor.c": "d"}),
        (None, {}),
    ],
)
def test_annotations(given: object, expected: dict[str, str]) -> None:
    assert read_annotations(given) == expected
    assert needs_index(expected) == any("index" in key for key in expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["a"], "invalid annotation 'a', expected key=value"),
        (["layer:a=b"], "unknown annotation type 'layer'"),
        (["manifest[:a=b"], "invalid annotation type"),
        (["manifest[nonsense]:a=b"], "invalid platform"),
        ({"a": 3}, "the value of 'a' must be a text"),
    ],
)
def test_annotations_that_cannot_be(given: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_annotations(given)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("build", None),
        ("build,format=json", None),
        ("check", Call("lint")),
        ("check,ignorestatus=0", Call("lint")),
        ('"targets"', Call("targets")),
        ("outline,format=json", Call("outline", "json")),
        ("format=json,targets,ignorestatus=true", Call("targets", "json", ignore_status=True)),
        ("subrequests.describe", Call("subrequests.describe")),
    ],
)
def test_questions(text: str, expected: Call | None) -> None:
    assert call.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("check,outline", "invalid print value: check,outline"),
        ("check,color=1", "invalid print field: color=1"),
        ("check,ignorestatus=maybe", "invalid ignorestatus print value: maybe"),
        ("format=json", "names no method"),
        (",", "names no method"),
        ('"', "misplaced quote in call"),
    ],
)
def test_questions_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call.parse(text)


@pytest.mark.parametrize(("value", "default", "expected"), [("1", False, True), ("0", True, False), ("x", True, True)])
def test_variables_that_are_neither_true_nor_false_are_not_set(value: str, default: bool, expected: bool) -> None:
    assert is_on({"V": value}, "V", default=default) is expected
    assert is_on({}, "V", default=default) is default


@pytest.mark.parametrize("read", [read_extra_hosts, read_ulimits])
def test_what_is_no_list(read: Callable[[object], object]) -> None:
    with pytest.raises(InputError, match="must be"):
        read(3)
