"""Outputs: the grammar of ``--output``, as buildx 0.29.1 reads the same text, and the checks before a build."""

from __future__ import annotations

import io
import os
import pty
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_session import output
from buildkit_session.errors import InputError
from buildkit_session.fsutil.options import ReceiveOptions
from buildkit_session.fsutil.policy import Policy
from buildkit_session.fsutil.quota import Limits
from buildkit_session.output import (
    STDOUT,
    CacheOnlyOutput,
    CustomOutput,
    DockerOutput,
    ImageOutput,
    ListingOutput,
    LocalOutput,
    OciOutput,
    Output,
    TarOutput,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from buildkit_session.local_output import Mode


def a_local(dest: str, **attrs: str) -> LocalOutput:
    return LocalOutput(Path(dest), attrs)


# Each was given to ``docker buildx build -o`` and did what is written here.
ACCEPTED: list[tuple[str, Output]] = [
    ("out", a_local("out")),
    ("dest=out", a_local("dest=out")),
    ("TYPE=tar", a_local("TYPE=tar")),
    ("#x", a_local("#x")),
    (" a ", a_local(" a ")),
    (" -", a_local(" -")),
    ("-", TarOutput(None)),
    ("type=tar", TarOutput(None)),
    ("type=tar,dest=", TarOutput(None)),
    ("type=tar,dest=-", TarOutput(None)),
    ("type=tar,dest=a.tar", TarOutput(Path("a.tar"))),
    ("type=local,dest=out", a_local("out")),
    ("dest=out,type=local", a_local("out")),
    (" Type=local, DEST =out", a_local("out")),
    ("type=local,dest= a ", a_local(" a ")),
    ("type=local,dest=a=b", a_local("a=b")),
    ("type=local,dest=a,dest=b", a_local("b")),
    ("type=local,type=tar,dest=b", TarOutput(Path("b"))),
    ('"type=local","dest=a,b"', a_local("a,b")),
    ('type=local,"dest=a""b"', a_local('a"b')),
    ("type=local,\ndest=a", a_local("a")),
    ("\ntype=local,dest=a\n", a_local("a")),
    ("type=local,dest=b,platform-split=false", LocalOutput(Path("b"), {"platform-split": "false"})),
    ("type=local,=x,dest=b", LocalOutput(Path("b"), {"": "x"})),
    ("type=image", ImageOutput()),
    ("type=moby", ImageOutput()),
    ("type=image,name=a:b,push=false", ImageOutput("a:b")),
    ("type=image,push=true", ImageOutput(push=True)),
    ("type=image,oci-mediatypes=true", ImageOutput(attrs={"oci-mediatypes": "true"})),
    ("type=image,dest=x", ImageOutput()),
    ("type=registry", ImageOutput(push=True)),
    ("type=registry,name=a:b,push=false", ImageOutput("a:b", push=True)),
    ("type=oci", OciOutput()),
    ("type=oci,dest=-", OciOutput()),
    ("type=oci,dest=a.tar,compression=zstd", OciOutput(Path("a.tar"), {"compression": "zstd"})),
    ("type=oci,dest=a,tar=false", OciOutput(Path("a"), tar=False)),
    ("type=oci,dest=a,tar=maybe", OciOutput(Path("a"))),
    ("type=docker", DockerOutput()),
    ("type=docker,dest=", DockerOutput()),
    ("type=docker,context=other", DockerOutput(context="other")),
    ("type=docker,dest=-", DockerOutput(STDOUT)),
    ("type=docker,dest=a.tar", DockerOutput(Path("a.tar"))),
    ("type=docker,dest=a,tar=0", DockerOutput(Path("a"), tar=False)),
    ("type=cacheonly", CacheOnlyOutput()),
    ("type=foo,a=b", CustomOutput("foo", {"a": "b"})),
    ("type= local ,dest=a", CustomOutput(" local ", {"dest": "a"})),
    ("type=LOCAL", CustomOutput("LOCAL")),
]

REFUSED: list[tuple[str, str]] = [
    ("", "must not be empty"),
    ("a,b", "invalid value 'a'"),
    ('"a"', "invalid value 'a'"),
    ('"a,b"', "invalid value 'a,b'"),
    ('"-"', "invalid value '-'"),
    ("type=local,foo", "invalid value 'foo'"),
    ("type=local,,dest=b", "invalid value ''"),
    ("dest=a,x=b", "type is required"),
    ("type=,dest=a", "type is required"),
    ('type=local,dest="a"', "misplaced quote"),
    ('type=local,dest=a"b', "misplaced quote"),
    ('"type=local,dest=a', "misplaced quote"),
    ('"type=local"x,dest=a', "misplaced quote"),
    ("type=local", "dest is required"),
    ("type=local,dest=", "dest is required"),
    ("type=local,dest=-", "cannot be stdout"),
    ("type=oci,tar=false", "dest is required for oci exporter"),
    ("type=oci,tar=false,dest=-", "cannot be stdout for oci exporter"),
    ("type=docker,tar=false", "dest is required for docker exporter"),
    ("type=docker,tar=f,dest=-", "cannot be stdout for docker exporter"),
]

# Fields of ours, which no daemon is sent.
OWN: list[tuple[str, Output]] = [
    ("permissions=upstream", LocalOutput(Path("o"), permissions="upstream")),
    ("permissions=safe,mode=copy", LocalOutput(Path("o"))),
    ("mode=mirror,force=true", LocalOutput(Path("o"), mode="mirror", force=True)),
    ("MODE=swap", LocalOutput(Path("o"), mode="swap")),
    ("incremental=true", LocalOutput(Path("o"), incremental=True)),
    ("include=a,exclude=b,include=c;d", LocalOutput(Path("o"), include=("a", "c;d"), exclude=("b",))),
    ('"include=a,b"', LocalOutput(Path("o"), include=("a,b",))),
    ("umask=022,owner=1:2", LocalOutput(Path("o"), umask=0o022, owner=(1, 2))),
    ("stall-timeout=1.5", LocalOutput(Path("o"), stall_timeout=1.5)),
    ("stall_timeout=0", LocalOutput(Path("o"), stall_timeout=None)),
    ("platform-split=false,umask=0", LocalOutput(Path("o"), {"platform-split": "false"})),
    ("list-only=false", LocalOutput(Path("o"))),
    ("max-size=10GB,max-entries=300000", LocalOutput(Path("o"), max_bytes=10 * 1000**3, max_entries=300_000)),
    ("max_bytes=1Ki", LocalOutput(Path("o"), max_bytes=1024)),
]

OWN_REFUSED: list[tuple[str, str]] = [
    ("dest=o,permissions=all", "'all' for permissions: expected safe or upstream"),
    ("dest=o,mode=replace", "'replace' for mode: expected merge or mirror or swap"),
    ("dest=o,mode=delete", "mode=mirror does the same"),
    ("dest=o,mode=swap,incremental=true", "nothing incremental"),
    ("dest=o,force=true", "merging removes nothing"),
    ("dest=o,incremental=maybe", "expected true or false"),
    ("dest=o,umask=888", "expected an octal number"),
    ("dest=o,umask=1777", "not between 0 and 0777"),
    ("dest=o,umask=-1", "not between 0 and 0777"),
    ("dest=o,owner=root", "expected UID:GID"),
    ("dest=o,owner=1:", "expected UID:GID"),
    ("dest=o,owner=1:4294967295", "not a user and a group id"),
    ("dest=o,stall-timeout=soon", "expected a number of seconds"),
    ("dest=o,stall-timeout=-1", "not a positive number"),
    ("dest=o,stall-timeout=nan", "not a positive number"),
    ("dest=o,max-size=much", "for max-size: expected a size such as 10GB"),
    ("dest=o,max-size=0", "max-size (max_bytes) 0 is not a positive number; leave it out"),
    ("dest=o,max-entries=1k", "for max-entries: expected a number"),
    ("dest=o,max-entries=0", "max-entries 0 is not a positive number"),
    ("list-only=true,max-entries=0", "max-entries 0 is not a positive number"),
    ("list-only=true,dest=o", "leave dest=o out"),
    ("list-only=true,umask=022,mode=mirror", "no meaning: mode, umask"),
    ("dest=o,inkremental=true", "no attribute inkremental; did you mean incremental?"),
    ("dest=o,permission=upstream", "did you mean permissions?"),
    ("dest=o,max-entry=5", "did you mean max-entries?"),
    ("list-only=true,excludes=a", "did you mean exclude?"),
]


@pytest.mark.parametrize(("fields", "expected"), OWN)
def test_options_of_a_directory_are_not_sent(fields: str, expected: Output) -> None:
    parsed = output.parse(f"type=local,dest=o,{fields}")
    assert parsed == expected
    assert set(parsed.exporter[1]) <= {"platform-split"}


@pytest.mark.parametrize(("fields", "message"), OWN_REFUSED)
def test_options_that_cannot_be_are_refused(fields: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        output.parse(f"type=local,{fields}")
    assert message in str(caught.value)


def test_a_listing_has_no_destination() -> None:
    expected = ListingOutput({"platform-split": "false"}, include=("a",))
    assert output.parse("type=local,list-only=true,include=a,platform-split=false") == expected
    assert output.listing(include="a", platform_split=False) == expected
    assert expected.exporter == ("local", {"platform-split": "false"})
    assert output.listing(exclude=["b"], stall_timeout=None).receive_options == ReceiveOptions(
        exclude=("b",), stall_timeout=None
    )


def test_limits_are_for_the_receiver() -> None:
    """A keyword or a field, none of them is sent; without any there are none."""
    local = output.local("o", max_bytes=5, max_entries=6)
    assert local.receive_options.limits == Limits(5, 6)
    assert local.exporter == ("local", {})
    assert output.local("o").receive_options.limits == output.tar().limits == Limits()
    assert output.listing(max_entries=7).receive_options.limits == Limits(max_entries=7)
    assert output.parse("type=local,list-only=true,max-entries=7") == output.listing(max_entries=7)


@pytest.mark.parametrize("key", ["max-size", "max_size", "MAX-BYTES"])
def test_an_archive_has_a_size(key: str) -> None:
    made = output.parse(f"type=tar,dest=a.tar,{key}=1,{key}=1.5kB")
    assert made == output.tar("a.tar", max_bytes=1500)
    assert made.exporter == ("tar", {})
    assert output.tar(max_bytes=1).limits == output.tar(io.BytesIO(), max_bytes=1).limits == Limits(1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max-size=x", "for max-size: expected a size"),
        ("max-size=0", "max-size (max_bytes) 0 is not a positive number"),
        ("max-entries=5", "max-entries is for type=local: an archive is one file"),
        ("max_entries=5", "max-entries is for type=local: an archive is one file"),
    ],
)
def test_limits_that_an_archive_cannot_have(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        output.parse(f"type=tar,{text}")
    assert message in str(caught.value)


@pytest.mark.parametrize("make", [lambda **attrs: output.local("o", **attrs), output.tar, output.listing])
def test_no_limit_gets_lost(make: Callable[..., Output]) -> None:
    """The field's name as a keyword would be an attribute for the daemon, which ignores it."""
    with pytest.raises(InputError, match="the keyword is max_bytes"):
        make(max_size=5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: output.local("o", inkremental=True), "did you mean incremental?"),
        (lambda: LocalOutput(Path("o"), {"mode": "mirror"}), "mode is an option of the output"),
        (lambda: output.tar("a.tar", mode="mirror"), "mode is for type=local"),
        (lambda: output.parse("type=tar,exclude=a"), "exclude is for type=local"),
        (lambda: output.tar(max_byte=5), "did you mean max-bytes?"),
        (lambda: output.listing(umask=0), "umask is for type=local"),
    ],
)
def test_no_option_becomes_an_attribute(make: Callable[[], Output], message: str) -> None:
    """The daemon ignores an attribute that it does not know, and the caller would believe in the option."""
    with pytest.raises(InputError) as caught:
        make()
    assert message in str(caught.value)


