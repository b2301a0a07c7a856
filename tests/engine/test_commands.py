"""The programs that lead to a daemon: what is run, word by word."""

from __future__ import annotations

import pytest

from buildkit_session.engine.address import ContainerAddress, PodAddress, SshAddress, parse_address
from buildkit_session.engine.commands import command_for
from buildkit_session.errors import InputError

SSH = ["ssh", "-o", "ConnectTimeout=30", "-T"]


@pytest.fixture(autouse=True)
def no_replacement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUILDKIT_SESSION_SSH", raising=False)


@pytest.mark.parametrize(
    ("text", "buildkitd", "command"),
    [
        ("ssh://h", False, [*SSH, "--", "h", "docker system dial-stdio"]),
        ("ssh://me@h:1", False, [*SSH, "-l", "me", "-p", "1", "--", "h", "docker system dial-stdio"]),
        ("ssh://h/a%20b", False, [*SSH, "--", "h", "docker '--host=unix:///a b' system dial-stdio"]),
        ("ssh://h/$(evil)", False, [*SSH, "--", "h", "docker '--host=unix:///$(evil)' system dial-stdio"]),
        ("ssh://h", True, [*SSH, "--", "h", "buildctl dial-stdio"]),
        ("ssh://h/s", True, [*SSH, "--", "h", "buildctl --addr unix:///s dial-stdio"]),
        ("podman-container://a", True, ["podman", "exec", "-i", "a", "buildctl", "dial-stdio"]),
        ("nerdctl-container://a", True, ["nerdctl", "exec", "-i", "a", "buildctl", "dial-stdio"]),
        ("kube-pod://p", True, ["kubectl", "exec", "-i", "p", "--", "buildctl", "dial-stdio"]),
        (
            "kube-pod://p?context=c&namespace=n&container=k",
            True,
            [
                "kubectl",
                "--context=c",
                "--namespace=n",
                "exec",
                "--container=k",
                "-i",
                "p",
                "--",
                "buildctl",
                "dial-stdio",
            ],
        ),
    ],
)
def test_commands(text: str, buildkitd: bool, command: list[str]) -> None:
    """What the other side's shell takes apart again is quoted for it."""
    address = parse_address(text)
    assert isinstance(address, SshAddress | ContainerAddress | PodAddress)
    assert command_for(address, buildkitd=buildkitd) == command


def test_another_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable replaces the program, and may add options."""
    monkeypatch.setenv("BUILDKIT_SESSION_SSH", "/opt/ssh -F 'my config'")
    assert command_for(SshAddress("h"), buildkitd=False)[:3] == ["/opt/ssh", "-F", "my config"]
    monkeypatch.setenv("BUILDKIT_SESSION_SSH", "ssh '")
    with pytest.raises(InputError, match="BUILDKIT_SESSION_SSH is no command line"):
        command_for(SshAddress("h"), buildkitd=False)
