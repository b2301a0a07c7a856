"""Digests of content, strictly as OCI writes them: they become names of files.

Source: opencontainers/image-spec:descriptor.md (Digests, Registered Algorithms).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, Self

__all__ = ["Digest"]

_FORMS: Final = {
    "sha256": re.compile(r"[0-9a-f]{64}"),
    "sha384": re.compile(r"[0-9a-f]{96}"),
    "sha512": re.compile(r"[0-9a-f]{128}"),
}


class Digest(NamedTuple):
    """Attributes: ``algorithm``, a name that :mod:`hashlib` knows; ``hex``, lower-case digits."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read ``sha256:<64 hexadecimal digits>``; ``None`` where the text is anything else."""
        algorithm, _, digits = text.partition(":")
        form = _FORMS.get(algorithm)
        return cls(algorithm, digits) if form is not None and form.fullmatch(digits) else None

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"