def test_attributes_of_the_exporter_are_none_of_ours() -> None:
    attrs = {"platform-split": "false", "attestation-prefix": "a", "annotation.include": "x", "epoch": "0"}
    assert LocalOutput(Path("o"), attrs).exporter == ("local", attrs)
    assert TarOutput(None, attrs).exporter == ("tar", attrs)


def test_other_types_keep_fields_of_the_same_name() -> None:
    assert output.parse("type=oci,mode=delete,umask=x") == OciOutput(None, {"mode": "delete", "umask": "x"})


def test_keywords_mean_the_same_as_fields() -> None:
    text = "type=local,dest=o,permissions=upstream,mode=mirror,incremental=1,include=a,exclude=b,umask=022,owner=1:2"
    made = output.local(
        "o",
        permissions="upstream",
        mode="mirror",
        incremental=True,
        include=["a"],
        exclude="b",
        umask=0o022,
        owner=(1, 2),
    )
    assert made == output.parse(text)
    assert made.receive_options == ReceiveOptions(
        policy=Policy(upstream=True, umask=0o022, owner=(1, 2)), include=("a",), exclude=("b",), incremental=True
    )


@pytest.mark.parametrize(("text", "expected"), ACCEPTED)
def test_what_buildx_accepts_means_the_same(text: str, expected: Output) -> None:
    assert output.parse(text) == expected


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_buildx_refuses_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        output.parse(text)
    assert message in str(caught.value)


