"""The server of mlx-lm itself, with the model that ships: what a real service does with our requests."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, ClassVar
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import pytest

from abstractllm import embedded
from abstractllm.errors import GenerationError, OutputValidationError
from abstractllm.interface import AbstractLLMInterface
from abstractllm.providers.compatible import CompatibleProvider, MLXServer
from abstractllm.providers.mlx import MLXProvider
from abstractllm.testing import ProviderConformance
from abstractllm.testing.faces import Face, ask
from abstractllm.testing.recording import Recorder
from abstractllm.types import Message

from .behaving import settled

PATIENCE = 60.0
"""Seconds within which the server must be there."""

SWITCH = {
    "name": "switch",
    "description": "Switch the light.",
    "parameters": {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]},
}
WEATHER = {
    "name": "get_weather",
    "description": "Get the current weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def await_health(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Return once the server says that it is well; fail with its log where it ends, or takes too long."""
    opener = build_opener(ProxyHandler({}))
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends and process.poll() is None:
        try:
            with opener.open(f"{url}/health", timeout=5) as answer:
                answer.read()
                return
        except (URLError, OSError):
            threading.Event().wait(0.05)
    pytest.fail(f"mlx_lm.server did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of mlx-lm, stopped at the end, whatever happens."""
    pytest.importorskip("mlx_lm")
    folder = tmp_path_factory.mktemp("server")
    log, port = folder / "log", free_port()
    command = [sys.executable, "-m", "mlx_lm", "server", "--model", str(embedded.PATH), "--port", str(port)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder)}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            await_health(process, f"http://127.0.0.1:{port}", log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()
            process.wait()


class TestRow(ProviderConformance):
    """The row of the server keeps all rules."""

    params: ClassVar[dict[str, Any]] = {"max_tokens": 40, "temperature": 0}
    other_prompts = ("Say hello.",)
    tool_prompt = "What is the weather in Paris?"
    tools = (SWITCH, WEATHER)
    kind: ClassVar[type[CompatibleProvider]] = MLXServer

    @pytest.fixture(autouse=True)
    def server(self, real_server: str) -> None:
        self.url = real_server

    def make(self) -> CompatibleProvider:
        return self.kind(base_url=self.url)

    def make_failing(self) -> CompatibleProvider:
        return self.kind(base_url=self.url, model="there/is-no-such-model")


class TestCompatible(TestRow):
    """The class for any server keeps all rules but those on what this server ignores, which it cannot know."""

    kind = CompatibleProvider

    def _faces(self, llm: AbstractLLMInterface) -> list[Face]:
        return [Face.WHOLE, Face.ASYNC_STREAM]

    def test_n_gives_so_many_answers(self) -> None:
        """One answer is not taken for two."""
        with self.make() as llm:
            for face in self._faces(llm):
                with pytest.raises(GenerationError, match="1 of 2 answers"):
                    self._ask(llm, face, n=2)

    def test_a_response_format_is_kept(self) -> None:
        """An answer of another form is not taken for one."""
        with self.make() as llm:
            for face in self._faces(llm):
                with pytest.raises(OutputValidationError):
                    self._ask(llm, face, response_format={"type": "object"}, retries=0)

    def test_logprobs_are_those_of_the_answer(self) -> None:
        """A whole answer has those that the server sends."""
        with self.make() as llm:
            assert self._ask(llm, Face.WHOLE, logprobs=True, top_logprobs=2).whole.logprobs

    def test_stop_strings_are_kept(self) -> None:
        """One that is a token ends the answer, perhaps with the space before it; the server cuts others out of it."""
        with self.make() as llm:
            whole = self._ask(llm, Face.WHOLE).whole.content
            word = whole.split()[1]
            for face in self._faces(llm):
                assert self._ask(llm, face, stop=[word]).whole.content.strip() == whole[: whole.index(word)].strip()


PROMPTS = ("Say hello.", "What is the capital of France?", "My name is Ada. What is my name?")
LONG = {"max_tokens": 400, "temperature": 0, "logit_bias": {2: -100.0}}
"""An answer that does not end: 2 is the token that ends a turn."""


@pytest.fixture
def row(real_server: str) -> Iterator[MLXServer]:
    with MLXServer(base_url=real_server) as llm:
        yield llm


def test_it_says_what_our_own_provider_says(row: MLXServer) -> None:
    with MLXProvider() as ours:
        for prompt in PROMPTS:
            expected = ours.generate(prompt, "Be brief.", max_tokens=40, temperature=0)
            for face in (Face.WHOLE, Face.STREAM):
                answer = ask(row, face, prompt, system_prompt="Be brief.", max_tokens=40, temperature=0).whole
                assert answer.content == expected.content
                assert answer.finish_reason == expected.finish_reason
                assert answer.usage is not None
                assert expected.usage is not None
                assert answer.usage.prompt_tokens == expected.usage.prompt_tokens


def test_a_tool_is_really_called_and_its_result_is_read(row: MLXServer) -> None:
    question = Message("user", "What is the weather in Paris?")
    for face in Face:
        answer = ask(row, face, None, messages=[question], tools=[WEATHER], max_tokens=60, temperature=0).whole
        (call,) = answer.tool_calls
        assert (call.name, call.arguments) == ("get_weather", {"city": "Paris"})
        assert answer.finish_reason == "tool_calls"
        result = Message("tool", "17 degrees and rain", tool_call_id=call.id, name=call.name)
        turns = [question, answer.to_message(), result]
        said = ask(row, face, None, messages=turns, tools=[WEATHER], max_tokens=60, temperature=0).whole
        assert "17" in said.content


@pytest.mark.parametrize("stop", ["ol f", "tool", " no tool", "I", "not there"])
def test_stop_strings_end_the_answer_wherever_they_are(row: MLXServer, stop: str) -> None:
    prompt, params = "Count from one to five, in words.", {"max_tokens": 40, "temperature": 0}
    whole = ask(row, Face.WHOLE, prompt, **params).whole
    assert whole.content == "I have no tool for that."  # else choose other strings
    for face in Face:
        cut = ask(row, face, prompt, stop=["never", stop], **params).whole
        assert cut.content == whole.content.partition(stop)[0]
        assert cut.stop_string == (stop if stop in whole.content else None)
        assert cut.finish_reason == "stop"


def test_cancelling_closes_the_connection(real_server: str) -> None:
    async def leave(llm: MLXServer) -> None:
        async with aclosing(llm.generate_async("Hello", stream=True, **LONG)) as stream:
            await anext(stream)

    async def cancel(llm: MLXServer) -> None:
        begun = asyncio.Event()

        async def read() -> None:
            async for _ in llm.generate_async("Hello", stream=True, **LONG):
                begun.set()

        task = asyncio.create_task(read())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with Recorder(real_server) as between, MLXServer(base_url=between.url) as llm:
        for number, end in enumerate((leave, cancel), 1):
            asyncio.run(end(llm))
            assert settled(lambda number=number: len(between.recorded) == number)
        assert [one.whole for one in between.recorded] == [False, False]
        assert llm.generate("Say hello.", max_tokens=8).content
