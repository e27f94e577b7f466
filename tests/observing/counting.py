"""What observers are told, as tests of metrics tell it."""

from __future__ import annotations

from types import SimpleNamespace

from abstractllm.agent.events import (
    RunFinished,
    RunInfo,
    RunStarted,
    TextDelta,
    TurnFinished,
)
from abstractllm.providers.run import GenerationEvent
from abstractllm.types import GenerateRequest, GenerateResponse, Message, Usage

REQUEST = GenerateRequest((Message("user", "Hi"),), model="m")
INFO = RunInfo("run-1", "helper", "echo", "m")
DOLLARS = {"input": 1.25, "output": "10", "cached": 0.125, "currency": "USD"}


def ended(kind="finished", usage=None, timings=None, seconds=1.0, error=None, provider="p", model="m", **more):
    request = GenerateRequest((Message("user", "Hi"),), model=model)
    response = GenerateResponse(usage=usage, timings=timings, **more)
    return GenerationEvent(kind, provider, request, response, error, seconds)


def run(metrics, info=INFO, turns=2, end=None):
    metrics(info, RunStarted((Message("user", "Hi"),)))
    for turn in range(1, turns + 1):
        metrics(info, TextDelta("x"))
        metrics(info, TurnFinished(turn, GenerateResponse(usage=Usage(10 * turn, turn))))
    result = SimpleNamespace(usage=Usage(30, 3), turns=turns, stop="end")
    metrics(info, end or RunFinished(result))
