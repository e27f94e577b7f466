"""The transport of remote providers: any answer, any break, any end, from any thread or loop, and no key anywhere."""

from __future__ import annotations

import asyncio
import email.utils
import gc
import json
import os
import pickle
import shutil
import socket
import ssl
import subprocess
import threading
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager

import pytest
from hypothesis import given, strategies as st

from abstractllm.aio import portal
from abstractllm.errors import (
    AbstractLLMError,
    AuthenticationError,
    ConfigurationError,
    GenerationError,
    InvalidParameterError,
    ProviderAPIError,
    ProviderConnectionError,
    QuotaExceededError,
    RequestTimeoutError,
    UnsupportedOperationError,
)
from abstractllm.providers.http import Backoff, HTTPProvider, Limits, Secret
from abstractllm.providers.http.proxies import proxy_for
from abstractllm.providers.http.tls import new_context
from abstractllm.testing import ProviderConformance
from abstractllm.testing.faces import Face, ask
from abstractllm.testing.loopback import Gate, LoopbackServer, Reply
from abstractllm.types import GenerateResponse, Timeout, Usage
from abstractllm.wire.lines import EventDecoder

KEY = "sk-loopback-0123456789"
PROXIES = [name for base in ("http_proxy", "https_proxy", "all_proxy", "no_proxy") for name in (base, base.upper())]


class ToyDecoder:
    """Server-sent events of JSON: {"text"}, {"error": {"status"}} and, at the end, {"done": true}."""

    def __init__(self):
        self.events = EventDecoder()
        self.done = False

    def feed(self, data):
        return [delta for event in self.events.feed(data) for delta in self.decode(event.data)]

    def decode(self, data):
        try:
            value = json.loads(data)
        except ValueError as error:
            raise GenerationError(f"The service sent what is no JSON: {data[:40]!r}") from error
        if "error" in value:
            raise ProviderAPIError("The service broke off.", status_code=value["error"]["status"])
        if value.get("done"):
            self.done = True
            yield GenerateResponse(finish_reason="stop", usage=Usage(value.get("tokens", 1), 1))
        elif value.get("text"):
            yield GenerateResponse(content=value["text"])

    def end(self):
        if not self.done:
            raise ProviderConnectionError("The answer was cut off.")
        return []


class ToyCodec:
    def __init__(self):
        self.threads = []

    def encode_request(self, request):
        self.threads.append(threading.current_thread())
        return {"prompt": request.messages[-1].text, "stream": request.stream, **request.options}

    def decode_response(self, body):
        try:
            value = json.loads(body)
            return GenerateResponse(value["text"], finish_reason="stop", usage=Usage(value.get("tokens", 1), 1))
        except (ValueError, KeyError) as error:
            raise GenerationError("The service sent what is no answer.") from error

    def stream_decoder(self):
        return ToyDecoder()


class Toy(HTTPProvider):
    name = "toy"
    path = "/answer"
    options = frozenset({"extra"})
    key_variable = "TOY_KEY"
    backoff = Backoff(draw=lambda: 1.0)
    defaults = {"api_key": KEY}

    def __init__(self, url, **settings):
        self.codec = ToyCodec()
        self.pauses = []
        super().__init__(base_url=url, **settings)

    def _codec(self):
        return self.codec

    async def _pause(self, seconds):
        self.pauses.append(seconds)


def event(value):
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


HELLO = (event({"text": "Hel"}), event({"text": "lo"}), event({"done": True}))
STREAM = Reply(chunks=HELLO)
WHOLE = Reply(body=b'{"text": "Hello"}')


def friendly(request):
    """Answer a request as it wants to be answered, with its prompt where that is not empty."""
    body = json.loads(request.body)
    words, tokens = body["prompt"], len(body["prompt"])
    if body["stream"]:
        return Reply(chunks=[*(event({"text": letter}) for letter in words), event({"done": True, "tokens": tokens})])
    return Reply(body=json.dumps({"text": words, "tokens": tokens}).encode())


def descriptors():
    return len(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))


def settled(condition):
    """Wait until the loops have done what is due; for ends that nobody reports."""
    for _ in range(500):
        if condition():
            return True
        portal().run(lambda: asyncio.sleep(0.002))
    return condition()


