"""Plans and digests of a context, without a daemon, and against real ones."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import buildkit_session as bk
from buildkit_session.fsutil.filter import Filter
from buildkit_session.fsutil.patterns import MatchState, PatternMatcher
from buildkit_session.fsutil.walk import walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from buildkit_session.fsutil.digest import Permissions
    from buildkit_session.testing import Daemon

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nbm90IGEga2V5\n"


def make(root: Path, *entries: str, ignore: str | None = None) -> bk.Context:
    """Make a context of a Dockerfile and files, and directories where the name ends in a slash."""
    root.mkdir(exist_ok=True)
    for entry in ("Dockerfile", *entries):
        path = root / entry
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.write_text(entry)
    if ignore is not None:
        (root / ".dockerignore").write_text(ignore)
    return bk.Context.find(root)


def paths(plan: bk.Plan) -> list[str]:
    return [entry.path for entry in plan.entries]


def decisions(found: tuple[bk.IgnoreDecision, ...]) -> list[tuple[str, int]]:
    return [(decision.path, decision.line.number) for decision in found]


def warnings(plan: bk.Plan) -> list[tuple[str, str | None]]:
    return [(warning.kind.value, warning.path) for warning in plan.warnings]


# --- what would be sent -----------------------------------------------------------------------------------------------


def test_entries_have_kinds_and_sizes(tmp_path: Path) -> None:
    context = make(tmp_path, "a/one", "empty/", ignore="")
    (tmp_path / "a/same").hardlink_to(tmp_path / "a/one")
    (tmp_path / "link").symlink_to("a/one")
    os.mkfifo(tmp_path / "pipe")
    assert [(entry.path, entry.kind.value, entry.size) for entry in context.plan().entries] == [
        (".dockerignore", "file", 0),
        ("Dockerfile", "file", 10),
        ("a", "directory", 0),
        ("a/one", "file", 5),
        ("a/same", "hardlink", 0),
        ("empty", "directory", 0),
        ("link", "symlink", 0),
        ("pipe", "fifo", 0),
    ]


def test_directories_have_the_bytes_of_all_below_them(tmp_path: Path) -> None:
    plan = make(tmp_path, "a/b/22", "a/b/333", "a/4444", "c/", "a-1").plan()
    assert [(total.path, total.files, total.size) for total in plan.directories] == [
        (".", 5, 10 + 6 + 7 + 6 + 3),
        ("a", 3, 19),
        ("a/b", 2, 13),
        ("c", 0, 0),
    ]
    assert (plan.files, plan.size) == (5, 32)


def test_an_empty_context_has_a_total(tmp_path: Path) -> None:
    plan = make(tmp_path, ignore="*").plan()
    assert (plan.entries, plan.files, plan.size) == ((), 0, 0)
    assert [total.path for total in plan.directories] == ["."]


NAMES = st.sampled_from(["a", "b", "c.x", "#"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
LINES = st.lists(st.from_regex(r"!?/?(a|b|\*|\*\*|\*\.x|\?|\\#)(/(a|b|c\.x|\*|\*\*)){0,2}", fullmatch=True), max_size=5)


@settings(max_examples=60, deadline=None)
@given(st.lists(PATHS, max_size=8), LINES)
def test_sums_and_lines_hold_for_any_tree(files: list[str], lines: list[str]) -> None:
    """The plan is the walk of the transfer; its sums add up; each entry left out is below one decision at least."""
    with TemporaryDirectory() as place:
        root = Path(place)
        (root / "Dockerfile").touch()
        for name in files:
            try:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(name)
            except OSError:
                continue  # the name is taken by an entry of another kind
        (root / ".dockerignore").write_text("\n".join(lines))
        plan = bk.Context.find(root).plan()
        descriptor = os.open(root, os.O_RDONLY)
        # Without its leading slash, a line of these is its own pattern.
        patterns = tuple(line.replace("!/", "!").removeprefix("/") for line in lines)
        assert paths(plan) == [entry.path.decode() for entry in walk(descriptor, Filter(exclude=patterns))]
        os.close(descriptor)
        everything = {str(path.relative_to(root)) for path in root.rglob("*")}
    kept = set(paths(plan))
    for total in plan.directories:
        below = [e for e in plan.entries if total.path == "." or e.path.startswith(f"{total.path}/")]
        assert total.size == sum(entry.size for entry in below)
        assert total.files == sum(entry.kind is bk.PlannedKind.FILE for entry in below)
    excluded = {decision.path for decision in plan.excluded}
    for path in everything - kept:
        assert any(path == top or path.startswith(f"{top}/") for top in excluded)
    for decision in plan.excluded + plan.reincluded:
        assert decision.line.text == lines[decision.line.number - 1]
        assert decision.line.text.startswith("!") == (decision in plan.reincluded)


@given(LINES, PATHS)
def test_the_deciding_line_is_the_last_that_matters(lines: list[str], path: str) -> None:
    def judged(patterns: list[str]) -> MatchState:
        matcher = PatternMatcher(patterns)
        state = matcher.root
        for name in path.split("/"):
            state = matcher.match(state, name)
        return state

    state = judged(lines)
    if state.decider is None:
        assert not state.matched
    else:
        assert lines[state.decider].startswith("!") != state.matched
        assert judged(lines[: state.decider + 1]).matched == state.matched


# --- which line decided -----------------------------------------------------------------------------------------------


def test_an_excluded_directory_is_named_once_and_not_entered(tmp_path: Path) -> None:
    context = make(tmp_path, "d/x", "d/e/y", "z.log", ignore="# rules\nd\n*.log\n")
    plan = context.plan()
    assert plan.ignore_file == ".dockerignore"
    assert decisions(plan.excluded) == [("d", 2), ("z.log", 3)]
    assert [(found.is_directory, found.size, found.line.text) for found in plan.excluded] == [
        (True, 0, "d"),
        (False, 5, "*.log"),
    ]
    assert paths(plan) == [".dockerignore", "Dockerfile"]


def test_exceptions_are_named_where_they_begin(tmp_path: Path) -> None:
    plan = make(tmp_path, "d/e/x", "d/e/y", "d/f", "g", ignore="*\n!d/e\nd/e/y\n").plan()
    assert paths(plan) == ["d", "d/e", "d/e/x"]
    assert decisions(plan.reincluded) == [("d/e", 2)]
    assert decisions(plan.excluded) == [(".dockerignore", 1), ("Dockerfile", 1), ("d", 1), ("d/e/y", 3), ("g", 1)]


def test_a_line_whose_pattern_is_blank_does_not_shift_the_others(tmp_path: Path) -> None:
    plan = make(tmp_path, "a", ignore="/ /\na\n").plan()
    assert decisions(plan.excluded) == [("a", 2)]


def test_the_first_of_two_lines_that_say_the_same_decides(tmp_path: Path) -> None:
    assert decisions(make(tmp_path, "x.log", ignore="*.log\nx.*\n").plan().excluded) == [("x.log", 1)]


def test_the_ignore_file_beside_the_dockerfile_counts(tmp_path: Path) -> None:
    make(tmp_path / "context", "a", "b", ignore="a")
    (tmp_path / "Other").write_text("FROM scratch")
    (tmp_path / "Other.dockerignore").write_text("b")
    plan = bk.Context.find(tmp_path / "context", tmp_path / "Other").plan()
    assert plan.ignore_file == "Other.dockerignore"
    assert paths(plan) == [".dockerignore", "Dockerfile", "a"]


def test_a_malformed_line_is_an_error_for_both(tmp_path: Path) -> None:
    context = make(tmp_path, ignore="a\n[\n")
    for use in (context.plan, context.digest):
        with pytest.raises(bk.InputError, match=r"^\.dockerignore:2: "):
            use()


# --- warnings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("id_rsa", "private-key"),
        ("sub/id_ed25519", "private-key"),
        ("tls/server.KEY", "private-key"),
        ("cert.pem", "private-key"),
        ("store.p12", "private-key"),
        (".env", "environment"),
        ("sub/.env.production", "environment"),
        ("prod.env", "environment"),
        (".npmrc", "credentials"),
        ("home/.netrc", "credentials"),
        (".pypirc", "credentials"),
        ("home/.aws/credentials", "credentials"),
        ("home/.docker/config.json", "credentials"),
        ("infra/terraform.tfstate", "credentials"),
        ("id_rsa.pub", None),
        (".env.example", None),
        ("environment", None),
        ("config.json", None),
        ("aws/credentials", None),
        ("keys.py", None),
    ],
)
def test_names(tmp_path: Path, path: str, kind: str | None) -> None:
    assert warnings(make(tmp_path, path, ignore="").plan()) == ([(kind, path)] if kind else [])


@pytest.mark.parametrize(
    ("name", "content", "warned"),
    [
        ("plain", KEY, True),
        ("plain", "-----BEGIN PRIVATE KEY-----\n", True),
        ("plain", "\ufeff\n -----BEGIN ENCRYPTED PRIVATE KEY-----\n", True),
        ("plain", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n", True),
        ("plain", "PuTTY-User-Key-File-3: ssh-ed25519\n", True),
        ("plain", f"see: {KEY}", False),
        ("plain", "-----BEGIN PUBLIC KEY-----\n", False),
        ("plain", KEY + "x" * 70_000, False),
        ("x.pem", "# an authority\n-----BEGIN CERTIFICATE-----\n" + "x" * 70_000, False),
        ("x.pem", "-----BEGIN CERTIFICATE-----\nx\n" * 100 + KEY, True),
        ("x.pem", "\x30\x82", True),
    ],
)
def test_beginnings_of_files(tmp_path: Path, name: str, content: str, warned: bool) -> None:
    context = make(tmp_path, ignore="")
    (tmp_path / name).write_text(content)
    assert warnings(context.plan()) == ([("private-key", name)] if warned else [])


def test_nothing_of_a_secret_is_in_the_plan(tmp_path: Path) -> None:
    context = make(tmp_path, ignore="")
    (tmp_path / "id_rsa").write_text(KEY)
    (tmp_path / ".env").write_text("PASSWORD=hunter2")
    plan = context.plan()
    assert len(plan.warnings) == 2
    assert "bm90" not in str(plan.entries) + str(plan.warnings)
    assert "hunter2" not in str(plan.entries) + str(plan.warnings)


def test_ignored_files_are_not_warned_about(tmp_path: Path) -> None:
    plan = make(tmp_path, "id_rsa", ".git/config", "big", ignore="id_rsa\n.git\nbig\n").plan(huge_file=3 + 10 + 11)
    assert warnings(plan) == []


def test_version_control_is_named_once_and_only_if_all_of_it_is_sent(tmp_path: Path) -> None:
    make(tmp_path, ".git/HEAD", ".git/objects/x", "sub/.git", ignore="")
    assert warnings(bk.Context.find(tmp_path).plan()) == [("version-control", ".git")]
    (tmp_path / ".dockerignore").write_text(".git\n!.git/HEAD")
    plan = bk.Context.find(tmp_path).plan()
    assert ".git/HEAD" in paths(plan)
    assert warnings(plan) == []


def test_no_ignore_file(tmp_path: Path) -> None:
    plan = make(tmp_path).plan()
    assert plan.ignore_file is None
    assert warnings(plan) == [("no-ignore-file", None)]


def test_limits(tmp_path: Path) -> None:
    context = make(tmp_path, "a", "bb", ignore="")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    assert warnings(context.plan()) == [("huge-file", "sparse")]
    assert warnings(context.plan(huge_file=100 * 1024 * 1024 + 1)) == []
    assert warnings(context.plan(many_files=5)) == [("many-files", None), ("huge-file", "sparse")]
    assert warnings(context.plan(many_files=6)) == [("huge-file", "sparse")]


def test_special_files_and_names(tmp_path: Path) -> None:
    context = make(tmp_path, ignore="")
    os.mkfifo(tmp_path / "pipe")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff/x")).touch()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    plan = context.plan()
    assert warnings(plan) == [("special-file", "pipe"), ("special-file", "socket"), ("name-not-utf8", "\udcff")]
    assert paths(plan)[-3:] == ["socket", "\udcff", "\udcff/x"]


def test_targets_of_links_are_names_too(tmp_path: Path) -> None:
    """Daemons that refuse an odd name refuse an odd target as well."""
    context = make(tmp_path, "f", ignore="")
    (tmp_path / "odd").symlink_to(os.fsdecode(b"\xff"))
    (tmp_path / "plain").symlink_to("\u00e4")
    (warning,) = context.plan().warnings
    assert (warning.kind, warning.path) == ("name-not-utf8", "odd")
    assert "leads to a name that is not UTF-8" in warning.advice


@pytest.fixture
def shared_path() -> Iterator[Path]:
    """A directory that every user can reach."""
    with TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place)


@contextmanager
def without_privileges() -> Iterator[None]:
    user = os.geteuid()
    os.seteuid(user or 65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_what_cannot_be_read_is_a_warning_in_a_plan_and_an_error_in_a_digest(shared_path: Path) -> None:
    context = make(shared_path, "file", "shut/x", "z", ignore="")
    (shared_path / "file").chmod(0)
    (shared_path / "shut").chmod(0)
    with without_privileges():
        plan = context.plan()
        with pytest.raises(bk.TransferError, match="cannot read file"):
            context.digest()
    assert warnings(plan) == [("unreadable", "file"), ("unreadable", "shut")]
    assert paths(plan) == [".dockerignore", "Dockerfile", "file", "z"]


def test_what_is_ignored_need_not_be_readable(shared_path: Path) -> None:
    context = make(shared_path, "file", "shut/x", ignore="file\nshut")
    (shared_path / "file").chmod(0)
    (shared_path / "shut").chmod(0)
    with without_privileges():
        assert warnings(context.plan()) == []
        context.digest()


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A link's name is no secret's, and what it leads to is neither counted nor read."""
    make(tmp_path / "outside", "secret")
    context = make(tmp_path / "context", ignore="")
    (tmp_path / "context/dir").symlink_to("../outside")
    (tmp_path / "context/id_rsa").symlink_to("../outside/secret")
    plan = context.plan()
    assert paths(plan)[-2:] == ["dir", "id_rsa"]
    assert plan.size == 10
    assert warnings(plan) == []