def test_push_must_be_a_boolean() -> None:
    """The one value that buildx lets pass on a docker driver and we do not: it would be ignored."""
    with pytest.raises(InputError, match="expected true or false"):
        output.parse("type=image,push=maybe")


@given(st.text(alphabet='type=local,des"-\n x'))
def test_any_text_is_an_output_or_a_typed_error(text: str) -> None:
    try:
        parsed = output.parse(text)
    except InputError:
        return
    assert isinstance(parsed, Output)


@given(st.text(min_size=1).filter(lambda dest: dest != "-" and dest == dest.strip("\r\n")))
def test_a_quoted_dest_comes_back_whole(dest: str) -> None:
    field = f"dest={dest}".replace('"', '""')
    assert output.parse(f'type=local,"{field}"') == LocalOutput(Path(dest))


def test_constructors_spell_attributes_as_exporters_do() -> None:
    others: dict[str, Any] = {"annotation.a_b": "c"}
    made = output.local("out", platform_split=False, **others)
    assert made.exporter == ("local", {"platform-split": "false", "annotation.a_b": "c"})


def test_exporters_have_buildkits_names() -> None:
    assert output.image(name="a:b", compression_level=3).exporter == (
        "image",
        {"compression-level": "3", "name": "a:b"},
    )
    assert output.registry(name="a:b").exporter == ("image", {"name": "a:b", "push": "true"})
    assert output.oci("a.tar").exporter == ("oci", {})
    assert output.oci("a", tar=False).exporter == ("oci", {"tar": "false"})
    assert output.docker(context="other").exporter == ("docker", {})
    assert output.cacheonly().exporter == ("cacheonly", {})


