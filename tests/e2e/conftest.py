from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

DOCKERFILE = """\
FROM scratch AS tools
COPY busybox /bin/busybox

FROM tools AS made
RUN ["/bin/busybox", "sh", "-c", "\\
  mkdir -p /made/deep/er /made/shut && echo one > /made/one && : > /made/empty && \\
  ln -s deep/er /made/link && ln -s /nowhere /made/dangling && ln /made/one /made/same && \\
  echo x > /made/shut/inside && chmod 555 /made/shut && echo y > /made/run && chmod 750 /made/run && \\
  chmod 400 /made/empty && mkfifo /made/pipe && mkdir -m 1777 /made/tmp"]

FROM scratch AS files
COPY . /ctx
COPY --from=made /made /made
"""


@pytest.fixture(scope="session")
def rich_context(tmp_path_factory: pytest.TempPathFactory, busybox: Path) -> Path:
    """1,000 files in nested directories, links of both kinds, odd modes and times, and a RUN step in two stages."""
    root = tmp_path_factory.mktemp("rich")
    shutil.copy(busybox, root / "busybox")
    (root / "Dockerfile").write_text(DOCKERFILE)
    for number in range(1000):
        path = root / f"d{number % 10}" / f"e{number % 7}" / f"file-{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d\n" % number * (number % 50))
        path.chmod((0o644, 0o600, 0o755, 0o444, 0o640)[number % 5])
        os.utime(path, ns=(0, 1_500_000_000_123_456_789 + number * 1_000_003))
    (root / "d0" / "link").symlink_to("e0/file-0.txt")
    (root / "d0" / "dangling").symlink_to("/does/not/exist")
    (root / "d0" / "dir-link").symlink_to("e1")
    (root / "hard").hardlink_to(root / "d1" / "e1" / "file-1.txt")
    (root / "empty-dir").mkdir()
    (root / "d0-sibling").write_text("sorts between d0 and d0/... in plain string order")
    (root / "d0.txt").write_text("dot")
    (root / "big.bin").write_bytes(bytes(range(256)) * 20_000)
    (root / "name with  spaces ü").write_text("unusual")
    (root / "old").write_text("before the epoch")
    os.utime(root / "old", ns=(0, -1_000_000_001))
    (root / "shut").mkdir(mode=0o700)
    (root / "shut" / "file").write_text("in a read-only directory")
    (root / "shut").chmod(0o555)
    return root
