"""Files that should rarely leave a machine, told by their names and by how they begin.

A guess, made to be right for what tools write by default; a miss says nothing about a file. Names are compared without
regard to case.
"""

from __future__ import annotations

import re
from fnmatch import translate
from typing import Final, Literal

__all__ = ["Sensitivity", "by_content", "by_name", "bytes_to_see"]

Sensitivity = Literal["private-key", "environment", "credentials"]

KEY_FILE_LIMIT: Final = 64 * 1024
"""Bytes above which a file is too big for a private key."""

_BEGINNING: Final = 256

# RFC 7468, section 2, and its cousins of OpenSSH and OpenPGP; then what PuTTY writes.
_PRIVATE_KEY: Final = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----|PuTTY-User-Key-File-")
_PRIVATE_KEY_AT_START: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:%s)" % _PRIVATE_KEY.pattern)


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, patterns)))


_KEY_NAMES: Final = _any_of(
    *("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "id_ecdsa_sk", "id_ed25519_sk"),
    *("*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.ppk"),
)
_ENVIRONMENT_NAMES: Final = _any_of(".env", ".env.*", "*.env", ".envrc")
# Committed on purpose, to show which variables there are.
_ENVIRONMENT_SAMPLES: Final = _any_of("*.example", "*.sample", "*.template", "*.dist")
_CREDENTIALS_NAMES: Final = _any_of(
    *(".npmrc", ".pypirc", ".netrc", "_netrc", ".git-credentials", ".dockercfg", ".pgpass", ".my.cnf", ".htpasswd"),
    *(".s3cfg", ".boto", ".vault-token", "application_default_credentials.json", "*.tfstate", "*.tfstate.backup"),
)
# The name alone says nothing; that of the directory is needed as well.
_CREDENTIALS_PLACES: Final = frozenset(
    {
        ".aws/credentials",
        ".cargo/credentials",
        ".cargo/credentials.toml",
        ".docker/config.json",
        ".gem/credentials",
        ".kube/config",
        ".m2/settings.xml",
        "containers/auth.json",
        "gh/hosts.yml",
    }
)


def by_name(path: str) -> Sensitivity | None:
    """Tell what a file at ``path`` is likely to hold, or ``None`` for nothing in particular."""
    lowered = path.lower()
    name = lowered.rpartition("/")[2]
    if _KEY_NAMES.match(name):
        return "private-key"
    if _ENVIRONMENT_NAMES.match(name) and not _ENVIRONMENT_SAMPLES.match(name):
        return "environment"
    if _CREDENTIALS_NAMES.match(name) or "/".join(lowered.split("/")[-2:]) in _CREDENTIALS_PLACES:
        return "credentials"
    return None


def bytes_to_see(path: str, size: int) -> int:
    """How many bytes from the start of a file :func:`by_content` needs: 0 if it is too big for a key.

    Files named for the PEM format may begin with certificates, and big ones are lists of these.
    """
    if _is_pem(path):
        return KEY_FILE_LIMIT
    return _BEGINNING if size <= KEY_FILE_LIMIT else 0


def by_content(path: str, content: bytes) -> Sensitivity | None:
    """Tell what a file at ``path`` that starts with ``content`` is likely to hold; a public certificate is nothing."""
    if _PRIVATE_KEY_AT_START.match(content):
        return "private-key"
    if _is_pem(path) and b"-----BEGIN " in content:
        return "private-key" if _PRIVATE_KEY.search(content) else None
    return by_name(path)


def _is_pem(path: str) -> bool:
    return path.lower().endswith(".pem")
