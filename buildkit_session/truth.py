"""How Go programs, and so docker and BuildKit, spell booleans.

Source: golang/go:src/strconv/atob.go (ParseBool).
"""

from __future__ import annotations

from typing import Final

__all__ = ["FALSE", "TRUE"]

TRUE: Final = frozenset({"1", "t", "T", "true", "True", "TRUE"})
FALSE: Final = frozenset({"0", "f", "F", "false", "False", "FALSE"})
