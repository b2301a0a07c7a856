"""The meaning of the flags of ``build``, as ``docker buildx build`` has it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from buildkit_session import output
from buildkit_session.cli.build import FLAGS, BuildOptions, read_options
from buildkit_session.cli.flags import Flag, parse
from buildkit_session.errors import InputError
from buildkit_session.request.build_request import BuildRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

_GLOBAL = (Flag("debug", "", short="D"), Flag("host", "", "ADDRESS", short="H"))


def options(*words: str, environ: Mapping[str, str] | None = None) -> BuildOptions:
    return read_options(parse((*FLAGS, *_GLOBAL), [*words, "."]), environ or {})


def test_without_flags_everything_is_left_to_the_engine() -> None:
    found = options()
    assert BuildRequest.of(**found.keywords) == BuildRequest()
    assert (found.context, found.address, found.builder, found.file) == (".", None, None, None)
    assert (found.call, found.iidfile, found.metadata_file) == ("", None, None)
    assert (found.progress, found.prints_id, found.fills_stdout, found.debug) == ("auto", False, False, False)


def test_every_flag_arrives() -> None:
    words = (
        "-f F -t a -t b --target s --build-arg K=V --label L=W --no-cache --pull --network none --platform linux/arm64 "
        "--add-host h=10.0.0.1 --allow network.host --annotation A=B --attest type=sbom --provenance mode=max "
        "--build-context lib=docker-image://base --cache-from c --cache-to type=inline --cgroup-parent g --shm-size 1m "
        "--ulimit nofile=1:2 --secret id=x,src=y --load --builder w --metadata-file meta --call outline"
    )
    found = options(*words.split(), "-oout", "--iidfile=iid", "-D", "-H", "tcp://h:1", "--progress=none")
    request = BuildRequest.of(**found.keywords)
    assert (found.address, found.builder, found.file, found.call) == ("tcp://h:1", "w", "F", "outline")
    assert (found.iidfile, found.metadata_file, found.progress) == (Path("iid"), Path("meta"), "none")
    assert found.debug
    assert (request.tags, request.target, request.platforms) == (("a", "b"), "s", ("linux/arm64",))
    assert (request.build_args, request.labels, request.annotations) == ({"K": "V"}, {"L": "W"}, {"annotation.A": "B"})
    assert (request.no_cache, request.pull, request.network) == (True, True, "none")
    assert request.outputs[0] == output.LocalOutput(Path("out"), request.annotations)
    assert isinstance(request.outputs[1], output.DockerOutput)
    assert [(host.name, host.addresses) for host in request.add_hosts] == [("h", ("10.0.0.1",))]
    assert (request.allow, request.cgroup_parent, request.shm_size) == (("network.host",), "g", 1 << 20)
    assert request.attests == {"sbom": "type=sbom", "provenance": "type=provenance,mode=max"}
    assert list(request.build_contexts) == ["lib"]
    assert [entry.type for entry in (*request.cache_from, *request.cache_to)] == ["registry", "inline"]
    assert (len(request.ulimits), list(request.secrets)) == (1, ["x"])


def test_no_flag_of_buildx_is_unknown() -> None:
    words = ["--push", "--quiet", "--no-cache-filter=a,b", "--sbom=true", "--check", "--rm", "--force-rm", "--compress"]
    found = options(*words, "--memory=1g", "-m", "1g", "--cpu-shares", "2", "--squash", "-t", "x")
    assert found.call == "check"
    assert BuildRequest.of(**found.keywords).no_cache_filter == ("a", "b")


class TestPairs:
    def test_a_build_arg_without_value_comes_from_the_environment_or_is_dropped(self) -> None:
        found = options("--build-arg", "A", "--build-arg", "B", "--build-arg=C=", environ={"A": "x=y"})
        assert found.keywords["build_args"] == {"A": "x=y", "C": ""}

    def test_a_label_without_value_is_empty(self) -> None:
        assert options("--label", "a", "--label", "b=c=d").keywords["labels"] == {"a": "", "b": "c=d"}

    @pytest.mark.parametrize("flag", ["--build-arg", "--label"])
    def test_an_empty_key_is_refused(self, flag: str) -> None:
        with pytest.raises(InputError, match='invalid key-value pair "=x": empty key'):
            options(flag, "=x")

    def test_the_date_of_the_source_is_passed_on_unless_given(self) -> None:
        environ = {"SOURCE_DATE_EPOCH": "1"}
        assert options(environ=environ).keywords["build_args"] == {"SOURCE_DATE_EPOCH": "1"}
        given = options("--build-arg", "SOURCE_DATE_EPOCH=2", environ=environ)
        assert given.keywords["build_args"] == {"SOURCE_DATE_EPOCH": "2"}


class TestProgress:
    @pytest.mark.parametrize(
        ("words", "progress", "prints_id"),
        [
            ("", "auto", False),
            ("--progress=plain", "plain", False),
            ("--progress=tty", "tty", False),
            ("--progress=rawjson", "rawjson", False),
            ("--progress=quiet", "quiet", True),
            ("--progress=none", "none", False),
            ("-q", "quiet", True),
            ("-q --progress=auto", "quiet", True),
            ("-q --progress=quiet", "quiet", True),
            ("-q --progress=none", "none", True),
            ("--quiet=false --progress=plain", "plain", False),
        ],
    )
    def test_the_id_is_printed_where_quiet_is_asked_for(self, words: str, progress: str, prints_id: bool) -> None:
        found = options(*words.split())
        assert (found.progress, found.prints_id) == (progress, prints_id)

    @pytest.mark.parametrize("mode", ["plain", "tty", "rawjson"])
    def test_quiet_contradicts_a_display(self, mode: str) -> None:
        with pytest.raises(InputError, match=f"progress={mode} and quiet cannot be used together"):
            options("-q", "--progress", mode)

    def test_an_unknown_mode_is_refused(self) -> None:
        with pytest.raises(InputError, match="invalid progress mode foo"):
            options("--progress=foo")


def test_the_environment_has_a_default_platform() -> None:
    environ = {"DOCKER_DEFAULT_PLATFORM": "linux/arm64"}
    assert options(environ=environ).keywords["platforms"] == ["linux/arm64"]
    assert options("--platform=linux/amd64", environ=environ).keywords["platforms"] == ["linux/amd64"]


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(InputError, match='network mode "foo" not supported'):
        options("--network=foo")


@pytest.mark.parametrize(("word", "fills"), [("-", True), ("type=tar", True), ("out", False), ("type=image", False)])
def test_an_archive_on_standard_output_is_recognised(word: str, fills: bool) -> None:
    assert options("-o", word).fills_stdout is fills
