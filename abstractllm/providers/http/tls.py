"""The process's one TLS context. Making it reads the system's certificates, which takes about 20 ms."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from abstractllm.errors import ConfigurationError
from abstractllm.threads import ForkSafeLock

_lock = ForkSafeLock()
_context: ssl.SSLContext | None = None


def tls_context() -> ssl.SSLContext:
    """Return the context that all connections share, made at the first call. Not for an event loop's thread.

    OpenSSL trusts what SSL_CERT_FILE and SSL_CERT_DIR name instead of its own defaults; it ignores one that is not
    there, after which no certificate is trusted, so that is a ConfigurationError here.
    """
    global _context
    with _lock:
        if _context is None:
            _context = new_context()
        return _context


def new_context() -> ssl.SSLContext:
    """Return a context that verifies certificates and host names, with the trust that the environment says."""
    for variable, is_there in (("SSL_CERT_FILE", Path.is_file), ("SSL_CERT_DIR", Path.is_dir)):
        named = os.environ.get(variable)
        if named and not any(is_there(Path(part)) for part in named.split(os.pathsep)):
            raise ConfigurationError(
                f"{variable}={named!r} is not there; correct the environment variable or unset it."
            )
    try:
        return ssl.create_default_context()
    except (ssl.SSLError, OSError) as error:
        raise ConfigurationError(f"The trusted certificates cannot be read: {error}") from error
