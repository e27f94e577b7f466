"""Serve an agent over HTTP: its answer as text while it is written, or its events as they happen.

`python docs/examples/agent_service.py` asks it through a test client and ends. To serve it for real, give `app` to any
ASGI server.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from abstractllm import Agent, Limits


def get_weather(city: str) -> str:
    """Get the weather in a city.

    Args:
        city: Name of the city.
    """
    return f"It is sunny in {city}, 21 degrees."


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Keep one agent, which serves all requests, for as long as the app lives."""
    async with Agent("mlx", tools=[get_weather], limits=Limits(turns=5, seconds=60)) as app.state.agent:
        yield


async def text(request: Request) -> StreamingResponse:
    """Answer `?question=...` with text, piece by piece."""
    run = request.app.state.agent.stream(request.query_params["question"])

    async def pieces() -> AsyncIterator[str]:
        async with run:  # a client that goes away ends the run
            async for piece in run.text():
                yield piece

    return StreamingResponse(pieces(), media_type="text/plain")


async def events(request: Request) -> StreamingResponse:
    """Answer `?question=...` with server-sent events: one for each thing that happens."""
    run = request.app.state.agent.stream(request.query_params["question"])

    async def lines() -> AsyncIterator[str]:
        async with run:
            async for event in run:
                data = {"text": event.text} if hasattr(event, "text") else {}
                yield f"event: {type(event).__name__}\ndata: {json.dumps(data)}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


app = Starlette(routes=[Route("/text", text), Route("/events", events)], lifespan=lifespan)


if __name__ == "__main__":
    with TestClient(app) as client:
        question = {"question": "What is the weather in Paris?"}
        with client.stream("GET", "/text", params=question) as response:
            for piece in response.iter_text():
                print(piece, end="", flush=True)
        print()
        print(client.get("/events", params=question).text)
