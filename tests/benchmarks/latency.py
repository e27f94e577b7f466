"""How soon the first token comes: in the tenth turn of a conversation, and beside a long prompt.

    python tests/benchmarks/latency.py [--rounds 5]

The conversation has some 2,000 tokens; cold is the same prompt with another beginning, so that nothing of it is
known. Beside a prompt of 4,000 tokens, four streams run and a short request arrives 50 ms after the long one. The other
contestant is mlx-lm's `BatchGenerator` with its defaults, which takes requests between two calls of `next`.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path

from measure import interleave, machine, table
from models import LLAMA_28M, random_model
from never_end import never_end
from seed_pattern import SeedPattern

from abstractllm import Message, embedded
from abstractllm.providers.mlx import MLXProvider
from abstractllm.providers.mlx.backend import import_mlx

WORDS = "river stone lamp paper green seven quiet window market bread "
STREAMS = 4
LATER = 0.05
"""Seconds after the long prompt at which the short request arrives."""


class Conversation:
    """Ten turns with the same model; each run is another conversation."""

    def __init__(self, folder: Path) -> None:
        self.llm = MLXProvider(model=str(folder))
        never_end(self.llm, folder)
        self._numbers = count(1)

    def tenth_turn(self) -> float:
        """Milliseconds to the first token of the tenth turn."""
        talk = [Message("system", f"Conversation {next(self._numbers)} begins.")]
        for turn in range(9):
            talk.append(Message("user", f"Turn {turn}. " + WORDS * 7))
            talk.append(self.llm.generate(messages=talk, max_tokens=40).to_message())
        self._prompt = [*talk, Message("user", "And now the last question.")]
        return self._first_token(self._prompt)

    def cold(self) -> float:
        """Milliseconds to the first token of the same prompt with another beginning."""
        return self._first_token([Message("system", f"Number {next(self._numbers)} is new."), *self._prompt[1:]])

    def tokens(self) -> int:
        """Return the length of the last conversation."""
        return self.llm.count_tokens(self._prompt)

    def _first_token(self, talk: list[Message]) -> float:
        start = time.perf_counter()
        with self.llm.generate(messages=talk, stream=True, max_tokens=4) as stream:
            next(iter(stream))
            return (time.perf_counter() - start) * 1000


@dataclass
class Beside:
    """What a long prompt did to others, in milliseconds: to a short request's first token, to streams' longest gap."""

    first_token: float
    longest_gap: float


class LongPrompt:
    """Four streams, a prompt of 4,000 tokens and a short one."""

    def __init__(self, folder: Path) -> None:
        self.llm = MLXProvider(model=str(folder))
        never_end(self.llm, folder)
        self.peer = SeedPattern(folder, never_end=True)
        self.texts = [f"Tell me a story about number {number}, please." for number in range(STREAMS)]
        text = WORDS * 400
        tokens = self.peer.encode(text)
        self.long = text[: len(text) * 4000 // len(tokens)]
        self._numbers = count(1)

    def ours(self) -> Beside:
        """Measure the asynchronous interface."""
        return asyncio.run(self._ours())

    async def _ours(self) -> Beside:
        moments: list[list[float]] = [[] for _ in self.texts]

        async def run(number: int) -> None:
            async for _ in self.llm.generate_async(self.texts[number], stream=True, max_tokens=2000):
                moments[number].append(time.perf_counter())

        streams = [asyncio.create_task(run(number)) for number in range(STREAMS)]
        while any(len(times) < 5 for times in moments):
            await asyncio.sleep(0.005)
        begin = time.perf_counter()
        number = next(self._numbers)
        long = asyncio.create_task(_first(self.llm, f"{number} {self.long}"))
        await asyncio.sleep(LATER)
        first_token = await _first(self.llm, f"What is {number}?")
        await long
        for task in streams:
            task.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
        return Beside(first_token, _longest_gap(moments, begin))

    def batch_generator(self) -> Beside:
        """Measure mlx-lm's generator, driven by a loop that takes in what has arrived between two steps."""
        from mlx_lm.generate import BatchGenerator

        generator = BatchGenerator(self.peer._model, max_tokens=2000)
        uids = generator.insert([self.peer.encode(text) for text in self.texts])
        moments: dict[int, list[float]] = {uid: [] for uid in uids}

        def step() -> None:
            for response in generator.next()[1]:
                moments.setdefault(response.uid, []).append(time.perf_counter())

        while any(len(times) < 5 for times in moments.values()):
            step()
        begin, number = time.perf_counter(), next(self._numbers)
        (long,) = generator.insert([self.peer.encode(f"{number} {self.long}")])
        while time.perf_counter() < begin + LATER:
            step()
        (short,) = generator.insert([self.peer.encode(f"What is {number}?")])
        while not (short in moments and long in moments):
            step()
        first_token = (moments[short][0] - begin - LATER) * 1000
        generator.close()
        return Beside(first_token, _longest_gap([moments[uid] for uid in uids], begin))


async def _first(llm: MLXProvider, text: str) -> float:
    """Return the milliseconds to the first token."""
    start = time.perf_counter()
    async with llm.generate_async(text, stream=True, max_tokens=3) as stream:
        async for _ in stream:
            break
    return (time.perf_counter() - start) * 1000


def _longest_gap(moments: list[list[float]], begin: float) -> float:
    """Return the longest time in milliseconds between two tokens of a stream, of those that came after `begin`."""
    gaps = [later - earlier for times in moments for earlier, later in pairwise(times) if later > begin]
    return max(gaps) * 1000


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(machine(), "\n")
    import_mlx()
    with tempfile.TemporaryDirectory() as folder:
        big = random_model(Path(folder) / "28m", LLAMA_28M)
        for name, path in {"shipped model": embedded.PATH, "random 28M": big}.items():
            talk = Conversation(path)
            results = interleave({"tenth turn": talk.tenth_turn, "cold": talk.cold}, options.rounds)
            title = f"conversation of {talk.tokens()} tokens, {name}"
            print(table(title, "ms to the first token", results, "tenth turn"), flush=True)
            talk.llm.close()
            _beside_a_long_prompt(name, path, options.rounds)


def _beside_a_long_prompt(name: str, path: Path, rounds: int) -> None:
    contest = LongPrompt(path)
    seen: dict[str, list[Beside]] = {}
    contestants: dict[str, Callable[[], Beside]] = {"ours": contest.ours, "BatchGenerator": contest.batch_generator}
    for _ in range(rounds + 1):
        for key, run in contestants.items():
            seen.setdefault(key, []).append(run())
    tokens = len(contest.peer.encode(contest.long))
    for unit, value in (("first_token", "ms to the short request's first token"), ("longest_gap", "longest gap in ms")):
        results = {key: [getattr(one, unit) for one in runs[1:]] for key, runs in seen.items()}
        print(table(f"beside a prompt of {tokens} tokens, {name}", value, results, "ours"), flush=True)
    contest.llm.close()


if __name__ == "__main__":
    main()
