"""Versions of the Docker Engine API, such as ``1.41``."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["ApiVersion"]

# Five digits are far above any version; unbounded ones would make int() of a peer's header costly.
_PATTERN = re.compile(r"v?([0-9]{1,5})\.([0-9]{1,5})", re.ASCII)


class ApiVersion(NamedTuple):
    """An API version; compares by number, prints as ``1.41``."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> ApiVersion:
        """Read ``1.41`` or ``v1.41``.

        Raises:
            ValueError: the text has another form.
        """
        match = _PATTERN.fullmatch(text.strip())
        if match is None:
            msg = f"{text[:40]!r} is not an API version such as '1.41'"
            raise ValueError(msg)
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"
