"""What one turn of an agent costs in CPU time: an answer of the model with one call of an instant tool.

    python tests/benchmarks/agent_turn.py [--rounds 7] [--only ours langchain]

The model is a script, so that what is measured is what the package adds. The cost of a turn is the difference between
runs of 8 turns with a call and runs of none, by 8. "echo alone" is what our scripted model takes by itself for the same
questions: ours less that is the overhead of the agent. Others than this package must be installed:
`pip install pydantic-ai-slim openai-agents langchain`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version

from agent_contestants import CONTESTANTS, Run
from measure import interleave, table

TURNS = 8
DISTRIBUTIONS = {"pydantic-ai": "pydantic-ai-slim"}


def cost(loop: asyncio.AbstractEventLoop, with_turns: Run, without: Run, count: int) -> float:
    """Return microseconds of CPU time for a turn."""
    return (timed(loop, with_turns, count) - timed(loop, without, count)) / TURNS


def timed(loop: asyncio.AbstractEventLoop, run: Run, count: int) -> float:
    async def runs() -> None:
        for _ in range(count):
            await run()

    started = time.process_time()
    loop.run_until_complete(runs())
    return (time.process_time() - started) / count * 1e6


def eight_at_once() -> float:
    """Return the milliseconds that eight calls of a tool of 100 ms take in one turn."""
    from abstractllm import Agent, ToolCall, create_llm
    from abstractllm.providers.echo import Reply

    def wait(seconds: float) -> str:
        """Wait."""
        time.sleep(seconds)
        return "done"

    calls = [ToolCall(f"call_{number}", "wait", {"seconds": 0.1}) for number in range(8)]
    agent = Agent(
        create_llm("echo", replies=lambda _: Reply(tool_calls=calls) if len(_.messages) == 1 else "done"), tools=[wait]
    )
    agent.run("Go.")
    started = time.perf_counter()
    agent.run("Go.")
    return (time.perf_counter() - started) * 1e3


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--runs", type=int, default=20, help="runs of each kind in a round")
    parser.add_argument("--only", nargs="+", choices=list(CONTESTANTS), default=list(CONTESTANTS))
    options = parser.parse_args()
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    others = (DISTRIBUTIONS.get(name, name) for name in options.only if name not in ("ours", "echo alone"))
    print(
        f"{system}, load average before the run {os.getloadavg()[0]:.1f};", *(f"{one} {version(one)}" for one in others)
    )
    loop = asyncio.new_event_loop()
    for kind in ("async", "sync"):
        contest: dict[str, Callable[[], float]] = {}
        for name in options.only:
            runs = CONTESTANTS[name](TURNS, kind), CONTESTANTS[name](0, kind)
            for run in runs:
                timed(loop, run, 3)
            contest[name] = lambda runs=runs: cost(loop, *runs, options.runs)
        print(table(f"one turn with one {kind} tool", "CPU us a turn", interleave(contest, options.rounds), "ours"))
    print(f"eight sync tools of 100 ms in one turn: {eight_at_once():.0f} ms")


if __name__ == "__main__":
    main()