# --- digest -----------------------------------------------------------------------------------------------------------


def rich(root: Path) -> bk.Context:
    context = make(root, "a/one", "a/two", "b/", "run", "ignored", ignore="ignored")
    (root / "run").chmod(0o755)
    (root / "link").symlink_to("a/one")
    return context


def record(kind: bytes, permissions: int, path: bytes, payload: bytes) -> bytes:
    return kind + struct.pack(">HI", permissions, len(path)) + path + payload


def test_the_digest_is_made_of_these_records(tmp_path: Path) -> None:
    """If this changes, the scheme must get another name."""

    def sha256(content: bytes) -> bytes:
        return hashlib.sha256(content).digest()

    records = [
        record(b"f", 0o644, b".dockerignore", sha256(b"ignored")),
        record(b"f", 0o644, b"Dockerfile", sha256(b"Dockerfile")),
        record(b"d", 0, b"a", b""),
        record(b"f", 0o644, b"a/one", sha256(b"a/one")),
        record(b"f", 0o644, b"a/two", sha256(b"a/two")),
        record(b"d", 0, b"b", b""),
        record(b"l", 0, b"link", b"\0\0\0\5a/one"),
        record(b"f", 0o755, b"run", sha256(b"run")),
    ]
    assert rich(tmp_path / "x").digest() == f"bks1:sha256:{sha256(b''.join(records)).hex()}"


