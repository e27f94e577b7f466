"""Clients of one service, each behind the same two methods, in a process of its own that takes orders.

    python tests/benchmarks/http_contestants.py NAME BASE_URL

An order is a line of JSON, `{"what": "calls" or "chunks" or "construction", "count": 200, "concurrency": 1}`; the
answer is a line with microseconds of CPU time, those of all threads of this process, and of wall time, per call, per
chunk of text or per construction.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from typing import Any, Protocol

PROMPT = "Tell me about the city of Porto Alegre in three sentences, please."
MESSAGES = [{"role": "user", "content": PROMPT}]
KEY = "benchmark-key"


class Contestant(Protocol):
    """One client."""

    async def call(self) -> int:
        """Ask for a whole answer and return the length of its text."""

    def chunks(self) -> AsyncIterator[str]:
        """Ask for a stream and yield the text of each chunk."""


class Ours:
    """This package, through its provider for OpenAI."""

    def __init__(self, url: str) -> None:
        from abstractllm import create_llm

        self._llm = create_llm("openai", model="gpt-4o", base_url=url, api_key=KEY)

    async def call(self) -> int:
        """Ask for a whole answer."""
        return len((await self._llm.generate_async(PROMPT)).content)

    async def chunks(self) -> AsyncIterator[str]:
        """Ask for a stream."""
        async for chunk in self._llm.generate_async(PROMPT, stream=True):
            yield chunk.content


class RawAiohttp:
    """Plain aiohttp and the standard library's json, without any check."""

    def __init__(self, url: str) -> None:
        self._url = url + "/chat/completions"
        self._session: Any = None

    def _post(self, stream: bool) -> Any:
        import aiohttp

        self._session = self._session or aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"})
        body = {"model": "gpt-4o", "messages": MESSAGES} | ({"stream": True} if stream else {})
        return self._session.post(self._url, json=body)

    async def call(self) -> int:
        """Ask for a whole answer."""
        async with self._post(False) as response:
            return len((await response.json())["choices"][0]["message"]["content"])

    async def chunks(self) -> AsyncIterator[str]:
        """Ask for a stream."""
        async with self._post(True) as response:
            async for line in response.content:
                if line.startswith(b"data: {"):
                    choices = json.loads(line[6:])["choices"]
                    yield choices[0]["delta"].get("content") or "" if choices else ""


class OpenAISDK:
    """The openai package."""

    def __init__(self, url: str) -> None:
        from openai import AsyncOpenAI

        self._client = AsyncOpenAI(base_url=url, api_key=KEY)

    async def call(self) -> int:
        """Ask for a whole answer."""
        answer: Any = await self._client.chat.completions.create(model="gpt-4o", messages=MESSAGES)  # type: ignore[call-overload]
        return len(answer.choices[0].message.content)

    async def chunks(self) -> AsyncIterator[str]:
        """Ask for a stream."""
        stream: Any = await self._client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)  # type: ignore[call-overload]
        async for chunk in stream:
            yield chunk.choices[0].delta.content or "" if chunk.choices else ""


class LiteLLM:
    """litellm, whose price table is the one that it ships."""

    def __init__(self, url: str) -> None:
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        import litellm

        self._litellm, self._url = litellm, url

    async def _ask(self, **more: Any) -> Any:
        return await self._litellm.acompletion(
            model="openai/gpt-4o", messages=MESSAGES, api_base=self._url, api_key=KEY, **more
        )

    async def call(self) -> int:
        """Ask for a whole answer."""
        return len((await self._ask()).choices[0].message.content)

    async def chunks(self) -> AsyncIterator[str]:
        """Ask for a stream."""
        async for chunk in await self._ask(stream=True):
            yield chunk.choices[0].delta.content or "" if chunk.choices else ""