@pytest.fixture(autouse=True, scope="module")
def quick_collections():
    """Keep what is there already out of the garbage collector's way; it runs twice a test."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def no_leaks(monkeypatch):
    """Every test leaves as many sockets as it found, no proxy of the machine is used, and no warning is lost."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    portal()
    gc.collect()
    before = descriptors()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert settled(lambda: descriptors() <= before), f"{descriptors() - before} descriptors leak"
    assert [str(warning.message) for warning in caught] == []


@contextmanager
def served(*script, reads=True, toy=Toy, **settings):
    """Yield a provider and the server that it asks, which plays the replies or calls the function given."""
    script = script[0] if script and callable(script[0]) else script
    with LoopbackServer(script or [STREAM], reads=reads) as server, toy(server.url, **settings) as llm:
        yield llm, server


def text(llm, **params):
    return "".join(delta.content for delta in llm.generate("Hi", stream=True, **params))


def failure(llm, kind=AbstractLLMError, *, stream=True, **params):
    """Ask and return the error."""
    face = Face.STREAM if stream else Face.WHOLE
    with pytest.raises(kind) as caught:
        ask(llm, face, "Hi", **params)
    return caught.value


# Answers.


@pytest.mark.parametrize("face", Face)
def test_every_face_gives_the_answer(face):
    with served(friendly) as (llm, server):
        assert ask(llm, face, "Hello").whole.content == "Hello"
    assert server.requests[0].path == "/answer"
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert server.requests[0].headers["accept-encoding"] == "identity"


def test_a_connection_is_used_again():
    with served(friendly) as (llm, server):
        for _ in range(3):
            assert text(llm) == "Hi"
            assert llm.generate("Hi").content == "Hi"
    assert len(server.requests) == 6
    assert server.connections == 1


def test_a_slow_drip_is_an_answer():
    with served(Reply(body=b"".join(HELLO), drip=1)) as (llm, _):
        assert text(llm) == "Hello"


def test_a_body_that_the_connection_ends_is_an_answer():
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"".join(HELLO))
        writer.close()

    async def scenario():
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with Toy(url) as llm:
                return (await llm.generate_async("Hi", stream=True)).response, [
                    delta.content async for delta in llm.generate_async("Hi", stream=True)
                ]

    assert asyncio.run(scenario())[1] == ["Hel", "lo", ""]


def test_much_is_encoded_and_decoded_off_the_loop():
    with served(friendly) as (llm, _):
        llm.limits = Limits(at_once=100)
        assert llm.generate("x" * 101).content == "x" * 101
        assert llm.generate("x").content == "x"
    names = [thread.name for thread in llm.codec.threads]
    assert names[0].startswith("abstractllm-toy")
    assert names[1] == "abstractllm-portal"


@pytest.mark.parametrize(("prompt", "extra"), [("\ud800", 1), ("x", float("nan")), ("x", {1, 2})])
def test_what_is_no_json_is_refused(prompt, extra):
    with served(friendly) as (llm, server), pytest.raises(InvalidParameterError):
        llm.generate(prompt, options={"extra": extra})
    assert server.requests == []


# Connections that fail.


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


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


def test_tls_with_a_server_that_has_none():
    with LoopbackServer([STREAM]) as server, Toy(server.url.replace("http:", "https:")) as llm:
        error = failure(llm, ProviderConnectionError)
        assert "No TLS connection" in error.message
        assert llm.pauses == []
        assert server.requests == []


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that nobody trusts, with its key, in two files."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command")
    folder = tmp_path_factory.mktemp("tls")
    kind = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=loopback"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([openssl, *kind.split(), *names], cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def tls_server(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with LoopbackServer(friendly, tls=context) as server:
        yield server


def test_a_certificate_that_nobody_trusts(tls_server):
    with Toy(tls_server.url) as llm:
        error = failure(llm, ProviderConnectionError)
        assert "not trusted" in error.message
        assert "SSL_CERT_FILE" in error.message
        assert llm.pauses == []  # it will be the same next time
    assert tls_server.requests == []


