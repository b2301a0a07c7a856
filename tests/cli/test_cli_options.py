"""The meaning of the flags of ``build``, as ``docker buildx build`` has it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from buildkit_session import output
from buildkit_session.cli.build import FLAGS, BuildOptions, read_options
from buildkit_session.cli.flags import Flag, parse
from buildkit_session.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping

_GLOBAL = (Flag("debug", "", short="D"), Flag("host", "", "ADDRESS", short="H"))


def options(*words: str, environ: Mapping[str, str] | None = None) -> BuildOptions:
    return read_options(parse((*FLAGS, *_GLOBAL), [*words, "."]), environ or {})


def test_without_flags_everything_is_left_to_the_engine() -> None:
    assert options() == BuildOptions(
        context=".",
        address=None,
        file=None,
        tags=[],
        target=None,
        build_args={},
        labels={},
        no_cache=False,
        pull=False,
        network=None,
        platforms=[],
        outputs=[],
        iidfile=None,
        progress="plain",
        prints_id=False,
        debug=False,
    )


def test_every_flag_arrives() -> None:
    words = (
        "-f F -t a -t b --target s --build-arg K=V --label L=W --no-cache --pull --network none --platform linux/arm64"
    )
    found = options(*words.split(), "-oout", "--iidfile=iid", "-D", "-H", "tcp://h:1", "--progress=none")
    assert found == BuildOptions(
        context=".",
        address="tcp://h:1",
        file="F",
        tags=["a", "b"],
        target="s",
        build_args={"K": "V"},
        labels={"L": "W"},
        no_cache=True,
        pull=True,
        network="none",
        platforms=["linux/arm64"],
        outputs=[output.local("out")],
        iidfile=Path("iid"),
        progress="none",
        prints_id=False,
        debug=True,
    )


class TestPairs:
    def test_a_build_arg_without_value_comes_from_the_environment_or_is_dropped(self) -> None:
        found = options("--build-arg", "A", "--build-arg", "B", "--build-arg=C=", environ={"A": "x=y"})
        assert found.build_args == {"A": "x=y", "C": ""}

    def test_a_label_without_value_is_empty(self) -> None:
        assert options("--label", "a", "--label", "b=c=d").labels == {"a": "", "b": "c=d"}

    @pytest.mark.parametrize("flag", ["--build-arg", "--label"])
    def test_an_empty_key_is_refused(self, flag: str) -> None:
        with pytest.raises(InputError, match='invalid key-value pair "=x": empty key'):
            options(flag, "=x")

    def test_the_date_of_the_source_is_passed_on_unless_given(self) -> None:
        environ = {"SOURCE_DATE_EPOCH": "1"}
        assert options(environ=environ).build_args == {"SOURCE_DATE_EPOCH": "1"}
        given = options("--build-arg", "SOURCE_DATE_EPOCH=2", environ=environ)
        assert given.build_args == {"SOURCE_DATE_EPOCH": "2"}


class TestProgress:
    @pytest.mark.parametrize(
        ("words", "variable", "progress", "prints_id"),
        [
            ("", "", "plain", False),
            ("", "plain", "plain", False),
            ("", "tty", "plain", False),
            ("", "quiet", "quiet", False),
            ("--progress=auto", "none", "none", False),
            ("--progress=plain", "quiet", "plain", False),
            ("--progress=quiet", "", "quiet", True),
            ("--progress=none", "", "none", False),
            ("-q", "plain", "quiet", True),
            ("-q --progress=auto", "", "quiet", True),
            ("-q --progress=quiet", "", "quiet", True),
            ("-q --progress=none", "", "none", True),
            ("--quiet=false --progress=plain", "", "plain", False),
        ],
    )
    def test_flags_win_over_the_environment(self, words: str, variable: str, progress: str, prints_id: bool) -> None:
        found = options(*words.split(), environ={"BUILDKIT_PROGRESS": variable})
        assert (found.progress, found.prints_id) == (progress, prints_id)

    @pytest.mark.parametrize("mode", ["plain", "tty", "rawjson"])
    def test_quiet_contradicts_a_display(self, mode: str) -> None:
        with pytest.raises(InputError, match=f"progress={mode} and quiet cannot be used together"):
            options("-q", "--progress", mode)

    def test_an_unknown_mode_is_refused_wherever_it_comes_from(self) -> None:
        with pytest.raises(InputError, match="invalid progress mode foo"):
            options("--progress=foo")
        with pytest.raises(InputError, match="invalid progress mode foo"):
            options(environ={"BUILDKIT_PROGRESS": "foo"})

    @pytest.mark.parametrize("mode", ["tty", "rawjson"])
    def test_a_display_of_a_later_version_is_named(self, mode: str) -> None:
        with pytest.raises(UnsupportedError, match=f"progress mode {mode} is not supported yet"):
            options(f"--progress={mode}")


class TestPlatform:
    def test_repeated_and_comma_separated_platforms_are_one_list(self) -> None:
        assert options("--platform", "a/b, c/d", "--platform", "e/f").platforms == ["a/b", "c/d", "e/f"]

    def test_the_environment_has_a_default(self) -> None:
        environ = {"DOCKER_DEFAULT_PLATFORM": "linux/arm64"}
        assert options(environ=environ).platforms == ["linux/arm64"]
        assert options("--platform=linux/amd64", environ=environ).platforms == ["linux/amd64"]


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(InputError, match='network mode "foo" not supported'):
        options("--network=foo")


def test_standard_input_is_named_as_not_supported() -> None:
    with pytest.raises(UnsupportedError, match="the Dockerfile from standard input"):
        options("-f", "-")
    with pytest.raises(UnsupportedError, match="the build context from standard input"):
        read_options(parse(FLAGS, ["-"]), {})


@pytest.mark.parametrize(("word", "fills"), [("-", True), ("type=tar", True), ("out", False), ("type=image", False)])
def test_an_archive_on_standard_output_is_recognised(word: str, fills: bool) -> None:
    assert options("-o", word).fills_stdout is fills