def test_the_same_archive_by_constructor_and_by_text() -> None:
    assert output.oci("a.tar", max_bytes=1500) == output.parse("type=oci,dest=a.tar,max-size=1.5kB")
    assert output.docker("-", compression="gzip") == output.parse("type=docker,dest=-,compression=gzip")
    assert output.docker().loads
    assert not output.docker(STDOUT).loads


def test_what_goes_to_standard_output_says_so() -> None:
    on_stdout = ["-", "type=tar", "type=oci", "type=docker,dest=-"]
    elsewhere = ["type=tar,dest=a", "type=oci,dest=a", "type=docker", "type=oci,dest=a,tar=false"]
    assert all(getattr(output.parse(text), "to_stdout") for text in on_stdout)  # noqa: B009 - not all outputs have it
    assert not any(getattr(output.parse(text), "to_stdout") for text in elsewhere)  # noqa: B009


def test_a_mapping_of_the_fields_is_as_good_as_a_text() -> None:
    assert output.parse({"type": "local", "dest": "a,b", "umask": "022"}) == output.local("a,b", umask=0o022)
    with pytest.raises(InputError, match="type is required"):
        output.parse({"dest": "out"})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: output.oci(io.BytesIO(), tar=False), "name a directory"),
        (lambda: output.oci("a", max_entries=5), "max-entries is for type=local and for layouts"),
        (lambda: output.parse("type=docker,dest=a,max-entries=5"), "max-entries is for type=local and for layouts"),
        (lambda: output.docker("a.tar", context="other"), "an archive has none"),
    ],
)
def test_what_does_not_go_together(make: Callable[[], Output], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (output.local, {"umask": "022"}, "umask must be a number such as 0o022, not '022'"),
        (output.local, {"owner": "root"}, "owner 'root' is not a user and a group id"),
        (output.local, {"owner": (1, 2, 3)}, "owner (1, 2, 3) is not"),
        (output.local, {"force": "no", "mode": "swap"}, "force must be True or False, not 'no'"),
        (output.local, {"include": [5]}, "include must be a list of texts, not [5]"),
        (output.local, {"stall_timeout": "5"}, "stall-timeout '5' is not a positive number"),
        (output.local, {"dest": 5}, "the destination of an output must be a path, not an int"),
        (output.tar, {"max_bytes": "1GB"}, "max-size (max_bytes) must be a whole number, not '1GB'"),
        (output.tar, {"dest": 5}, "an archive goes to a path, or to what has write() or send(), not to an int"),
        (output.oci, {"tar": "no"}, "tar must be True or False, not 'no'"),
        (output.image, {"push": "no"}, "push must be True or False, not 'no'"),
    ],
)
def test_options_of_the_wrong_kind(make: Callable[..., Output], options: dict[str, object], message: str) -> None:
    given = options if make is output.image else {"dest": "out", **options}
    with pytest.raises(InputError, match=re.escape(message)):
        make(**given)


def test_tar_takes_paths_files_and_standard_output() -> None:
    file = io.BytesIO()
    assert output.tar(file).dest is file
    assert output.tar("-").dest is None
    assert output.tar().dest is None
    assert output.tar("a.tar").exporter == ("tar", {})
    assert output.tar(Path("a.tar")).dest == Path("a.tar")