def test_ssl_cert_file_names_who_is_trusted(tls_server, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    context = new_context()
    monkeypatch.setattr("abstractllm.providers.http.provider.tls_context", lambda: context)
    with Toy(tls_server.url) as llm:
        assert text(llm) == "Hi"
        assert llm.generate("Hi").content == "Hi"


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_certificates_that_are_not_there(monkeypatch, tmp_path, variable):
    monkeypatch.setenv(variable, str(tmp_path / "missing"))
    with pytest.raises(ConfigurationError, match=variable):
        new_context()


def test_a_server_that_hangs_up():
    with served(Reply.hang_up(), STREAM) as (llm, server):
        assert text(llm) == "Hello"
        assert llm.retried == 1
    with served(Reply.hang_up(), max_retries=0) as (llm, server):
        assert "without an answer" in failure(llm, ProviderConnectionError).message
    assert len(server.requests) == 1


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


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("size", [0, 5, len(HELLO[0]) - 1])
def test_a_cut_before_the_first_delta_is_tried_again(size, resets):
    with served(Reply(chunks=HELLO, cut_after=size, resets=resets), STREAM) as (llm, server):
        assert text(llm) == "Hello"
        assert len(server.requests) == 2
        assert llm.pauses == [0.5]


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


def test_a_cut_whole_answer_is_tried_again():
    with served(Reply(body=WHOLE.body, cut_after=5), WHOLE) as (llm, server):
        assert llm.generate("Hi").content == "Hello"
    assert len(server.requests) == 2


def test_a_cut_after_the_end_marker_changes_nothing():
    with served(Reply(chunks=HELLO, ends=False)) as (llm, server):
        assert text(llm) == "Hello"
    assert len(server.requests) == 1


def test_a_stream_without_its_end_marker_is_cut_off():
    with served(Reply(chunks=HELLO[:2])) as (llm, server):
        assert "cut off" in failure(llm, ProviderConnectionError).message
    assert len(server.requests) == 1


# Statuses.

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


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_what_will_not_change_is_not_tried_again(status):
    with served(Reply(status)) as (llm, server):
        failure(llm)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
@pytest.mark.parametrize("retries", [0, 1, 5])
def test_what_may_pass_is_tried_again(status, retries):
    with served(Reply(status), max_retries=retries) as (llm, server):
        failure(llm)
        assert len(server.requests) == retries + 1
        assert llm.retried == retries
        assert llm.pauses == [0.5, 1.0, 2.0, 4.0, 8.0][:retries]


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


def now_and(seconds):
    return email.utils.format_datetime(
        email.utils.datetime.datetime.now(email.utils.datetime.timezone.utc)
        + email.utils.datetime.timedelta(seconds=seconds),
        usegmt=True,
    )


@pytest.mark.parametrize(
    ("asked", "low", "high"),
    [("3", 3, 3), ("0.75", 0.75, 0.75), ("0", 0.5, 0.5), ("soon", 0.5, 0.5), ("-1", 0.5, 0.5), ("120", 120, 120)],
)
def test_retry_after_is_kept(asked, low, high):
    with served(Reply(429, {"Retry-After": asked}), STREAM) as (llm, _):
        assert text(llm) == "Hello"
        assert low <= llm.pauses[0] <= high


def test_retry_after_may_be_a_date():
    with served(Reply(503, {"Retry-After": now_and(30)}), STREAM) as (llm, _):
        assert text(llm) == "Hello"
        assert 15 < llm.pauses[0] <= 30


@pytest.mark.parametrize(("asked", "timeout"), [("121", None), ("60", 5.0), ("60", Timeout(first_event=5.0))])
def test_a_wait_that_makes_no_sense_is_an_error_at_once(asked, timeout):
    with served(Reply(429, {"Retry-After": asked})) as (llm, server):
        error = failure(llm, QuotaExceededError, timeout=timeout)
        assert error.retry_after == float(asked)
        assert llm.pauses == []
    assert len(server.requests) == 1


@given(st.integers(1, 2000), st.floats(0, 1), st.none() | st.floats(0, 200), st.none() | st.floats(-5, 200))
def test_backoff_keeps_its_bounds(tries, drawn, asked, room):
    wait = Backoff(draw=lambda: drawn).wait(tries, asked=asked, room=room)
    if wait is None:
        assert (asked or 0) > 120 or (room is not None and room <= max(8.0, asked or 0))
    else:
        assert max(0.0, asked or 0.0) <= wait <= max(8.0, asked or 0.0)
        assert room is None or wait < room


# Bad streams.


@pytest.mark.parametrize("bad", [b"{", b'"\xff"', b"\xff\xfe", b'{"text": "\xc3("}'])
def test_what_is_no_json_in_a_stream(bad):
    with served(Reply(chunks=[HELLO[0], event(bad)])) as (llm, server):
        failure(llm, GenerationError)
        assert len(server.requests) == 1
    with served(Reply(body=bad)) as (llm, _):
        failure(llm, GenerationError, stream=False)


def test_a_line_without_end_fills_no_memory():
    sent = []

    def pieces():
        for number in range(1600):
            sent.append(number)
            yield b"x" * 2**16

    with served(Reply(chunks=pieces())) as (llm, _):
        assert "line" in failure(llm, GenerationError).message
    assert 2**26 <= len(sent) * 2**16 < 2**26 + 2**24


def test_a_whole_answer_that_is_too_long():
    with served(Reply.long_line(2**22)) as (llm, _):
        llm.limits = Limits(body=2**20)
        assert "1,048,576 bytes" in failure(llm, GenerationError, stream=False).message


def test_a_compressed_answer_is_refused():
    with served(Reply(headers={"Content-Encoding": "gzip"}, body=b"\x1f\x8b")) as (llm, _):
        assert "gzip" in failure(llm, GenerationError).message


def test_an_error_in_a_stream_is_tried_again_before_the_first_delta_only():
    broken = event({"error": {"status": 529}})
    with served(Reply(chunks=[broken]), STREAM) as (llm, server):
        assert text(llm) == "Hello"
        assert len(server.requests) == 2
    gate = Gate()
    with served(Reply(chunks=[HELLO[0], gate, broken]), STREAM) as (llm, server):
        stream = llm.generate("Hi", stream=True)
        assert next(stream).content == "Hel"
        gate.open()
        with pytest.raises(ProviderAPIError) as caught:
            next(stream)
        assert caught.value.provider == "toy"
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


# Limits and ends.


@pytest.mark.parametrize(
    ("reply", "timeout", "limit"),
    [
        (Reply(chunks=HELLO[:1], stalls=True), Timeout(idle=0.05), "idle"),
        (Reply(chunks=(), stalls=True), Timeout(first_event=0.05), "first_event"),
        (Reply(chunks=HELLO[:1], stalls=True), Timeout(total=0.05), "total"),
    ],
)
@pytest.mark.parametrize("face", [Face.STREAM, Face.ASYNC_STREAM])
def test_limits_end_a_stalled_stream(face, reply, timeout, limit):
    with served(reply) as (llm, server):
        with pytest.raises(RequestTimeoutError) as caught:
            ask(llm, face, "Hi", timeout=timeout)
        assert caught.value.limit == limit
        assert all(request.left.wait(10) for request in server.requests)  # none, where the limit was even faster


def test_the_limit_of_a_connection():
    with socket.socket() as full:  # takes no connection, once its queue is full
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        with Toy(f"http://127.0.0.1:{port}") as llm:
            error = failure(llm, RequestTimeoutError, timeout=Timeout(connect=0.05))
            assert llm.pauses == []
        for one in waiting:
            one.close()
    assert error.limit == "connect"
    assert error.provider == "toy"


def test_a_deadline_holds_for_all_tries():
    class Waiting(Toy):
        async def _pause(self, seconds):
            self.pauses.append(seconds)
            await asyncio.sleep(60)

    with served(Reply(500), toy=Waiting) as (llm, _):
        llm.backoff = Backoff(draw=lambda: 0.0)
        assert failure(llm, RequestTimeoutError, timeout=0.1).limit == "total"
        assert len(llm.pauses) == 1


def test_a_server_that_does_not_read():
    async def scenario(llm, server):
        task = asyncio.create_task(llm.generate_async("x" * 2**25))
        while not server.requests:
            await asyncio.sleep(0.002)
        before = descriptors()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert descriptors() == before - 1  # the server's end is still there

    with served(reads=False) as (llm, server):
        asyncio.run(scenario(llm, server))


@pytest.mark.parametrize("reply", [Reply(chunks=[Gate()]), Reply(chunks=[HELLO[0], Gate()])])
def test_the_server_sees_a_cancelled_task(reply):
    gate = reply.chunks[-1]

    async def scenario(llm):
        task = asyncio.create_task(ask_whole(llm))
        await asyncio.to_thread(gate.reached.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def ask_whole(llm):
        return [delta async for delta in llm.generate_async("Hi", stream=True)]

    with served(reply) as (llm, server):
        asyncio.run(scenario(llm))
        assert server.requests[0].left.wait(10)


def test_the_server_sees_that_a_stream_was_left():
    with served(Reply(chunks=HELLO[:1], stalls=True)) as (llm, server):
        with llm.generate("Hi", stream=True) as stream:
            assert next(stream).content == "Hel"
        assert server.requests[0].left.wait(10)
    gate = Gate()
    with served(Reply(chunks=[HELLO[0], gate])) as (llm, server):

        async def leave():
            async with aclosing(llm.generate_async("Hi", stream=True)) as stream:
                async for _ in stream:
                    return

        asyncio.run(leave())
        assert server.requests[0].left.wait(10)


@pytest.mark.parametrize("chunks", [(), HELLO[:1]])
def test_closing_ends_what_runs(chunks):
    gate = Gate()
    with served(Reply(chunks=[*chunks, gate])) as (llm, server), ThreadPoolExecutor(1) as threads:
        asked = threads.submit(text, llm)
        gate.reached.wait()
        llm.close()
        with pytest.raises(UnsupportedOperationError, match="closed"):
            asked.result(10)
        assert server.requests[0].left.wait(10)
        with pytest.raises(UnsupportedOperationError):
            llm.generate("Hi")


def test_closing_ends_a_wait_between_tries():
    pausing = threading.Event()

    class Waiting(Toy):
        async def _pause(self, seconds):
            pausing.set()
            await asyncio.Event().wait()

    with served(Reply(500), toy=Waiting) as (llm, _), ThreadPoolExecutor(1) as threads:
        asked = threads.submit(text, llm)
        pausing.wait()
        llm.close()
        with pytest.raises(UnsupportedOperationError, match="closed"):
            asked.result(10)


# Loops and threads.


def test_loops_and_threads_share_a_provider():
    async def many(llm, prefix):
        answers = await asyncio.gather(*(llm.generate_async(f"{prefix}{number}") for number in range(8)))
        return [answer.content for answer in answers]

    with served(friendly) as (llm, server), ThreadPoolExecutor(6) as threads:
        loops = [threads.submit(lambda prefix=prefix: asyncio.run(many(llm, prefix))) for prefix in "ab"]
        syncs = [threads.submit(lambda number=number: llm.generate(f"s{number}").content) for number in range(8)]
        assert [job.result() for job in loops] == [[f"{prefix}{number}" for number in range(8)] for prefix in "ab"]
        assert [job.result() for job in syncs] == [f"s{number}" for number in range(8)]
        assert settled(lambda: len(llm._pools) == 1)  # the portal's; the others ended with their loops
    assert len(llm._pools) == 0
    assert len(server.requests) == 24


def test_many_at_once_on_one_loop():
    async def scenario(llm):
        streams = [llm.generate_async(f"{number:03}", stream=True) for number in range(100)]
        return await asyncio.gather(*(collected(stream) for stream in streams))

    async def collected(stream):
        return "".join([delta.content async for delta in stream])

    with served(friendly) as (llm, _):
        assert asyncio.run(scenario(llm)) == [f"{number:03}" for number in range(100)]


def test_a_loop_that_only_stands_still_is_closed_too():
    loop = asyncio.new_event_loop()
    with served(friendly) as (llm, _):
        assert loop.run_until_complete(llm.generate_async("Hi")).content == "Hi"
        assert len(llm._pools) == 1
        llm.close()
        assert len(llm._pools) == 0
    loop.close()


def test_closing_in_the_loop_itself():
    async def scenario(llm):
        await llm.generate_async("Hi")
        llm.close()
        await asyncio.sleep(0.01)

    with served(friendly) as (llm, _):
        asyncio.run(scenario(llm))
    with served(friendly) as (llm, _):

        async def politely():
            async with llm:
                await llm.generate_async("Hi")

        asyncio.run(politely())


def test_a_loop_that_was_closed_without_a_word_is_forgotten():
    loop = asyncio.new_event_loop()
    with served(friendly) as (llm, _):
        loop.run_until_complete(llm.generate_async("Hi"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # asyncio's own, about its sockets
            loop.close()
            assert llm.generate("Hi").content == "Hi"
            gc.collect()
        assert len(llm._pools) == 1


def test_a_forgotten_provider_closes_its_connections():
    with LoopbackServer(friendly) as server:
        before = descriptors()
        llm = Toy(server.url)
        assert llm.generate("Hi").content == "Hi"
        assert descriptors() > before
        del llm
        gc.collect()
        assert settled(lambda: descriptors() <= before)


# Keys and addresses.


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


@pytest.mark.parametrize("bad", [-1, 101, 1.5, True, "2"])
def test_max_retries_has_bounds(bad):
    with pytest.raises(InvalidParameterError):
        Toy("http://x", max_retries=bad)


# Proxies.


def test_a_proxy_gets_the_request(monkeypatch):
    with LoopbackServer(friendly) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("://", "://me:p%40ss@"))
        with Toy("http://service.invalid/v1") as llm:
            assert llm.generate("Hi").content == "Hi"
            assert llm.generate("Hi").content == "Hi"
    for request in proxy.requests:
        assert request.path == "http://service.invalid/v1/answer"
        assert request.headers["proxy-authorization"] == "Basic bWU6cEBzcw=="


def test_a_tunnel_is_asked_for_without_the_key(monkeypatch):
    with LoopbackServer([Reply(407)]) as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url.replace("://", "://me:p%40ss@"))
        with Toy("https://service.invalid/v1") as llm:
            error = failure(llm, ProviderConnectionError)
            assert llm.pauses == []
    assert "status 407" in error.message
    assert proxy.requests[0].method == "CONNECT"
    assert proxy.requests[0].headers["proxy-authorization"] == "Basic bWU6cEBzcw=="
    assert KEY not in str(proxy.requests[0].headers)


def test_a_proxy_that_is_not_there(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    with Toy("http://service.invalid", max_retries=0) as llm:
        assert "proxy" in failure(llm, ProviderConnectionError).message


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("http://a.example", {}, None),
        ("http://a.example", {"http_proxy": "http://p:1"}, "http://p:1"),
        ("http://a.example", {"HTTPS_PROXY": "http://p:1"}, None),
        ("https://a.example", {"HTTPS_PROXY": "p:1"}, "http://p:1"),
        ("https://a.example", {"ALL_PROXY": "http://p:1"}, "http://p:1"),
        ("https://a.example", {"ALL_PROXY": "http://p:1", "NO_PROXY": "b.example,.example"}, None),
        ("https://a.example", {"ALL_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        ("http://127.0.0.1:8080", {"ALL_PROXY": "http://p:1"}, None),
        ("http://[::1]:8080", {"ALL_PROXY": "http://p:1"}, None),
        ("http://LOCALHOST", {"ALL_PROXY": "http://p:1"}, None),
    ],
)
def test_which_proxy_the_environment_names(monkeypatch, url, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = proxy_for(url)
    assert (found and found.url) == expected


def test_a_proxy_of_another_kind_is_refused(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://me:secret@p:1")
    with Toy("http://service.invalid") as llm:
        error = failure(llm, ConfigurationError)
    assert "socks5" in error.message
    assert "secret" not in error.message


# Imports.


def test_nothing_heavy_happens_before_or_on_the_loop(run_python):
    program = """
import asyncio, sys, threading
from abstractllm.providers.http import HTTPProvider
print("aiohttp" in sys.modules)
seen = []
sys.addaudithook(lambda event, args: seen.append(threading.current_thread().name)
    if event == "import" and args[0] == "aiohttp" else None)
class Toy(HTTPProvider):
    name = "toy"
    needs_key = False
    def _codec(self):
        class Codec:
            def encode_request(self, request):
                return {}
        return Codec()
async def main():
    try:
        await Toy(base_url="http://127.0.0.1:1", max_retries=0).generate_async("Hi")
    except Exception as error:
        print(type(error).__name__)
asyncio.run(main())
print({name.rpartition("-")[0] for name in seen})
"""
    assert run_python(program).split("\n")[:3] == ["False", "ProviderConnectionError", "{'abstractllm-toy'}"]


class Opened(Gate):
    """A gate that an event opens, which the rules give."""

    def __init__(self, event):
        super().__init__()
        self.event = event

    async def wait(self):
        while not self.event.is_set():
            await asyncio.sleep(0.002)


class TestConformance(ProviderConformance):
    """The rules of all providers."""

    prompt = "one two three"
    other_prompts = ("four", "five six")

    @pytest.fixture(autouse=True)
    def server(self):
        self.script = friendly
        with LoopbackServer(lambda request: self.script(request)) as server:
            self.url = server.url
            yield

    def make(self):
        return Toy(self.url)

    def make_failing(self):
        self.script = lambda request: Reply(404, body=b"no such model")
        return self.make()

    def make_waiting(self, gate):
        def waiting(request):
            reply = friendly(request)
            return Reply(chunks=[Opened(gate), *(reply.chunks or [reply.body])])

        self.script = waiting
        return self.make()
