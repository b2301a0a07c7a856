"""The generated tree is what the schema says today, and carries nothing else along."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = "schema"
MESSAGES = Path("buildkit_session", "messages")

# What `pip install betterproto2` brings, beside the standard library.
RUNTIME_PACKAGES = {"betterproto2", "dateutil", "typing_extensions"}


def _buf(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the buf of this environment from the root of the repository, its plugins and ruff on the path."""
    tools = Path(sys.executable).parent
    environment = os.environ | {"PATH": os.pathsep.join([str(tools), os.environ.get("PATH", os.defpath)])}
    return subprocess.run(
        [tools / "buf", *arguments], cwd=ROOT, env=environment, check=False, capture_output=True, text=True
    )


def _files(tree: Path) -> dict[str, bytes]:
    return {
        path.relative_to(tree).as_posix(): path.read_bytes()
        for path in tree.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def _generated_modules() -> list[Path]:
    return sorted((ROOT / MESSAGES).rglob("*.py"))


def _absolute_imports(module: Path) -> set[str]:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(module.read_bytes())):
        if isinstance(node, ast.Import):
            imported.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            imported.add(node.module.partition(".")[0])
    return imported


def test_generated_modules_are_fresh(tmp_path: Path) -> None:
    """The committed messages are, byte for byte, what the schema generates."""
    run = _buf("generate", SCHEMA, "--template", f"{SCHEMA}/buf.gen.yaml", "--output", str(tmp_path))
    assert run.returncode == 0, run.stderr

    committed, generated = _files(ROOT / MESSAGES), _files(tmp_path / MESSAGES)
    stale = sorted(name for name in committed.keys() | generated.keys() if committed.get(name) != generated.get(name))
    assert not stale, "run `make schema`"


@pytest.mark.parametrize("check", [("lint",), ("format", "--diff", "--exit-code")], ids=lambda check: str(check[0]))
def test_schema_is_clean(check: tuple[str, ...]) -> None:
    """The .proto files pass buf's checks."""
    run = _buf(*check, SCHEMA)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("source", sorted((ROOT / SCHEMA).rglob("*.proto")), ids=lambda path: str(path.name))
def test_schema_names_upstream(source: Path) -> None:
    """Each .proto file opens with the upstream file that it agrees with."""
    assert source.read_text().startswith("// Agrees ")


def test_generated_modules_need_only_the_runtime() -> None:
    """Messages import nothing that the package does not depend on.

    A message named Descriptor once made its module import google.protobuf.
    """
    imported = set().union(*map(_absolute_imports, _generated_modules()))
    assert imported <= RUNTIME_PACKAGES | sys.stdlib_module_names


def test_packages_load_alone() -> None:
    """Loading the packets of a file transfer loads no other package of messages."""
    listing = "import sys, buildkit_session.messages.fsutil.types; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", listing], cwd=ROOT, check=True, capture_output=True, text=True)
    prefix = "buildkit_session.messages."
    loaded = {name.removeprefix(prefix) for name in run.stdout.split() if name.startswith(prefix)}
    assert loaded == {"fsutil", "fsutil.types", "message_pool"}
