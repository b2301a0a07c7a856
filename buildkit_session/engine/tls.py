"""TLS settings as an ``ssl.SSLContext``."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, NoReturn

from buildkit_session.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buildkit_session.engine.address import TlsFiles

__all__ = ["client_context"]


def client_context(files: TlsFiles, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """Load the PEM files. Blocks on the disk for some milliseconds: call it in a thread.

    Args:
        files: what to load.
        alpn: protocols to offer in the handshake, the preferred one first.

    Raises:
        InputError: a file is missing or unusable, or the private key is encrypted.
    """
    try:
        context = ssl.create_default_context(cafile=files.ca)
        if not files.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if files.cert is not None:
            context.load_cert_chain(files.cert, files.key, password=_refuse_password)
    except OSError as exc:  # ssl.SSLError is an OSError
        # Neither ssl nor OpenSSL says which file it stumbled over.
        names = ", ".join(str(path) for path in (files.ca, files.cert, files.key) if path is not None)
        msg = f"the TLS files cannot be used ({names}): {exc.strerror or exc}"
        raise InputError(msg) from exc
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def _refuse_password() -> NoReturn:
    # Without a callback OpenSSL would stop the program to ask on the terminal.
    msg = "the TLS private key is encrypted: decrypt it with 'openssl pkey -in key.pem -out plain.pem'"
    raise InputError(msg)
