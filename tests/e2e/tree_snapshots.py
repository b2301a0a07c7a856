"""Directories and tar archives as comparable values."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def of_directory(root: Path) -> dict[str, tuple[object, ...]]:
    """Kind, mode, size, time in ns, link target and content of every entry; hard links by the first name."""
    entries: dict[str, tuple[object, ...]] = {}
    first_names: dict[int, str] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        found = path.lstat()
        kind = stat.S_IFMT(found.st_mode)
        content = target = first = ""
        if stat.S_ISREG(found.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            if found.st_nlink > 1:
                first = first_names.setdefault(found.st_ino, name)
        if stat.S_ISLNK(found.st_mode):
            target = os.readlink(path)
        size = 0 if stat.S_ISDIR(found.st_mode) else found.st_size
        entries[name] = (kind, stat.S_IMODE(found.st_mode), size, found.st_mtime_ns, target, content, first)
    return entries


def of_tar(path: Path) -> list[tuple[object, ...]]:
    """Every member in order, with all that its header says, and its content."""
    with tarfile.open(path) as archive:
        members: list[tuple[object, ...]] = []
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            content = hashlib.sha256(file.read()).hexdigest() if file else ""
            header = (member.name, member.type, member.mode, member.uid, member.gid, member.size, member.linkname)
            members.append((*header, sorted(member.pax_headers.items()), member.mtime, content))
        return members