def touched(root: Path) -> None:
    os.utime(root / "a/one", ns=(0, 1))
    (root / "ignored").write_text("other")


def masked(root: Path) -> None:
    (root / "a/one").chmod(0o600)
    (root / "run").chmod(0o700)
    (root / "b").chmod(0o2775)


def linked(root: Path) -> None:
    (root / "a/two").write_text("a/one")


def hard_linked(root: Path) -> None:
    (root / "a/two").unlink()
    (root / "a/two").hardlink_to(root / "a/one")


def test_what_checkouts_differ_in_does_not_count(tmp_path: Path) -> None:
    plain, other = rich(tmp_path / "x"), rich(tmp_path / "y")
    touched(other.directory)
    assert other.digest() == plain.digest()
    assert other.digest(permissions="exact") == plain.digest(permissions="exact")
    masked(other.directory)
    assert other.digest() == plain.digest()
    assert other.digest(permissions="exact") != plain.digest(permissions="exact")
    assert plain.digest(permissions="exact").startswith("bks1-exact:sha256:")


def test_hard_links_count_as_files(tmp_path: Path) -> None:
    copied, hard = rich(tmp_path / "x"), rich(tmp_path / "y")
    linked(copied.directory)
    hard_linked(hard.directory)
    assert hard.digest() == copied.digest()


