"""The query string of ``POST /build``."""

from __future__ import annotations

import json
from urllib.parse import parse_qs

from buildkit_session.engine.build_params import BuildParams, Ulimit


def test_minimum() -> None:
    """What is not set is not sent."""
    assert BuildParams(build_id="b").query() == "version=2&buildid=b&remote=client-session"


def test_plain_values() -> None:
    """Texts, numbers and repeated names are encoded as the Engine reads them."""
    params = BuildParams(
        build_id="b",
        session="s",
        remote="https://example.com/x.git#main",
        dockerfile="sub dir/D&f",
        tags=["a:1", "b/c:2"],
        target="dist",
        no_cache=True,
        pull=True,
        network="none",
        platform="linux/arm64",
        extra_hosts=["a:1.2.3.4", "h:::1"],
        shm_size=1024,
    )

    assert parse_qs(params.query(), strict_parsing=True) == {
        "version": ["2"],
        "buildid": ["b"],
        "t": ["a:1", "b/c:2"],
        "extrahosts": ["a:1.2.3.4", "h:::1"],
        "session": ["s"],
        "remote": ["https://example.com/x.git#main"],
        "dockerfile": ["sub dir/D&f"],
        "target": ["dist"],
        "nocache": ["1"],
        "pull": ["1"],
        "networkmode": ["none"],
        "platform": ["linux/arm64"],
        "shmsize": ["1024"],
    }


def test_objects() -> None:
    """Maps and lists travel as JSON."""
    params = BuildParams(
        build_id="b",
        outputs=[("local", {}), ("image", {"name": "x", "push": "true"})],
        build_args={"A": "\u20ac&=", "B": None},
        labels={"l": ""},
        cache_from=["r/c:1"],
        ulimits=[Ulimit("nofile", 1, 2)],
    )

    fields = parse_qs(params.query(), strict_parsing=True)

    assert {
        name: json.loads(fields[name][0]) for name in ("outputs", "buildargs", "labels", "cachefrom", "ulimits")
    } == {
        "outputs": [{"Type": "local", "Attrs": {}}, {"Type": "moby", "Attrs": {"name": "x", "push": "true"}}],
        "buildargs": {"A": "\u20ac&=", "B": None},
        "labels": {"l": ""},
        "cachefrom": ["r/c:1"],
        "ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}],
    }


def test_bytes_that_are_no_text() -> None:
    """A file name that is not UTF-8 reaches the Engine as the bytes it is."""
    assert BuildParams(build_id="b", dockerfile="D\udcff").query().endswith("&dockerfile=D%FF")


def test_build_args_stay_private() -> None:
    """Build arguments may hold secrets, so the repr leaves them out."""
    assert "hunter2" not in repr(BuildParams(build_id="b", build_args={"P": "hunter2"}))
