"""`abstractllm` as a program, with providers that tests can hold in the middle of an answer."""

import asyncio
import fcntl
import json
import sys
import termios
import time

from abstractllm import register_provider
from abstractllm.cli import main
from abstractllm.providers.base import BaseProvider
from abstractllm.providers.echo import EchoProvider, Reply
from abstractllm.types import GenerateResponse, ToolCall, Usage


def end():
    return GenerateResponse(finish_reason="stop", model="test")


class Stubborn(BaseProvider):
    """Does what the prompt says; otherwise says it back."""

    name = "stubborn"
    settings = frozenset({"model"})

    def _stream(self, request, call):
        text = request.messages[-1].text
        yield from getattr(self, f"_{text}", lambda call: iter([GenerateResponse(content=text)]))(call)
        yield end()

    def _wait(self, call):
        yield GenerateResponse(content="one ")
        while not call.cancelled:
            time.sleep(0.01)  # and no Event: Ctrl-C at the wrong moment leaves its lock held, and `set` would hang

    def _gate(self, call):
        yield GenerateResponse(content="one ")
        sys.stdin.readline()
        yield GenerateResponse(content="two")

    def _flood(self, call):
        while not call.cancelled:
            yield GenerateResponse(content="flood " * 1000)

    def _rude(self, call):
        yield GenerateResponse(content="a\x1b[")
        yield GenerateResponse(content="2Jb\rc\x1b]0;title\x07d")


class StubbornAsync(BaseProvider):
    """Begins to answer and waits."""

    name = "stubborn-async"

    async def _astream(self, request, call):
        yield GenerateResponse(content="one ")
        await asyncio.Event().wait()


class Halting(BaseProvider):
    """Answers the first `good` requests; each further one says on standard error that it waits, and waits."""

    name = "halting"
    parameters = frozenset({"max_tokens"})
    settings = frozenset({"good"})

    async def _astream(self, request, call):
        self._left = getattr(self, "_left", self.get_param("good", 0)) - 1
        if self._left < 0:
            print("halted", file=sys.stderr, flush=True)
            await asyncio.Event().wait()
        yield GenerateResponse(content="one")
        yield GenerateResponse(finish_reason="stop", usage=Usage(1, 1))


def calling(request):
    """Make the calls that the prompt names, `NAME {ARGUMENTS}` parted by `;`, and say what they come to."""
    last = request.messages[-1]
    if last.role == "tool":
        return f"it says {last.text}"
    known = {tool.name for tool in request.tools or ()}
    asked = [text.strip().partition(" ") for text in last.text.split(";")]
    if not {name for name, _, _ in asked} & known:
        return last.text
    calls = [ToolCall(f"c{number}", name, json.loads(given or "{}")) for number, (name, _, given) in enumerate(asked)]
    return Reply("Let me see.", tool_calls=calls)


class Calling(EchoProvider):
    """Calls tools as it is told."""

    name = "calling"
    parameters = EchoProvider.parameters | {"response_format"}
    defaults = {"model": "calling", "replies": calling}


if __name__ == "__main__":
    if sys.stdin.isatty():
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C on this terminal reaches this process
    register_provider("stubborn", Stubborn)
    register_provider("stubborn-async", StubbornAsync)
    register_provider("halting", Halting)
    register_provider("calling", Calling)
    main()
