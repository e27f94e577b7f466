"""Answers, whole and streamed, from any thread or loop; and what of them is no answer."""

from __future__ import annotations

import asyncio

import pytest

from abstractllm.errors import GenerationError, InvalidParameterError, ProviderConnectionError
from abstractllm.providers.http import Limits
from abstractllm.testing.faces import Face, ask
from abstractllm.testing.loopback import Reply

from .toy import HELLO, KEY, Toy, event, failure, friendly, served, text


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


@pytest.mark.parametrize("bad", [b"{", b'"\xff"', b"\xff\xfe", b'{"text": "\xc3("}'])
def test_what_is_no_json_in_a_stream(bad):
    with served(Reply(chunks=[HELLO[0], event(bad)])) as (llm, server):
        failure(llm, GenerationError)
        assert len(server.requests) == 1
    with served(Reply(body=bad)) as (llm, _):
        failure(llm, GenerationError, stream=False)


def test_a_compressed_answer_is_refused():
    with served(Reply(headers={"Content-Encoding": "gzip"}, body=b"\x1f\x8b")) as (llm, _):
        assert "gzip" in failure(llm, GenerationError).message


def test_a_cut_after_the_end_marker_changes_nothing():
    with served(Reply(chunks=HELLO, ends=False)) as (llm, server):
        assert text(llm) == "Hello"
    assert len(server.requests) == 1


def test_a_stream_without_its_end_marker_is_cut_off():
    with served(Reply(chunks=HELLO[:2])) as (llm, server):
        assert "cut off" in failure(llm, ProviderConnectionError).message
    assert len(server.requests) == 1


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
