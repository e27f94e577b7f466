"""How requests of HTTP providers end when somebody wants it: limits, `close` in every phase; and proxies, and trust."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from abstractllm.errors import ProviderConnectionError, RequestTimeoutError, UnsupportedOperationError
from abstractllm.providers.http import Backoff
from abstractllm.testing.faces import Face, ask, ask_async
from abstractllm.testing.framing import read_head
from abstractllm.testing.local import LocalServer
from abstractllm.testing.loopback import Gate, LoopbackServer, Reply
from abstractllm.types import Timeout

from .behaving import CHAT, FORMATS, KEY, PROXIES, failure, no_leak
from .certificate import CERTIFICATE

EVERY_FORMAT = pytest.mark.parametrize("spoken", FORMATS, ids=lambda one: one.name)


@pytest.fixture(autouse=True, scope="module")
def quick_collections():
    """Keep what is there already out of the garbage collector's way; it runs at every test's end."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """Every test leaves no socket open; no proxy of this machine is used."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    with no_leak():
        yield


@contextmanager
def deaf_address():
    """Yield an address that takes no connection, because its queue is full."""
    with socket.socket() as full, ThreadPoolExecutor(1):
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        yield f"http://127.0.0.1:{full.getsockname()[1]}"
        for one in waiting:
            one.close()


# Limits.


@pytest.mark.parametrize("face", Face)
def test_a_connection_that_takes_too_long_is_tried_again(face):
    with deaf_address() as url, CHAT.kind(base_url=url) as llm:
        assert failure(llm, RequestTimeoutError, face, timeout=Timeout(connect=0.05)).limit == "connect"
        assert llm.pauses == [0.5, 1.0]


def test_the_total_limit_holds_while_connecting():
    with deaf_address() as url, CHAT.kind(base_url=url) as llm:
        limits = Timeout(connect=60, total=0.1)
        assert failure(llm, RequestTimeoutError, Face.STREAM, timeout=limits).limit == "total"


class Tick(Gate):
    """A point at which the server takes its time."""

    async def wait(self):
        await asyncio.sleep(0.03)


@pytest.mark.parametrize("limit", ["first_event", "total"])
@pytest.mark.parametrize("face", Face)
def test_all_tries_have_one_deadline(face, limit):
    """A deadline for each try would never pass, and the error would be that of the last try."""
    with CHAT.served(lambda _: Reply(503, chunks=[Tick(), b"busy"]), max_retries=100) as (llm, server):
        llm.backoff = Backoff(draw=lambda: 0.0)
        assert failure(llm, RequestTimeoutError, face, timeout=Timeout(**{limit: 0.3})).limit == limit
        assert len(server.requests) < 50


# Closing, in every phase.


@contextmanager
def resolving(spoken, reached, ended):
    resolve = socket.getaddrinfo

    def resolving(host, *more, **others):
        if host != "service.invalid":
            return resolve(host, *more, **others)
        reached.set()
        ended.wait(10)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolving)
        yield spoken.kind(base_url="http://service.invalid")


@contextmanager
def connecting(spoken, reached, ended):
    with deaf_address() as url:
        llm = spoken.kind(base_url=url)
        llm.observers.append(lambda event: reached.set())
        yield llm


