"""Keys and addresses: where they come from, what cannot be one, and that no key is seen anywhere."""

from __future__ import annotations

import pickle
import traceback

import pytest

from abstractllm.errors import AuthenticationError, InvalidParameterError
from abstractllm.providers.http import Secret
from abstractllm.testing.faces import Face, ask
from abstractllm.testing.loopback import Reply

from .toy import KEY, STREAM, Toy, failure, served


def test_a_key_is_nowhere_to_be_seen():
    with served(Reply(500, body=b"no"), max_retries=0) as (llm, _):
        assert KEY not in repr(llm.get_config()) + repr(llm.__dict__) + f"{llm.get_param('api_key')}"
        assert "api_key" not in llm.get_config()
        error = failure(llm)
        llm.set_config(max_retries=1)
        assert llm._endpoint.key.reveal() == KEY
    shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "Secret(hidden)" in shown
    assert KEY not in shown
    assert KEY.encode() not in pickle.dumps(error)
    secret = Secret(KEY)
    assert KEY not in f"{secret!r} {secret!s} {secret} {[secret]}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)


class Bare(Toy):
    defaults = {}


def test_where_a_key_comes_from(monkeypatch):
    monkeypatch.setenv("TOY_KEY", "of-the-service")
    assert Bare("http://x")._endpoint.key.reveal() == "of-the-service"
    monkeypatch.setenv("ABSTRACTLLM_TOY_API_KEY", "of-the-package")
    assert Bare("http://x")._endpoint.key.reveal() == "of-the-package"
    assert Bare("http://x", api_key="given")._endpoint.key.reveal() == "given"


@pytest.mark.parametrize("face", Face)
def test_a_missing_key_is_told_before_any_work(face, monkeypatch):
    monkeypatch.delenv("TOY_KEY", raising=False)
    with served(STREAM, toy=Bare) as (llm, server), pytest.raises(AuthenticationError, match="TOY_KEY"):
        ask(llm, face, "Hi")
    assert server.requests == []


@pytest.mark.parametrize("bad", ["", "sk-secret\n", " sk-secret", "sk-sécret", "sk-secret\r\nX: y", 5, b"sk-secret"])
def test_a_key_that_cannot_be_one(bad):
    with pytest.raises(InvalidParameterError) as caught:
        Toy("http://x", api_key=bad)
    assert caught.value.parameter == "api_key"
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    "bad",
    [
        *("", "host", "ftp://host", "http://", "http://u:secret@host", "http://h?key=secret", "http://h#x"),
        *("http://h:x/", 5, "http://h /", "http://h\r\nX: y", "http://[::1", "http://ü.example"),
    ],
)
def test_an_address_that_cannot_be_one(bad):
    with pytest.raises(InvalidParameterError) as caught:
        Toy(bad)
    assert caught.value.parameter == "base_url"
    assert "secret" not in str(caught.value)