@pytest.mark.parametrize("make", [output.local, output.tar])
def test_an_empty_path_is_refused_at_once(make: object) -> None:
    assert callable(make)
    with pytest.raises(InputError, match="must not be empty"):
        make("")


class TestCheck:
    def test_a_missing_directory_and_its_parents_are_fine(self, tmp_path: Path) -> None:
        output.local(tmp_path / "a" / "b").check()
        assert not (tmp_path / "a").exists()

    def test_a_file_is_no_directory(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match="is a file"):
            output.local(tmp_path / "file").check()

    def test_nothing_can_be_made_below_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match="cannot be made"):
            output.local(tmp_path / "file" / "out").check()

    def test_a_relative_directory_is_fine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        output.local("out").check()

    @pytest.mark.parametrize("made", [output.local("o", exclude=["["]), output.listing(include=["a", "["])])
    def test_a_malformed_pattern_is_named(self, made: Output) -> None:
        with pytest.raises(InputError, match=r"pattern '\['"):
            made.check()

    @pytest.mark.parametrize("mode", ["mirror", "swap"])
    @pytest.mark.parametrize(
        ("dest", "reason"),
        [
            ("/", "it is the root of the file system"),
            ("home", "it is the home directory"),
            ("home/..", "it contains the home directory"),
            ("home/work", "it is the working directory"),
            (".", "it is the working directory"),
            ("..", "it is the home directory"),
            ("link", "it is a symbolic link"),
        ],
    )
    def test_what_must_not_be_emptied_by_mistake(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Mode, dest: str, reason: str
    ) -> None:
        """DR-28: unless it is allowed explicitly; merging removes nothing and is always allowed."""
        (tmp_path / "home/work").mkdir(parents=True)
        (tmp_path / "free").mkdir()
        (tmp_path / "link").symlink_to("free")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.chdir(tmp_path / "home/work")
        path = Path(dest) if dest.startswith((".", "/")) else tmp_path / dest
        with pytest.raises(InputError, match=f"{reason}; force=true allows it"):
            output.local(path, mode=mode).check()
        if dest != "/":
            output.local(path, mode=mode, force=True).check()
            output.local(path).check()
        output.local(tmp_path / "free", mode=mode).check()
        output.local(tmp_path / "free/new", mode=mode).check()

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_swap_needs_room_beside_the_directory(self, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        tmp_path.chmod(0o500)
        with pytest.raises(InputError, match=r"what is beside .*/out cannot be written"):
            output.local(tmp_path / "out", mode="swap").check()
        output.local(tmp_path / "out", mode="mirror").check()
        tmp_path.chmod(0o700)

    def test_a_directory_is_no_archive(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="is a directory"):
            output.tar(tmp_path).check()

    def test_the_directory_of_an_archive_must_exist(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="there is no directory"):
            output.tar(tmp_path / "missing" / "a.tar").check()

    def test_an_archive_may_be_new_or_overwritten(self, tmp_path: Path) -> None:
        output.tar(tmp_path / "a.tar").check()
        (tmp_path / "a.tar").touch()
        output.tar(tmp_path / "a.tar").check()

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_directory_without_permission_is_named(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        with pytest.raises(InputError, match="no permission"):
            output.local(tmp_path / "out").check()

    def test_an_archive_does_not_go_to_a_terminal(self) -> None:
        ours, theirs = pty.openpty()
        try:
            with os.fdopen(theirs, "wb", buffering=0) as terminal, pytest.raises(InputError, match="is a terminal"):
                output.tar(terminal).check()
        finally:
            os.close(ours)

    def test_an_archive_does_not_go_to_a_text_file(self) -> None:
        with pytest.raises(InputError, match="binary"):
            TarOutput(io.StringIO()).check()  # type: ignore[arg-type]  # what is tested

    def test_a_closed_standard_output_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdout", None)
        with pytest.raises(InputError, match="standard output is closed"):
            output.tar().check()

    @pytest.mark.parametrize("make", [output.oci, output.docker])
    def test_archives_of_images_are_files_too(self, tmp_path: Path, make: Callable[..., Output]) -> None:
        make(tmp_path / "a.tar").check()
        with pytest.raises(InputError, match="is a directory"):
            make(tmp_path).check()
        make(tmp_path / "new", tar=False).check()
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match="is a file"):
            make(tmp_path / "file", tar=False).check()

    def test_loading_needs_no_standard_output(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdout", None)
        output.docker().check()
        with pytest.raises(InputError, match="standard output is closed; give a docker output a dest"):
            output.docker("-").check()
