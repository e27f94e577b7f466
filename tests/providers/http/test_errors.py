"""Every status and every break is a typed error, which says no more than it should."""

from __future__ import annotations

import asyncio
import socket
import traceback

import pytest

from abstractllm.errors import AbstractLLMError, AuthenticationError, ProviderAPIError, ProviderConnectionError
from abstractllm.providers.http import Limits
from abstractllm.testing.loopback import Gate, LoopbackServer, Reply

from .toy import HELLO, KEY, STREAM, Toy, failure, free_port, served


def test_a_refused_connection():
    with Toy(f"http://127.0.0.1:{free_port()}") as llm:
        error = failure(llm, ProviderConnectionError)
        assert "cannot be reached" in error.message
        assert isinstance(error.__cause__, OSError)
        assert error.provider == "toy"
        assert llm.pauses == [0.5, 1.0]
        assert llm.retried == 2


def test_a_name_that_does_not_exist(monkeypatch):
    def resolve(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with Toy("http://nobody.invalid") as llm:
        error = failure(llm, ProviderConnectionError)
    assert "nobody.invalid cannot be resolved" in error.message
    assert error.__cause__ is not None


def test_what_is_no_http():
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SMTP ready\r\n\r\n")
        writer.close()

    async def scenario():
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with Toy(url, max_retries=0) as llm:
                await llm.generate_async("Hi")

    with pytest.raises(ProviderConnectionError, match="not HTTP") as caught:
        asyncio.run(scenario())
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert KEY not in shown
    assert KEY not in repr(caught.value.__cause__)


BODIES = {
    "json": b'{"error": {"message": "It failed."}}',
    "html": b"<html><body>It failed.</body></html>",
    "empty": b"",
    "huge": b"<p>" * 2**15,
}


@pytest.mark.parametrize("kind", BODIES)
def test_every_status_is_a_typed_error(kind):
    statuses = iter(range(400, 530))
    with served(lambda _: Reply(next(statuses), body=BODIES[kind]), max_retries=0) as (llm, _):
        llm.limits = Limits(error_body=2**12)
        for status in range(400, 530):
            error = failure(llm, AbstractLLMError, stream=status % 2 == 0)
            assert getattr(error, "status_code", status) == status
            assert error.provider == "toy"
            assert len(str(error)) < 2**13


def test_an_error_without_end_is_read_a_little():
    sent = []

    def pieces():
        for number in range(2**14):
            sent.append(number)
            yield b"x" * 2**16

    with served(Reply(400, chunks=pieces())) as (llm, _):
        failure(llm, ProviderAPIError)
    assert len(sent) * 2**16 < 2**24


def test_an_error_that_stalls_is_told_with_what_came():
    with served(Reply(400, chunks=[b"no such model"], stalls=True)) as (llm, server):
        llm.limits = Limits(error_seconds=0.05)
        assert "no such model" in failure(llm, ProviderAPIError).message
        assert server.requests[0].left.wait(10)


def test_a_key_that_the_service_repeats_is_hidden():
    with served(Reply(401, body=f"wrong key {KEY}".encode())) as (llm, _):
        error = failure(llm, AuthenticationError)
    assert "wrong key" in error.message
    assert KEY not in repr(error) + str(error)


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("size", [0, 7])
def test_a_cut_after_the_first_delta_is_an_error(size, resets):
    gate = Gate()
    cut = Reply(chunks=(HELLO[0], gate, HELLO[1]), cut_after=len(HELLO[0]) + size, resets=resets)
    with served(cut) as (llm, server):
        stream = llm.generate("Hi", stream=True)
        assert next(stream).content == "Hel"
        gate.open()
        with pytest.raises(ProviderConnectionError, match="broke in the middle") as caught:
            next(stream)
        assert caught.value.__cause__ is not None
        assert stream.response.content == "Hel"
        assert len(server.requests) == 1


def test_a_redirect_is_not_followed():
    with LoopbackServer([STREAM]) as elsewhere:
        target = elsewhere.url.replace("://", "://user:pass@") + "/other?token=secret"
        with served(Reply.redirect(target)) as (llm, _):
            error = failure(llm, ProviderAPIError)
        assert elsewhere.requests == []
    assert f"{elsewhere.url}/other" in error.message
    assert "secret" not in str(error)
    assert "pass" not in str(error)
    assert error.status_code == 307


def test_a_redirect_to_nowhere_keeps_its_status():
    with served(Reply.redirect("http://[::1/x")) as (llm, _):
        error = failure(llm, ProviderAPIError)
    assert error.status_code == 307
