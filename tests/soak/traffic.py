"""Short requests of all kinds, one after the other from a seed. Each kind checks what it gets."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from abstractllm import GenerateResponse, Message, Regex
from abstractllm.providers.mlx import MLXProvider

FLAG = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"], "additionalProperties": False}
SWITCH = {"name": "switch", "description": "Switch it.", "parameters": FLAG}
LEVEL = {"type": "object", "properties": {"level": {"enum": ["low", "high"]}}, "required": ["level"]}
SET = {"name": "set_level", "description": "Set the level.", "parameters": LEVEL}


class Traffic:
    """Asks a model; `made` counts the requests of each kind."""

    def __init__(self, llm: MLXProvider, seed: int) -> None:
        self.made: Counter[str] = Counter()
        self._llm = llm
        self._random = Random(seed)
        self._kinds: dict[str, Callable[[str], Awaitable[None]]] = {
            "greedy": self._greedy,
            "sampled": self._sampled,
            "seeded": self._seeded,
            "stopped": self._stopped,
            "formed": self._formed,
            "matched": self._matched,
            "with tools": self._with_tools,
            "forced": self._forced,
            "scored": self._scored,
            "several": self._several,
            "cancelled": self._cancelled,
            "left": self._left,
            "conversation": self._conversation,
            "from a thread": self._from_a_thread,
        }

    async def one(self) -> None:
        """Make one request, or the few that a kind consists of."""
        kind = self._random.choice(list(self._kinds))
        self.made[kind] += 1
        words = " ".join(str(self._random.randrange(10**6)) for _ in range(self._random.choice([2, 4, 12])))
        await self._kinds[kind](words)

    async def many(self, number: int, together: int = 40) -> None:
        """Make so many requests, some of them at a time."""
        left = iter(range(number))

        async def worker() -> None:
            for _ in left:
                await self.one()

        await asyncio.gather(*(worker() for _ in range(together)))

    async def _ask(self, prompt: str, **params: Any) -> GenerateResponse:
        answer = await self._llm.generate_async(prompt, **params)
        assert answer.finish_reason in ("stop", "length", "tool_calls")
        return answer

    async def _greedy(self, words: str) -> None:
        await self._ask(words)

    async def _sampled(self, words: str) -> None:
        await self._ask(words, temperature=0.9, top_p=0.9, presence_penalty=0.5)

    async def _seeded(self, words: str) -> None:
        await self._ask(words, temperature=0.9, top_k=30, seed=self._random.randrange(10**6))

    async def _stopped(self, words: str) -> None:
        stops = ["a", "e", "the"]
        answer = await self._ask(words, stop=stops)
        assert not any(stop in answer.content for stop in stops)

    async def _formed(self, words: str) -> None:
        answer = await self._ask(words, response_format=FLAG, max_tokens=40)
        assert answer.parsed in ({"on": True}, {"on": False})

    async def _matched(self, words: str) -> None:
        form = Regex(f"[0-9]{{2,{self._random.randint(3, 12)}}}")
        assert (await self._ask(words, response_format=form, max_tokens=40)).content.isdigit()

    async def _with_tools(self, words: str) -> None:
        await self._ask(words, tools=[SWITCH, SET])

    async def _forced(self, words: str) -> None:
        answer = await self._ask(words, tools=[SWITCH, SET], tool_choice="set_level", max_tokens=80)
        assert [call.name for call in answer.tool_calls] == ["set_level"]

    async def _scored(self, words: str) -> None:
        answer = await self._ask(words, logprobs=True, top_logprobs=3)
        assert answer.usage is not None
        assert len(answer.logprobs) <= answer.usage.completion_tokens

    async def _several(self, words: str) -> None:
        assert len((await self._ask(words, n=3, temperature=1.0)).choices) == 3

    async def _cancelled(self, words: str) -> None:
        task = asyncio.ensure_future(self._llm.generate_async(words, max_tokens=200))
        for _ in range(self._random.choice([0, 1, 5, 50])):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _left(self, words: str) -> None:
        async with self._llm.generate_async(words, stream=True, max_tokens=200) as stream:
            await anext(stream)

    async def _conversation(self, words: str) -> None:
        talk = [Message("user", words)]
        first = await self._llm.generate_async(messages=talk)
        await self._ask("And then?", messages=[*talk, first.to_message()])

    async def _from_a_thread(self, words: str) -> None:
        stream = await asyncio.to_thread(lambda: list(self._llm.generate(words, stream=True)))
        assert stream[-1].finish_reason is not None
