"""How every provider that speaks HTTP takes what can go wrong: one list, and each wire format under all of it."""

from __future__ import annotations

import asyncio
import email.utils
import gc
import logging
import socket
from datetime import UTC, datetime, timedelta

import pytest

from abstractllm.errors import (
    AuthenticationError,
    GenerationError,
    ModelNotFoundError,
    ProviderAPIError,
    ProviderConnectionError,
    QuotaExceededError,
    RequestTimeoutError,
    SpentQuotaError,
)
from abstractllm.providers.http import Backoff
from abstractllm.testing.faces import Face, ask
from abstractllm.testing.loopback import Gate, LoopbackServer, Reply
from abstractllm.types import Timeout

from .behaving import FORMATS, KEY, PROXIES, failure, no_leak, shows_no_key

STREAMS = (Face.STREAM, Face.ASYNC_STREAM)


@pytest.fixture(params=FORMATS, ids=lambda one: one.name)
def spoken(request):
    return request.param


@pytest.fixture(autouse=True, scope="module")
def quick_collections():
    """Keep what is there already out of the garbage collector's way; it runs at every test's end."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def clean(monkeypatch, caplog):
    """Every test leaves no socket open and no key in a log; no proxy of this machine is used."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    caplog.set_level(logging.DEBUG)
    with no_leak():
        yield
    logged = "".join(map(logging.Formatter().format, caplog.get_records("call")))
    assert KEY not in logged


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


# No connection.


def test_a_refused_connection(spoken):
    with spoken.kind(base_url=f"http://127.0.0.1:{free_port()}") as llm:
        for face in Face:
            error = failure(llm, ProviderConnectionError, face)
            assert "cannot be reached" in error.message
        assert llm.retried == 2 * len(Face)
        assert llm.pauses == [0.5, 1.0] * len(Face)


def test_a_name_that_does_not_exist(spoken, monkeypatch):
    def resolve(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with spoken.kind(base_url="http://nobody.invalid") as llm:
        for face in (Face.WHOLE, Face.ASYNC_STREAM):
            assert "nobody.invalid cannot be resolved" in failure(llm, ProviderConnectionError, face).message


def test_no_tls(spoken):
    with LoopbackServer([Reply()]) as server:
        with spoken.kind(base_url=server.url.replace("http:", "https:")) as llm:
            for face in (Face.ASYNC, Face.STREAM):
                assert "No TLS connection" in failure(llm, ProviderConnectionError, face).message
            assert llm.retried == 0
        assert server.requests == []


# Answers that are errors.

KINDS = {401: AuthenticationError, 403: AuthenticationError, 429: QuotaExceededError}
STATUSES = (400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 529)
RETRIED = (408, 409, 429, 500, 502, 503, 529)
SAID = {"json": "It failed.", "html": "'Bad Gateway'", "empty": "without saying why", "huge": "xxxx"}


def body_of(spoken, kind):
    if kind == "json":
        return spoken.body_of_error("It failed.")
    return {"html": b"<html><title>Bad\nGateway</title>", "empty": b"", "huge": b"x" * 2**21}[kind]


@pytest.mark.parametrize("kind", SAID)
def test_every_status(spoken, kind):
    body = body_of(spoken, kind)
    with spoken.served(lambda _: Reply(status, {"X-Request-Id": "req_77"}, body)) as (llm, server):
        for number, status in enumerate(STATUSES):
            face = list(Face)[number % 4]
            error = failure(llm, KINDS.get(status, ProviderAPIError), face)
            assert (error.status_code, error.request_id) == (status, "req_77")
            assert f"status {status}" in error.message
            assert SAID[kind] in error.message
            assert len(error.message) < 1000
            assert len(server.requests) == (3 if status in RETRIED else 1), status
            server.requests.clear()


@pytest.mark.parametrize("status", RETRIED)
def test_a_retry_that_helps(spoken, status):
    for face, helps in ((Face.STREAM, spoken.stream), (Face.ASYNC, Reply(body=spoken.body))):
        with spoken.served(Reply(status), helps) as (llm, server):
            assert ask(llm, face, "Hi").whole.content == "Hello"
            assert len(server.requests) == 2


def test_spent_money_is_not_asked_for_again(spoken):
    with spoken.served(Reply(402, body=spoken.body_of_error("Pay first."))) as (llm, server):
        assert "Pay first" in failure(llm, SpentQuotaError, Face.WHOLE).message
        assert len(server.requests) == 1


def test_a_model_that_is_not_there(spoken):
    body = spoken.body_of_error("model 'm' not found", "not_found_error")
    with spoken.served(Reply(404, {"X-Request-Id": "req_77"}, body)) as (llm, server):
        assert "req_77" in failure(llm, ModelNotFoundError, Face.STREAM).message
        assert len(server.requests) == 1


def in_a_while():
    return email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)


