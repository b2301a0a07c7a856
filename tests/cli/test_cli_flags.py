"""The grammar of command lines: what docker's flag parser does with the same words."""

from __future__ import annotations

import pytest

from buildkit_session.cli.flags import Flag, UsageError, describe, parse

FLAGS = (
    Flag("no-cache", "a switch"),
    Flag("quiet", "a switch with a letter", short="q"),
    Flag("tag", "a value with a letter", "NAME", short="t"),
)


@pytest.mark.parametrize(
    ("words", "values", "operands"),
    [
        (["--tag", "a"], {"tag": ["a"]}, []),
        (["--tag=a"], {"tag": ["a"]}, []),
        (["--tag="], {"tag": [""]}, []),
        (["--tag=a=b"], {"tag": ["a=b"]}, []),
        (["--tag", "--quiet"], {"tag": ["--quiet"]}, []),
        (["-t", "a"], {"tag": ["a"]}, []),
        (["-ta"], {"tag": ["a"]}, []),
        (["-t=a"], {"tag": ["a"]}, []),
        (["-t", "-"], {"tag": ["-"]}, []),
        (["-qta"], {"quiet": ["true"], "tag": ["a"]}, []),
        (["-qt", "a"], {"quiet": ["true"], "tag": ["a"]}, []),
        (["-q=false"], {"quiet": ["false"]}, []),
        (["-tq"], {"tag": ["q"]}, []),
        (["--no-cache=0"], {"no-cache": ["0"]}, []),
        (["--no-cache", "false"], {"no-cache": ["true"]}, ["false"]),
        (["-t", "a", "--tag=b"], {"tag": ["a", "b"]}, []),
        ([".", "-q"], {"quiet": ["true"]}, ["."]),
        (["-"], {}, ["-"]),
        (["-q", "--", "-q", "--"], {"quiet": ["true"]}, ["-q", "--"]),
        ([""], {}, [""]),
    ],
)
def test_words_are_taken_apart_as_docker_does(
    words: list[str], values: dict[str, list[str]], operands: list[str]
) -> None:
    line = parse(FLAGS, words)
    assert (line.values, line.operands) == (values, operands)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nope"], "unknown flag: --nope"),
        (["--no-cach"], "unknown flag: --no-cach"),
        (["--t", "a"], "unknown flag: --t"),
        (["-x"], "unknown shorthand flag: 'x' in -x"),
        (["-qx"], "unknown shorthand flag: 'x' in -qx"),
        (["--tag"], "flag needs an argument: --tag"),
        (["-t"], "flag needs an argument: 't' in -t"),
        (["-qt"], "flag needs an argument: 't' in -qt"),
        (["--no-cache=maybe"], "invalid argument 'maybe' for --no-cache: expected true or false"),
        (["-q=x"], "invalid argument 'x' for -q: expected true or false"),
        (["--=x"], "unknown flag: --"),
    ],
)
def test_broken_words_are_named(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(FLAGS, words)
    assert str(caught.value) == message


def test_the_last_value_counts() -> None:
    line = parse(FLAGS, ["-ta", "-tb", "-q", "-q=false"])
    assert line.last("tag") == "b"
    assert line.all("tag") == ["a", "b"]
    assert not line.is_set("quiet")
    assert line.last("no-cache") is None


def test_unmixed_flags_end_at_the_first_operand() -> None:
    line = parse(FLAGS, ["-q", "build", "--nope"], mixed=False)
    assert (line.values, line.operands) == ({"quiet": ["true"]}, ["build", "--nope"])


def test_flags_before_the_command_fill_what_is_missing_after_it() -> None:
    line = parse(FLAGS, ["-ta"])
    line.fill_from(parse(FLAGS, ["-tb", "-q"]))
    assert line.values == {"tag": ["a"], "quiet": ["true"]}


def test_help_has_one_column_of_explanations() -> None:
    assert describe(FLAGS).splitlines() == [
        "      --no-cache   a switch",
        "  -q, --quiet      a switch with a letter",
        "  -t, --tag NAME   a value with a letter",
    ]