class AnyLLM:
    """any-llm with a client that is kept."""

    def __init__(self, url: str) -> None:
        from any_llm import AnyLLM as Client

        self._client = Client.create("openai", api_key=KEY, api_base=url)

    async def call(self) -> int:
        """Ask for a whole answer."""
        answer: Any = await self._client.acompletion(model="gpt-4o", messages=MESSAGES)
        return len(answer.choices[0].message.content)

    async def chunks(self) -> AsyncIterator[str]:
        """Ask for a stream."""
        stream: Any = await self._client.acompletion(model="gpt-4o", messages=MESSAGES, stream=True)
        async for chunk in stream:
            yield chunk.choices[0].delta.content or "" if chunk.choices else ""


class PydanticAI:
    """pydantic-ai's model, without an agent around it."""

    def __init__(self, url: str) -> None:
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.openai import OpenAIProvider

        self._model = OpenAIChatModel("gpt-4o", provider=OpenAIProvider(base_url=url, api_key=KEY))

    def _asked(self) -> tuple[Any, None, Any]:
        from pydantic_ai.messages import ModelRequest
        from pydantic_ai.models import ModelRequestParameters

        return [ModelRequest.user_text_prompt(PROMPT)], None, ModelRequestParameters()

    async def call(self) -> int:
        """Ask for a whole answer."""
        answer: Any = await self._model.request(*self._asked())
        return len(answer.parts[0].content)

    async def chunks(self) -> AsyncIterator[str]:
        """Ask for a stream."""
        async with self._model.request_stream(*self._asked()) as stream:
            async for event in stream:
                part: Any = getattr(event, "delta", None) or getattr(event, "part", None)
                yield getattr(part, "content_delta", None) or getattr(part, "content", None) or ""


class LangChainOpenAI:
    """langchain-openai."""

    def __init__(self, url: str) -> None:
        from langchain_openai import ChatOpenAI

        self._model = ChatOpenAI(model="gpt-4o", base_url=url, api_key=KEY)  # type: ignore[arg-type]

    async def call(self) -> int:
        """Ask for a whole answer."""
        return len((await self._model.ainvoke(PROMPT)).content)

    async def chunks(self) -> AsyncIterator[str]:
        """Ask for a stream."""
        async for chunk in self._model.astream(PROMPT):
            yield str(chunk.content)


CONTESTANTS: dict[str, type[Any]] = {
    "ours": Ours,
    "raw aiohttp": RawAiohttp,
    "openai": OpenAISDK,
    "litellm": LiteLLM,
    "any-llm": AnyLLM,
    "pydantic-ai": PydanticAI,
    "langchain-openai": LangChainOpenAI,
}


async def calls(contestant: Contestant, count: int, concurrency: int) -> int:
    """Make so many calls, so many of them at once, and return how many there were."""
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            assert await contestant.call() > 100

    await asyncio.gather(*(work() for _ in range(concurrency)))
    return count


async def chunks(contestant: Contestant, count: int, concurrency: int) -> int:
    """Read so many streams, so many of them at once, and return how many chunks of text came."""
    left = iter(range(count))
    seen = 0

    async def work() -> None:
        nonlocal seen
        for _ in left:
            texts = [text async for text in contestant.chunks() if text]
            assert "word199" in texts[-1], texts[-1]
            seen += len(texts)

    await asyncio.gather(*(work() for _ in range(concurrency)))
    return seen


async def serve(kind: type[Any], url: str) -> None:
    """Take orders until standard input ends."""
    contestant = kind(url)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        cpu, wall = time.process_time(), time.perf_counter()
        if order["what"] == "construction":
            kept = [kind(url) for _ in range(order["count"])]
            done = len(kept)
        else:
            work = calls if order["what"] == "calls" else chunks
            done = await work(contestant, order["count"], order["concurrency"])
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        print(json.dumps({"cpu": cpu / done * 1e6, "wall": wall / done * 1e6}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(serve(CONTESTANTS[sys.argv[1]], sys.argv[2]))
