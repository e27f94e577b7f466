"""TLS: which certificates are trusted, and what is said of others."""

from __future__ import annotations

import ssl

import pytest

from abstractllm.errors import ConfigurationError, ProviderConnectionError
from abstractllm.providers.http.tls import new_context
from abstractllm.testing.loopback import LoopbackServer

from ..certificate import CERTIFICATE
from .toy import STREAM, Toy, failure, friendly, text


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