def replaced(root: Path, name: str, make_new: Callable[[Path], object]) -> None:
    path = root / name
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink()
    make_new(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "a/one").write_text("a/onE"),
        lambda root: (root / "a/one").rename(root / "a/on"),
        lambda root: (root / "a/one").rename(root / "b/one"),
        lambda root: (root / "run").chmod(0o644),
        lambda root: (root / "b").rmdir(),
        lambda root: replaced(root, "b", Path.touch),
        lambda root: replaced(root, "b", os.mkfifo),
        lambda root: replaced(root, "link", lambda path: path.symlink_to("a/two")),
        lambda root: replaced(root, "link", lambda path: path.write_text("a/one")),
        lambda root: (root / ".dockerignore").write_text(""),
    ],
)
@pytest.mark.parametrize("permissions", ["portable", "exact"])
def test_what_is_sent_counts(tmp_path: Path, change: Callable[[Path], object], permissions: Permissions) -> None:
    context = rich(tmp_path / "x")
    before = context.digest(permissions=permissions)
    change(context.directory)
    assert context.digest(permissions=permissions) != before


FILES = st.dictionaries(NAMES, st.binary(max_size=4), max_size=3)


@settings(max_examples=40, deadline=None)
@given(FILES, FILES)
def test_digests_are_equal_exactly_if_the_files_are(first: dict[str, bytes], second: dict[str, bytes]) -> None:
    def digest(files: dict[str, bytes]) -> str:
        with TemporaryDirectory() as place:
            for name, content in (*files.items(), ("Dockerfile", b"")):
                Path(place, name).write_bytes(content)
            return bk.Context.find(place).digest()

    assert (digest(first) == digest(second)) == (first == second)