@pytest.mark.parametrize(
    ("asked", "low", "high"),
    [("3", 3, 3), ("0.75", 0.75, 0.75), (None, 15, 30), ("soon", 0.5, 0.5), ("-5", 0.5, 0.5), ("1e3", 0.5, 0.5)],
)
def test_retry_after(spoken, asked, low, high):
    with spoken.served(Reply(429, {"Retry-After": asked or in_a_while()}), spoken.stream) as (llm, server):
        assert ask(llm, Face.STREAM, "Hi").whole.content == "Hello"
        assert low <= llm.pauses[0] <= high
        assert len(server.requests) == 2


def test_a_wait_that_is_too_long_is_an_error_at_once(spoken):
    with spoken.served(Reply(429, {"Retry-After": "3600"})) as (llm, server):
        assert failure(llm, QuotaExceededError, Face.ASYNC).retry_after == 3600
        assert len(server.requests) == 1


# Connections that break.


@pytest.mark.parametrize("resets", [False, True])
def test_a_cut_before_the_first_delta(spoken, resets):
    first = spoken.pieces[0]
    for size in (0, len(first) // 2):
        cut = Reply(chunks=spoken.pieces, cut_after=size, resets=resets)
        for face in STREAMS:
            with spoken.served(cut, spoken.stream) as (llm, server):
                assert ask(llm, face, "Hi").whole.content == "Hello"
                assert len(server.requests) == 2


@pytest.mark.parametrize("resets", [False, True])
def test_a_cut_whole_answer(spoken, resets):
    for size in (0, 20):
        cut = Reply(body=spoken.body, cut_after=size, resets=resets)
        for face in (Face.WHOLE, Face.ASYNC):
            with spoken.served(cut, Reply(body=spoken.body)) as (llm, server):
                assert ask(llm, face, "Hi").whole.content == "Hello"
                assert len(server.requests) == 2


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("share", [0, 2])
def test_a_cut_after_the_first_delta(spoken, share, resets):
    gate, (first, second, _) = Gate(), spoken.pieces
    size = len(first) + (len(second) // share if share else 0)
    cut = Reply(chunks=(first, gate, second), cut_after=size, resets=resets, headers={"X-Request-Id": "req_77"})
    with spoken.served(cut) as (llm, server):
        stream = llm.generate("Hi", stream=True)
        assert next(stream).content == "Hel"
        gate.open()
        with pytest.raises(ProviderConnectionError, match=r"broke|cut off") as caught:
            list(stream)
        assert caught.value.request_id == "req_77"
        assert stream.response.content == "Hel"
        assert stream.response.finish_reason is None
        assert len(server.requests) == 1
        shows_no_key(caught.value)


def test_a_stream_without_its_end_marker(spoken):
    for face in STREAMS:
        with spoken.served(Reply(chunks=spoken.pieces[:2])) as (llm, server):
            assert "cut off" in failure(llm, ProviderConnectionError, face).message
            assert len(server.requests) == 1


def test_an_empty_answer(spoken):
    with spoken.served(Reply(chunks=[])) as (llm, server):
        failure(llm, ProviderConnectionError, Face.STREAM)
        assert len(server.requests) == 3
    with spoken.served(Reply()) as (llm, server):
        failure(llm, GenerationError, Face.WHOLE)
        assert len(server.requests) == 1


# Streams that are slow, or end never.


@pytest.mark.parametrize("limit", ["first_event", "idle", "total"])
def test_a_stalled_stream(spoken, limit):
    chunks = spoken.pieces[:0] if limit == "first_event" else spoken.pieces[:1]
    for face in STREAMS:
        with spoken.served(Reply(503), Reply(chunks=chunks, stalls=True)) as (llm, server):
            llm.backoff = Backoff(draw=lambda: 0.0)
            limits = Timeout(**{limit: 0.15})
            assert failure(llm, RequestTimeoutError, face, timeout=limits).limit == limit
            assert all(request.left.wait(10) for request in server.requests[1:])


@pytest.mark.parametrize("limit", ["first_event", "total"])
def test_a_stalled_whole_answer(spoken, limit):
    for face in (Face.WHOLE, Face.ASYNC):
        with spoken.served(Reply(chunks=[], stalls=True)) as (llm, server):
            limits = Timeout(**{limit: 0.1})
            assert failure(llm, RequestTimeoutError, face, timeout=limits).limit == limit
            assert all(request.left.wait(10) for request in server.requests)


class Tick(Gate):
    """A point at which the server only takes breath."""

    async def wait(self):
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("limit", ["first_event", "idle", "total"])
def test_signs_of_life_are_no_deltas(spoken, limit):
    def lively():
        if limit != "first_event":
            yield spoken.pieces[0]
        while True:
            yield spoken.keepalive
            yield Tick()

    with spoken.served(lambda _: Reply(chunks=lively())) as (llm, _):
        limits = Timeout(**{limit: 0.1})
        assert failure(llm, RequestTimeoutError, Face.STREAM, timeout=limits).limit == limit


def test_a_slow_drip(spoken):
    drip = b"".join(spoken.pieces)
    with spoken.served(Reply(body=drip, drip=1), Reply(body=spoken.body, drip=1)) as (llm, server):
        assert ask(llm, Face.STREAM, "Hi").whole.content == "Hello"
        assert ask(llm, Face.WHOLE, "Hi").whole.content == "Hello"
        assert len(server.requests) == 2


def test_a_server_that_never_reads(spoken):
    with spoken.served(reads=False) as (llm, _), pytest.raises(RequestTimeoutError) as caught:
        llm.generate("x" * 2**24, timeout=0.5)  # more than the buffers between both take
    assert caught.value.limit == "total"


# What is no answer.

BROKEN = (b'{"type": "x', b"\xff\xfe", b"[" * 5000, b"nonsense")


@pytest.mark.parametrize("bad", BROKEN)
def test_what_is_no_json(spoken, bad):
    first = spoken.pieces[0]
    with spoken.served(Reply(chunks=[spoken.framed(bad)])) as (llm, server):
        failure(llm, GenerationError, Face.STREAM)
        assert len(server.requests) == 1
    with spoken.served(Reply(chunks=[first + spoken.framed(bad), *spoken.pieces[1:]])) as (llm, server):
        failure(llm, GenerationError, Face.ASYNC_STREAM)
    with spoken.served(Reply(body=bad)) as (llm, server):
        failure(llm, GenerationError, Face.WHOLE)
        assert len(server.requests) == 1


def test_text_that_is_no_utf8(spoken):
    stream = b"".join(spoken.pieces).replace(b"Hel", b"H\xffl")
    with spoken.served(Reply(body=stream)) as (llm, _):
        failure(llm, GenerationError, Face.STREAM)
    with spoken.served(Reply(body=spoken.body.replace(b"Hel", b"H\xffl"))) as (llm, _):
        failure(llm, GenerationError, Face.ASYNC)


@pytest.mark.parametrize("page", [b"<html><title>Log in</title></html>", b'"Hello"', b"[]", b"null", b"{}"])
def test_a_page_with_status_200(spoken, page):
    for face in Face:
        with spoken.served(Reply(body=page)) as (llm, _), pytest.raises((GenerationError, ProviderConnectionError)):
            ask(llm, face, "Hi")


@pytest.mark.parametrize("line", [b"x" * 2**16, b"data: " + b"x" * (2**16 - 7) + b"\n"], ids=["line", "event"])
def test_a_line_or_an_event_of_100_mb(spoken, line):
    sent = []

    def pieces():
        for number in range(100 * 2**20 // len(line)):
            sent.append(number)
            yield line

    with spoken.served(Reply(chunks=pieces())) as (llm, server):
        failure(llm, GenerationError, Face.STREAM)
        assert len(server.requests) == 1
    assert len(sent) * len(line) < 80 * 2**20


# Errors in the middle.


def test_an_error_before_the_first_delta(spoken):
    broken = spoken.failing(QuotaExceededError("Too many."))
    with spoken.served(Reply(chunks=[broken]), spoken.stream) as (llm, server):
        if spoken.name == "ollama":  # its errors have no kind, so nobody knows whether another try helps
            assert "Too many" in failure(llm, ProviderAPIError, Face.STREAM).message
        else:
            assert ask(llm, Face.STREAM, "Hi").whole.content == "Hello"
            assert len(server.requests) == 2


def test_an_error_after_the_first_delta(spoken):
    chunks = [spoken.pieces[0], gate := Gate(), spoken.failing(QuotaExceededError("Too many."))]
    with spoken.served(Reply(chunks=chunks, headers={"X-Request-Id": "req_77"})) as (llm, server):
        stream = llm.generate("Hi", stream=True)
        assert next(stream).content == "Hel"
        gate.open()
        with pytest.raises(ProviderAPIError, match="Too many") as caught:
            list(stream)
        assert caught.value.request_id == "req_77"
        assert stream.response.content == "Hel"
        assert len(server.requests) == 1
        shows_no_key(caught.value)


# Keys.


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_host(spoken, status):
    with LoopbackServer(spoken.whole_or_stream) as elsewhere:
        url = elsewhere.url.replace("127.0.0.1", "localhost") + "/v1?key=of-theirs"
        with spoken.served(Reply.redirect(url, status)) as (llm, server):
            for face in (Face.ASYNC, Face.STREAM):
                error = failure(llm, ProviderAPIError, face)
                assert "redirects to http://localhost" in error.message
                assert "of-theirs" not in error.message
            assert len(server.requests) == 2
        assert elsewhere.connections == 0


@pytest.mark.parametrize("face", [Face.STREAM, Face.WHOLE])
def test_a_key_that_the_service_repeats(spoken, face):
    echoes = (f"key {KEY} is bad", f"{'-' * 60}{KEY}")
    for echo in echoes:
        replies = (
            Reply(401, body=echo.encode()),
            Reply(401, body=spoken.body_of_error(echo)),
            Reply(400, body=spoken.body_of_error(f"{'-' * 485}{KEY}")),
            Reply(body=spoken.framed(echo.encode()) if face.streams else echo.encode()),
            Reply(body=spoken.failing(ProviderAPIError(echo)) if face.streams else spoken.body_of_error(echo)),
        )
        for reply in replies:
            with spoken.served(reply, max_retries=0) as (llm, _):
                with pytest.raises((ProviderAPIError, GenerationError)) as caught:
                    ask(llm, face, "Hi")
                error = caught.value
                assert KEY[:12] not in f"{error} {error!r} {error.__cause__!r} {vars(error)}"


@pytest.mark.parametrize("key", ["x", "model", "error", "none"])
def test_a_word_for_a_key_changes_no_error(spoken, key):
    body = spoken.body_of_error("model 'x' not found", "not_found_error")
    with spoken.served(Reply(404, body=body), api_key=key) as (llm, _), pytest.raises(ModelNotFoundError) as caught:
        llm.generate("Hi")
    assert "model 'x' not found" in caught.value.message
