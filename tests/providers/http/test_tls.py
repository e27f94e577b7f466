"""TLS: which certificates are trusted, and what is said of others."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from abstractllm.errors import ConfigurationError, ProviderConnectionError
from abstractllm.providers.http.tls import new_context
from abstractllm.testing.loopback import LoopbackServer

from .toy import STREAM, Toy, failure, friendly, text

CERTIFICATE = Path(__file__).with_name("loopback.pem")
"""A certificate for 127.0.0.1 and localhost that nobody trusts, and its key, which guards nothing.

Made once, with OpenSSL 3.0: `openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes`, CN=loopback,
and `openssl ca -selfsign -startdate 20200101000000Z -enddate 21200101000000Z` with the extensions basicConstraints
critical,CA:TRUE, keyUsage critical,digitalSignature,keyCertSign, subjectKeyIdentifier hash, subjectAltName
IP:127.0.0.1,DNS:localhost; then both files put together. Python 3.13 is strict about these extensions.
"""


def test_tls_with_a_server_that_has_none():
    with LoopbackServer([STREAM]) as server, Toy(server.url.replace("http:", "https:")) as llm:
        error = failure(llm, ProviderConnectionError)
        assert "No TLS connection" in error.message
        assert llm.pauses == []
        assert server.requests == []


@pytest.fixture
def tls_server():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    with LoopbackServer(friendly, tls=context) as server:
        yield server


def test_a_certificate_that_nobody_trusts(tls_server):
    with Toy(tls_server.url) as llm:
        error = failure(llm, ProviderConnectionError)
        assert "not trusted" in error.message
        assert "SSL_CERT_FILE" in error.message
        assert llm.pauses == []  # it will be the same next time
    assert tls_server.requests == []


def test_ssl_cert_file_names_who_is_trusted(tls_server, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    context = new_context()
    monkeypatch.setattr("abstractllm.providers.http.provider.tls_context", lambda: context)
    for url in (tls_server.url, tls_server.url.replace("https:", "HTTPS:")):
        with Toy(url) as llm:
            assert text(llm) == "Hi"
            assert llm.generate("Hi").content == "Hi"


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_certificates_that_are_not_there(monkeypatch, tmp_path, variable):
    monkeypatch.setenv(variable, str(tmp_path / "missing"))
    with pytest.raises(ConfigurationError, match=variable):
        new_context()