# --- real daemons -----------------------------------------------------------------------------------------------------

ODD: dict[str, dict[str, str | bytes]] = {
    "none": {},
    "exceptions": {".dockerignore": "*\n!d/e/keep\n!Dockerfile\n!**/*.x\nd/e/a.x\n"},
    "bytes": {".dockerignore": "\ufeff#c\r\n /d/** \r\n\r\n! ./d/e/ \r\n\\#x\r\nü*\r\n"},
    "blank pattern": {".dockerignore": "/ /\nd\n"},
    "not UTF-8": {".dockerignore": b"\xff\nd\n"},
    "its own": {".dockerignore": "d", "Dockerfile.dockerignore": "f\nDockerfile*\n"},
    "its own is empty": {".dockerignore": "d", "Dockerfile.dockerignore": ""},
    "its own is a directory": {".dockerignore": "d", "Dockerfile.dockerignore/x": ""},
    "a line as long as can be": {".dockerignore": "#" + "x" * 65534 + "\nd\n"},
}


@pytest.mark.anyio
@pytest.mark.parametrize("files", ODD.values(), ids=ODD)
async def test_copy_of_all_exports_what_was_planned(
    daemon: Daemon, tmp_path: Path, files: dict[str, str | bytes]
) -> None:
    root = tmp_path / "context"
    make(root, "d/e/keep", "d/e/a.x", "d/f", "f", "#x", "ü1", "y/z.x", "empty/")
    (root / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (root / "link").symlink_to("d")
    for name, content in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
    plan = bk.Context.find(root).plan()
    async with bk.connect(daemon.address) as client:
        await client.build(root, outputs=[bk.output.local(tmp_path / "out")])
    exported = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*")}
    assert exported == set(paths(plan))


@pytest.mark.anyio
async def test_a_linked_ignore_file_is_read_as_the_daemon_reads_it(daemon: Daemon, tmp_path: Path) -> None:
    root = tmp_path / "context"
    make(root, "d/x", "f")
    (root / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (root / "rules").write_text("d\nrules\n")
    (root / ".dockerignore").symlink_to("../../rules")
    plan = bk.Context.find(root).plan()
    async with bk.connect(daemon.address) as client:
        await client.build(root, outputs=[bk.output.local(tmp_path / "out")])
    assert sorted(os.listdir(tmp_path / "out")) == sorted(paths(plan)) == [".dockerignore", "Dockerfile", "f"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "ignore", ["#" + "x" * 65535 + "\nd\n", "d\n!\n", "[\n"], ids=["too long", "only !", "malformed"]
)
async def test_what_a_plan_refuses_fails_a_build(daemon: Daemon, tmp_path: Path, ignore: str) -> None:
    root = tmp_path / "context"
    context = make(root, "d/x", ignore=ignore)
    (root / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    with pytest.raises(bk.InputError, match=r"^\.dockerignore:"):
        context.plan()
    async with bk.connect(daemon.address) as client:
        with pytest.raises((bk.BuildError, bk.TransferError, bk.InputError)):
            await client.build(root, outputs=[bk.output.local(tmp_path / "out")])
