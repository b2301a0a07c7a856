"""The build contexts, and the files beside them, that the command lines of the drop-in suite name.

Every file has the same time, so that two copies of a context are the same for a daemon and for what comes back.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CONTEXTS", "MADE_AT", "lay", "packed"]

#: 2017-07-14, in seconds.
MADE_AT = 1_500_000_000
#: Stands for the program itself.
BUSYBOX = "<busybox>"

Files: TypeAlias = dict[str, str]

# Two stages, an argument and a label; no step runs a program.
_FILES: Files = {
    "Dockerfile": (
        "FROM scratch AS first\n"
        "COPY a.txt /a.txt\n"
        "FROM scratch AS second\n"
        "ARG GREETING=hello\n"
        "LABEL greeting=$GREETING\n"
        "COPY dir /dir\n"
        "COPY --from=first /a.txt /copied.txt\n"
    ),
    "other.Dockerfile": "FROM scratch\nCOPY a.txt /other.txt\n",
    "a.txt": "a\n",
    "dir/b.txt": "b\n",
    "dir/deep/c.txt": "c\n",
}
_TOOLS = "FROM scratch AS tools\nCOPY busybox /bin/busybox\n"


def _running(script: str, *, options: str = "", before: str = "") -> Files:
    """A step that runs a script, and a last stage with what it left in /made."""
    step = f'RUN {options}["/bin/busybox", "sh", "-c", "/bin/busybox mkdir /made; {script}"]\n'
    last = "FROM scratch\nCOPY --from=made /made /\n"
    return {"Dockerfile": f"{_TOOLS}FROM tools AS made\n{before}{step}{last}", "busybox": BUSYBOX}


_SECRETS = (
    "by-file",
    "by-type",
    "by-env",
    "by-env-type",
    "by-env-src",
    "token.txt",
    "VARIABLE",
    "quoted",
    "empty",
    "last",
)


CONTEXTS: dict[str, Files] = {
    "files": _FILES,
    "lower": {"dockerfile": "FROM scratch\nCOPY a.txt /lower.txt\n", "a.txt": "a\n"},
    "ignoring": {
        "Dockerfile": "FROM scratch\nCOPY . /all\n",
        ".dockerignore": "# comment\n*.log\n!kept.log\nsecret\n**/deep\n",
        "own.Dockerfile": "FROM scratch\nCOPY . /own\n",
        "own.Dockerfile.dockerignore": "*\n!a.txt\n",
        "a.txt": "a\n",
        "lost.log": "lost\n",
        "kept.log": "kept\n",
        "secret/key": "key\n",
        "x/deep/file": "file\n",
        "x/flat/file": "file\n",
    },
    "run": _running("echo hello $NAME >/made/out", before="ARG NAME=world\n"),
    "failing": _running("echo to be seen; exit 7"),
    "syntax-error": {"Dockerfile": "FROM scratch\nCOPPY a /\n"},
    "lacking": {"Dockerfile": "FROM scratch\nCOPY missing /\n"},
    "warned": {"Dockerfile": "from scratch\nCOPY a.txt /\nENV key value\n", "a.txt": "a\n"},
    "hosts": _running("/bin/busybox grep example /etc/hosts >/made/hosts"),
    "shm": _running("/bin/busybox df -k /dev/shm | /bin/busybox awk 'NR==2{print $2}' >/made/shm"),
    "ulimit": _running("ulimit -n >/made/soft; ulimit -Hn >/made/hard; ulimit -c >/made/core"),
    "network": _running("/bin/busybox ls /sys/class/net | /bin/busybox grep -c . >/made/count"),
    "cgroup": _running("echo ran >/made/out"),
    "secret": _running("/bin/busybox cat /run/secrets/token >/made/token", options="--mount=type=secret,id=token "),
    "required-secret": _running("true", options="--mount=type=secret,id=token,required=true "),
    "ssh": _running("test -S $SSH_AUTH_SOCK && echo agent >/made/ssh", options="--mount=type=ssh,required=true "),
    "ssh-id": _running(
        "test -S $SSH_AUTH_SOCK && echo agent >/made/ssh", options="--mount=type=ssh,id=key,required=true "
    ),
    "secrets": _running(
        "; ".join(f"/bin/busybox cat /run/secrets/{name} >/made/{name}" for name in _SECRETS),
        options="".join(f"--mount=type=secret,id={name},required=true " for name in _SECRETS),
    ),
    "two-stages": {
        "Dockerfile": (
            f"{_TOOLS}FROM tools AS one\n"
            'RUN ["/bin/busybox", "touch", "/one"]\n'
            "FROM tools AS two\n"
            'RUN ["/bin/busybox", "touch", "/two"]\n'
            "FROM scratch\nCOPY --from=one /one /\nCOPY --from=two /two /\n"
        ),
        "busybox": BUSYBOX,
    },
    "based": {"Dockerfile": "ARG BASE\nFROM $BASE\nCOPY a.txt /on-top.txt\n", "a.txt": "a\n"},
    "named": {"Dockerfile": "FROM scratch\nCOPY --from=extra . /extra\n"},
    "named-file": {"Dockerfile": "FROM scratch\nCOPY --from=extra a.txt /extra.txt\n"},
    "named-stage": {"Dockerfile": "FROM scratch AS extra\nCOPY a.txt /\nFROM extra\nCOPY a.txt /b\n", "a.txt": "a\n"},
    "documented": {
        "Dockerfile": (
            "# the version to build\nARG VERSION=1\n"
            "# what is shipped\nFROM scratch AS shipped\nARG VERSION\n"
            "# needed inside\nARG INNER=2\nCOPY a.txt /\n"
            "FROM shipped AS other\nCOPY a.txt /b\n"
        ),
        "a.txt": "a\n",
    },
}

# Beside every context.
_BESIDE: Files = {
    "outside/Named.Dockerfile": "FROM scratch\nCOPY . /named\n",
    "outside/Own.Dockerfile": "FROM scratch\nCOPY . /own\n",
    "outside/Own.Dockerfile.dockerignore": "*\n!a.txt\n",
    "extra/extra.txt": "extra\n",
    "token.txt": "a secret",
    "token,2.txt": "a secret\nof two lines",
    "empty.txt": "",
}


def lay(folder: Path, name: str, busybox: Path) -> None:
    """Lay a context down as ``folder/context``, and the files that belong beside it."""
    for path, text in {**_BESIDE, **{f"context/{path}": text for path, text in CONTEXTS[name].items()}}.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if text == BUSYBOX:
            shutil.copyfile(busybox, target)
            target.chmod(0o755)
        else:
            target.write_text(text)
            target.chmod(0o644)
    for entry in [*folder.rglob("*"), folder]:
        os.utime(entry, (MADE_AT, MADE_AT))


def packed(folder: Path, *, compress: bool = False) -> bytes:
    """Pack a folder as a tar archive, the same one whenever it is packed."""
    raw = io.BytesIO()
    # In the oldest format: a header of another takes more than the first 1024 bytes, by which buildx knows an archive.
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(folder.rglob("*")):
            archive.add(path, path.relative_to(folder).as_posix(), recursive=False)
    return gzip.compress(raw.getvalue(), mtime=0) if compress else raw.getvalue()
