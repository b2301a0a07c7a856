"""The shape of the package: imports point downwards, pure parts stay pure, public names are the documented ones."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import buildkit_session

ROOT = Path(buildkit_session.__file__).parent

# From the top down; a module may import from its own layer and from those after it.
LAYERS = ["cli", "client", "engine", "session", "services", "fsutil", "grpc", "http2", "messages", "errors"]
# Beside the layers: values that the client takes, and tools that stand outside.
PLACES = {
    **dict.fromkeys(
        (
            *("answer", "build", "caution", "chosen_outputs", "content_stores", "context", "doctor", "engine_request"),
            *("export_targets", "image_delivery", "inputs", "local_output", "offer", "output", "plan"),
            *("planning", "registry_auth", "request", "running", "solve_request", "ssh_agents"),
        ),
        "client",
    ),
    **dict.fromkeys(("__main__", "testing", "demo"), "cli"),
    **dict.fromkeys(
        (
            *("docker_directory", "docker_settings", "excerpt", "printable", "quantity", "source", "supervision"),
            *("truth", "wording"),
        ),
        "errors",
    ),
}

PURE = [
    "http2/client_core.py",
    "http2/core.py",
    "http2/events.py",
    "http2/fields.py",
    "http2/gate.py",
    "grpc/envelope.py",
    "grpc/outcome.py",
    "grpc/status.py",
]
IMPURE = {"anyio", "asyncio", "aiohttp", "socket", "time", "os", "threading"}


def modules() -> list[Path]:
    return [path for path in ROOT.rglob("*.py") if "messages" not in path.relative_to(ROOT).parts]


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def layer(name: str) -> int | None:
    top = name.split(".")[1] if "." in name else ""
    top = PLACES.get(top, top)
    return LAYERS.index(top) if top in LAYERS else None


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    parts = path.relative_to(ROOT).with_suffix("").parts
    own = layer(".".join(("buildkit_session", *parts)))
    if parts == ("__init__",):
        return  # it exports from everywhere
    assert own is not None, "say above where this module has its place"
    ours = {name for name in imported(path) if name.startswith("buildkit_session.")}
    upwards = {name for name in ours if (place := layer(name)) is not None and place < own}
    assert not upwards


@pytest.mark.parametrize("name", PURE)
def test_the_core_does_no_input_or_output(name: str) -> None:
    assert not {module.split(".")[0] for module in imported(ROOT / name)} & IMPURE


def test_every_public_name_can_be_had() -> None:
    assert sorted(buildkit_session.__all__) == buildkit_session.__all__
    for name in buildkit_session.__all__:
        assert getattr(buildkit_session, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = buildkit_session.nonsense


def test_all_errors_are_exported() -> None:
    errors = {name for name in buildkit_session.errors.__all__ if name[0].isupper()}
    assert errors <= set(buildkit_session.__all__)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, buildkit_session; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"aiohttp", "h2", "betterproto2", "anyio"} & set(loaded)


def test_a_build_starts_without_an_http_library() -> None:
    code = "import sys, buildkit_session.client, buildkit_session.engine.ping; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"aiohttp", "yarl", "multidict"} & set(loaded)
