"""Settings that docker and its plugins keep in files of JSON.

Some hold passwords, so no error shows any of their content.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from buildkit_session.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Settings"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Settings:
    """A JSON object of docker's files; keys match in any case, as in Go's decoder.

    Every method that reads a value raises ``InputError``, which names the source, where it has the wrong type.

    Attributes:
        source: where it was read from, for errors.
        entries: what it holds.
    """

    source: str
    entries: Mapping[str, object] = field(repr=False)

    @classmethod
    def read(cls, file: Path, *, missing_ok: bool = False) -> Settings:
        """Read a file; one that may be missing counts as empty.

        Raises:
            InputError: it cannot be read, or holds no JSON object.
        """
        try:
            text = file.read_bytes()
        except FileNotFoundError:
            if missing_ok:
                return cls(str(file), {})
            raise
        except OSError as exc:
            msg = f"{file} cannot be read: {exc.strerror}"
            raise InputError(msg) from exc
        return cls.parse(text, str(file))

    @classmethod
    def parse(cls, text: str | bytes, source: str) -> Settings:
        """Read a text.

        Raises:
            InputError: it holds no JSON object.
        """
        try:
            entries = json.loads(text)
        except ValueError:
            msg = f"{source} is not JSON"
            raise InputError(msg) from None  # the decoder's own error holds all of it
        except RecursionError:
            msg = f"{source} is nested too deeply"
            raise InputError(msg) from None
        if not isinstance(entries, dict):
            msg = f"{source} does not hold a JSON object"
            raise InputError(msg)
        return cls(source, entries)

    def _get(self, key: str) -> object:
        if key in self.entries:
            return self.entries[key]
        return next((value for name, value in self.entries.items() if name.lower() == key.lower()), None)

    def _typed(self, key: str, kind: type, default: object) -> object:
        value = self._get(key)
        if value is None:
            return default
        if not isinstance(value, kind):
            msg = f"{key!r} in {self.source} has the wrong type"
            raise InputError(msg)
        return value

    def text(self, key: str) -> str:
        """A text; empty where there is none."""
        return str(self._typed(key, str, ""))

    def flag(self, key: str) -> bool:
        """A truth value; false where there is none."""
        return bool(self._typed(key, bool, default=False))

    def table(self, key: str) -> Settings:
        """An object; empty where there is none."""
        value = self._typed(key, dict, {})
        return Settings(self.source, value if isinstance(value, dict) else {})

    def tables(self, key: str) -> list[Settings]:
        """A list of objects; empty where there is none."""
        return [Settings(self.source, value) for value in self._list(key, dict)]

    def words(self, key: str) -> list[str]:
        """A list of texts; empty where there is none."""
        return self._list(key, str)

    def _list(self, key: str, kind: type[_T]) -> list[_T]:
        value = self._typed(key, list, [])
        found = [part for part in value if isinstance(part, kind)] if isinstance(value, list) else []
        if found != value:
            msg = f"{key!r} in {self.source} holds something of the wrong type"
            raise InputError(msg)
        return found

    def texts(self) -> dict[str, str]:
        """All of it, as texts."""
        return {key: self.text(key) for key in self.entries}
