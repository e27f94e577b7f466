"""The certificate of services on loopback that speak https."""

from __future__ import annotations

from pathlib import Path

CERTIFICATE = Path(__file__).with_name("loopback.pem")
"""A certificate for 127.0.0.1, localhost and service.invalid that nobody trusts, and its key, which guards nothing.

Made once, with OpenSSL 3.0: `openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes`, CN=loopback,
and `openssl ca -selfsign -startdate 20200101000000Z -enddate 21200101000000Z` with the extensions basicConstraints
critical,CA:TRUE, keyUsage critical,digitalSignature,keyCertSign, subjectKeyIdentifier hash, subjectAltName
IP:127.0.0.1,DNS:localhost,DNS:service.invalid; then both files put together. Python 3.13 is strict about these
extensions.
"""
