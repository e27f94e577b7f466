"""Answer several questions at once, at most a few at a time, while the event loop stays free.

Run it with `python docs/examples/many_at_once.py`.
"""

from __future__ import annotations

import asyncio

from abstractllm import AbstractLLMInterface, create_llm

QUESTIONS = [f"What is the capital of {country}?" for country in ("France", "Japan", "Kenya", "Peru", "Norway", "Cuba")]


async def answer(llm: AbstractLLMInterface, turn: asyncio.Semaphore, question: str) -> str:
    """Return the answer to one question, when its turn has come."""
    async with turn:
        response = await llm.generate_async(question)
        return response.content


async def heartbeat(done: asyncio.Event) -> int:
    """Count how often the event loop came round until all is done."""
    beats = 0
    while not done.is_set():
        await asyncio.sleep(0.005)
        beats += 1
    return beats


async def main() -> None:
    """Ask everything and print what came."""
    done = asyncio.Event()
    beats = asyncio.create_task(heartbeat(done))
    turn = asyncio.Semaphore(4)
    async with create_llm("mlx") as llm:
        answers = await asyncio.gather(*(answer(llm, turn, question) for question in QUESTIONS))
    done.set()
    for question, text in zip(QUESTIONS, answers, strict=True):
        print(f"{question} {text}")
    print(f"The event loop came round {await beats} times meanwhile.")


if __name__ == "__main__":
    asyncio.run(main())