@contextmanager
def shaking_hands(spoken, reached, ended):
    """The server takes the connection, and then says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as threads:

        def take():
            link, _ = listener.accept()
            with link:
                link.recv(1)
                reached.set()
                while link.recv(2**16):
                    pass

        taken = threads.submit(take)
        yield spoken.kind(base_url=f"https://127.0.0.1:{listener.getsockname()[1]}")
        taken.result(10)  # so the client has closed its end


@contextmanager
def tunnelling(spoken, reached, ended):
    with watched(reached, reads=False) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTTPS_PROXY", proxy.url)
        yield spoken.kind(base_url="https://service.invalid")


@contextmanager
def sending(spoken, reached, ended):
    with watched(reached, reads=False) as server:
        yield spoken.kind(base_url=server.url, system_prompt="x" * 2**24)


@contextmanager
def waiting(spoken, reached, ended):
    with watched(reached, reads=False) as server:
        yield spoken.kind(base_url=server.url)


class watched(LoopbackServer):
    """A server that says when a request has come; it never answers."""

    def __init__(self, reached, **more):
        super().__init__([Reply()], **more)
        self.requests = Telling(reached)


class Telling(list):
    """A list that tells when it gets something."""

    def __init__(self, reached):
        self.reached = reached

    def append(self, item):
        super().append(item)
        self.reached.set()


def answering(*chunks, status=200):
    """Return the phase in which a server has sent these parts of an answer."""

    @contextmanager
    def phase(spoken, reached, ended):
        gate = Gate()
        gate.reached = reached
        first = [spoken.pieces[0]] if chunks == ("delta",) else chunks
        with LoopbackServer([Reply(status, chunks=[*first, gate])]) as server:
            yield spoken.kind(base_url=server.url)
            assert server.requests[0].left.wait(10)

    return phase


@contextmanager
def pausing(spoken, reached, ended):
    class Pausing(spoken.kind):
        async def _pause(self, seconds):
            reached.set()
            await asyncio.Event().wait()

    with LoopbackServer([Reply(503)]) as server:
        yield Pausing(base_url=server.url)


PHASES = {
    "resolving": resolving,
    "connecting": connecting,
    "shaking hands": shaking_hands,
    "tunnelling": tunnelling,
    "sending": sending,
    "waiting": waiting,
    "before the first delta": answering(),
    "after the first delta": answering("delta"),
    "reading an error": answering(b"It failed", status=400),
    "pausing": pausing,
}


def ask_and_tell(llm, face, ended):
    """Ask, and tell when that has ended: an event loop waits for its threads before it closes, some of them in DNS."""

    async def asking():
        try:
            return await ask_async(llm, face, "Hi")
        finally:
            ended.set()

    try:
        return asyncio.run(asking()) if face in (Face.ASYNC, Face.ASYNC_STREAM) else ask(llm, face, "Hi")
    finally:
        ended.set()


@pytest.mark.parametrize("face", Face, ids=lambda one: one.name.lower())
@pytest.mark.parametrize("name", PHASES)
def test_close_ends_every_phase(name, face):
    spoken = FORMATS[(list(PHASES).index(name) + list(Face).index(face)) % len(FORMATS)]
    reached, ended = threading.Event(), threading.Event()
    with PHASES[name](spoken, reached, ended) as llm, ThreadPoolExecutor(1) as threads:
        asked = threads.submit(ask_and_tell, llm, face, ended)
        assert reached.wait(10)
        llm.close()
        with pytest.raises(UnsupportedOperationError, match="closed") as caught:
            asked.result(10)
        assert KEY not in f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"


# Leaving.


@pytest.mark.parametrize("face", [Face.ASYNC, Face.ASYNC_STREAM])
@EVERY_FORMAT
def test_cancelling_closes_the_connection(spoken, face):
    async def scenario(llm):
        task = asyncio.create_task(whole(llm))
        await asyncio.to_thread(gate.reached.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def whole(llm):
        if not face.streams:
            return await llm.generate_async("Hi")
        return [delta async for delta in llm.generate_async("Hi", stream=True)]

    for chunks in ([], spoken.pieces[:1]) if face.streams else ([], [b'{"']):
        gate = Gate()
        with spoken.served(Reply(chunks=[*chunks, gate])) as (llm, server):
            asyncio.run(scenario(llm))
            assert server.requests[0].left.wait(10)


@EVERY_FORMAT
def test_leaving_closes_the_connection(spoken):
    with spoken.served(Reply(chunks=spoken.pieces[:1], stalls=True)) as (llm, server):
        with llm.generate("Hi", stream=True) as stream:
            assert next(stream).content == "Hel"
        assert server.requests[0].left.wait(10)


@EVERY_FORMAT
def test_a_whole_answer_waits_for_no_end_of_its_body(spoken):
    with spoken.served(Reply(chunks=spoken.pieces, stalls=True)) as (llm, server):
        assert "".join(delta.content for delta in llm.generate("Hi", stream=True, timeout=10)) == "Hello"
        assert server.requests[0].left.wait(10)


# Proxies and trust.


class Tunnel(LocalServer):
    """A proxy that connects every name to one place. `heads` are those that it was sent, `carried` all other bytes."""

    def __init__(self, port):
        super().__init__()
        self.target = port
        self.heads = []
        self.carried = b""

    async def _serve_connection(self, number, reader, writer):
        self.heads.append(await read_head(reader))
        inner, outer = await asyncio.open_connection("127.0.0.1", self.target)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, outer))
                group.create_task(self._carry(inner, writer))
        finally:
            outer.transport.abort()

    async def _carry(self, source, target):
        while data := await source.read(2**16):
            self.carried += data
            target.write(data)
        target.write_eof() if target.can_write_eof() else target.transport.abort()


@pytest.fixture
def tls_server():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    with LoopbackServer(CHAT.whole_or_stream, tls=context) as server:
        yield server


@EVERY_FORMAT
def test_a_certificate_that_nobody_trusts(spoken, tls_server):
    with spoken.kind(base_url=tls_server.url) as llm:
        for face in (Face.WHOLE, Face.ASYNC_STREAM):
            assert "SSL_CERT_FILE" in failure(llm, ProviderConnectionError, face).message
        assert llm.retried == 0
    assert tls_server.requests == []


PROGRAM = """
import sys
from abstractllm.providers.openai import OpenAIProvider
for url in sys.argv[1:]:
    with OpenAIProvider(base_url=url, model="gpt-4.1") as llm:
        print(llm.generate("Hi").content, *(delta.content for delta in llm.generate("Hi", stream=True)))
"""


def test_trust_and_proxy_come_from_the_environment(run_python, tls_server, monkeypatch):
    with Tunnel(tls_server.port) as tunnel:
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        monkeypatch.setenv("HTTPS_PROXY", tunnel.url.replace("://", "://me:word@"))
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        assert run_python(PROGRAM, tls_server.url, "https://service.invalid/v1") == "Hello Hel lo \n" * 2
    assert [head.words[:2] for head in tunnel.heads] == [("CONNECT", "service.invalid:443")]
    assert "proxy-authorization" in tunnel.heads[0].headers
    assert KEY not in str(tunnel.heads)
    assert KEY.encode() not in tunnel.carried
    assert len(tls_server.requests) == 4
    for request in tls_server.requests:
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert "proxy-authorization" not in request.headers
