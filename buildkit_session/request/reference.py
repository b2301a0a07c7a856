"""The grammar of image references, as parts of regular expressions: ``[HOST[:PORT]/]PATH[:TAG][@DIGEST]``.

Each part is linear in time. Compile them with ``re.ASCII``.

Source: distribution/reference:regexp.go.
"""

from __future__ import annotations

from typing import Final

__all__ = ["DIGEST", "HOST", "PATH", "TAG"]

_PART: Final = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_LABEL: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"

HOST: Final = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
PATH: Final = rf"{_PART}(?:/{_PART})*"
TAG: Final = r":[\w][\w.-]{0,127}"
DIGEST: Final = r"@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
