"""The Hugging Face provider through its public faces, on real models."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from abstractllm import (
    ContextWindowExceededError,
    InvalidParameterError,
    UnsupportedFeatureError,
    UnsupportedOperationError,
    embedded,
)
from abstractllm.accumulator import join
from abstractllm.messages import to_messages
from abstractllm.providers.call import Call
from abstractllm.providers.huggingface import HuggingFaceProvider
from abstractllm.providers.huggingface.decoding import CHUNK, answer_all
from abstractllm.providers.local.preparing import prepare
from abstractllm.providers.local.tokenizer import ChatTokenizer
from abstractllm.types import GenerateRequest, GenerateResponse, Message

GOLDEN = Path(__file__).parents[2] / "docs" / "embedded-model" / "golden.json"
SAMPLED = {"temperature": 0.8, "top_p": 0.95, "seed": 7}


@pytest.fixture(scope="module")
def llm() -> Iterator[HuggingFaceProvider]:
    """The model that ships."""
    with HuggingFaceProvider(max_tokens=24, device="cpu") as provider:
        yield provider


@pytest.fixture(scope="module")
def endless(tiny_model: Path) -> Iterator[HuggingFaceProvider]:
    """A random model, which practically never ends by itself."""
    with HuggingFaceProvider(model=str(tiny_model), max_tokens=400, device="cpu") as provider:
        yield provider


def tokens_of(response: GenerateResponse) -> list[bytes]:
    """What each token of an answer, asked for with logprobs, stands for."""
    return [one.bytes for one in response.logprobs]


def golden_messages(case: dict[str, Any]) -> tuple[Message, ...]:
    """The conversation of a golden case; its calls and results get the ids that ours must have."""
    entries: list[dict[str, Any]] = []
    ids: list[str] = []
    for message in case["messages"]:
        entry = dict(message)
        if message["role"] == "tool":
            entry["tool_call_id"] = ids.pop(0)
        if message.get("tool_calls"):
            ids = [f"call_{number}" for number in range(len(message["tool_calls"]))]
            entry["tool_calls"] = [{**call, "id": name} for call, name in zip(message["tool_calls"], ids, strict=True)]
        entries.append(entry)
    return to_messages(entries)


CASES = json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_the_golden_prompts_get_the_golden_tokens(llm: HuggingFaceProvider) -> None:
    """Without the grammar of tools, which keeps the model from some of its mistakes."""
    model = llm._loaded(None)
    assert len(CASES) >= 50
    for case in CASES:
        request = GenerateRequest(golden_messages(case), logprobs=True, max_tokens=len(case["tokens"]))
        (prepared,) = prepare(model, request)
        answer = join(answer_all(model, [replace(prepared, prompt=case["prompt_tokens"])], Call()))
        assert tokens_of(answer) == golden_tokens(case, model.tokenizer)


def test_golden_prompts_without_tools_get_the_golden_tokens_through_the_faces(llm: HuggingFaceProvider) -> None:
    cases = [case for case in CASES if not case["tools"]]
    assert len(cases) > 10
    for case in cases:
        answer = llm.generate(messages=golden_messages(case), logprobs=True, max_tokens=len(case["tokens"]))
        assert answer.usage is not None
        assert answer.usage.prompt_tokens == len(case["prompt_tokens"])
        assert tokens_of(answer) == golden_tokens(case, llm._loaded(None).tokenizer)


def golden_tokens(case: dict[str, Any], tokenizer: ChatTokenizer) -> list[bytes]:
    """What each token of a golden answer stands for, without the one that ends it."""
    return [tokenizer.token_bytes(token) for token in case["tokens"] if token not in tokenizer.stop_tokens]


class TestFaces:
    @pytest.mark.parametrize("params", [{}, SAMPLED], ids=["greedy", "seeded"])
    async def test_all_faces_give_the_same_answer(self, llm: HuggingFaceProvider, params: dict[str, Any]) -> None:
        whole = llm.generate("What can you do?", **params)
        pieces = list(llm.generate("What can you do?", stream=True, **params))
        async_whole = await llm.generate_async("What can you do?", **params)
        async_pieces = [piece async for piece in llm.generate_async("What can you do?", stream=True, **params)]
        assert len(pieces) > 5
        for other in (join(pieces), async_whole, join(async_pieces)):
            assert (other.content, other.usage, other.finish_reason) == (
                whole.content,
                whole.usage,
                whole.finish_reason,
            )

    def test_usage_timings_and_model_arrive(self, llm: HuggingFaceProvider) -> None:
        response = llm.generate("Hello")
        assert response.model == "embedded"
        assert response.usage is not None
        assert response.usage.prompt_tokens == llm.count_tokens("Hello")
        assert response.timings is not None
        assert response.timings.first_token > 0

    def test_a_stop_string_cuts_the_answer_wherever_tokens_end(self, endless: HuggingFaceProvider) -> None:
        whole = endless.generate("Tell me", max_tokens=40).content
        stop = whole[7:12]
        pieces = list(endless.generate("Tell me", max_tokens=40, stop=stop, stream=True))
        assert "".join(piece.content for piece in pieces) == whole[: whole.index(stop)]
        assert (pieces[-1].stop_string, pieces[-1].finish_reason) == (stop, "stop")

    @pytest.mark.parametrize("stream", [False, True])
    def test_several_answers_to_one_prompt(self, endless: HuggingFaceProvider, stream: bool) -> None:
        options = {"n": 3, "temperature": 1.0, "seed": 11, "max_tokens": 12}
        answer = endless.generate("What is this?", stream=stream, **options)
        if stream:
            answer = join(answer)
        assert [choice.choice for choice in answer.choices] == [0, 1, 2]
        assert len({choice.content for choice in answer.choices}) == 3
        assert answer.content == endless.generate("What is this?", **options | {"n": 1}).content

    def test_greedy_choices_are_all_the_same(self, endless: HuggingFaceProvider) -> None:
        """Each goes on with a copy of the prompt's cache, which the others must not change."""
        alone = endless.generate("What is this?", max_tokens=12).content
        answer = endless.generate("What is this?", max_tokens=12, n=3)
        assert [choice.content for choice in answer.choices] == [alone] * 3

    def test_the_text_of_tokens_is_that_of_the_answer(self, endless: HuggingFaceProvider) -> None:
        answer = endless.generate("What is this?", max_tokens=10, logprobs=True, top_logprobs=3)
        assert len(answer.logprobs) == 10
        assert b"".join(tokens_of(answer)).decode(errors="replace") == answer.content
        for one in answer.logprobs:
            assert one.top[0].logprob == one.logprob  # greedy: the likeliest is taken
            assert len(one.top) == 3

    def test_a_bias_for_a_token_that_does_not_exist_is_refused(self, llm: HuggingFaceProvider) -> None:
        with pytest.raises(InvalidParameterError, match="2048") as caught:
            llm.generate("Hello", logit_bias={2048: 1})
        assert caught.value.parameter == "logit_bias"

    def test_what_it_cannot_do_is_refused_at_the_call(self, llm: HuggingFaceProvider) -> None:
        with pytest.raises(UnsupportedFeatureError, match="reasoning"):
            llm.generate_async("Hello", reasoning="low")
        with pytest.raises(UnsupportedFeatureError, match="response_format") as caught:
            llm.generate("Hello", response_format={"type": "object"}, tools=[print_it])
        assert caught.value.provider == "huggingface"

    def test_a_prompt_beyond_the_context_is_refused_and_harms_nothing(self, llm: HuggingFaceProvider) -> None:
        for _ in range(2):
            with pytest.raises(ContextWindowExceededError, match="Shorten") as caught:
                llm.generate("word " * 20_000)
            assert caught.value.provider == "huggingface"
        assert llm.generate("Hello").content

    def test_max_tokens_is_cut_to_the_context(self, make_model: Any, tmp_path: Path) -> None:
        with HuggingFaceProvider(model=make_model(tmp_path, max_position_embeddings=48), max_tokens=1000) as small:
            usage = small.generate("Hello").usage
        assert usage is not None
        assert usage.total_tokens == 48


def print_it(text: str) -> str:
    """Print a text."""
    return text


class TestTurns:
    """Requests of one model compute in turns."""

    async def test_streams_go_on_side_by_side(self, endless: HuggingFaceProvider) -> None:
        streams = [endless.generate_async(f"Story {name}", stream=True, max_tokens=3000) for name in range(4)]
        await asyncio.gather(*streams)  # each has its first chunk
        assert [stream.response.finish_reason for stream in streams] == [None] * 4
        for stream in streams:
            await anext(stream)
            await stream.aclose()

    def test_a_stream_that_nobody_reads_holds_nobody_up(self, endless: HuggingFaceProvider) -> None:
        with endless.generate("Story", stream=True, max_tokens=3000) as stream:
            first = next(stream)
            assert endless.generate("Hello", max_tokens=3).finish_reason == "length"
            assert next(stream).content != first.content or stream.response.finish_reason is None

    async def test_company_changes_no_answer(self, endless: HuggingFaceProvider) -> None:
        prompts = ["A", "B " * 40, "C c", "D " * 300]
        options = [{"max_tokens": 16}, {"max_tokens": 16, **SAMPLED}]
        alone = [endless.generate(prompt, **option).content for prompt in prompts for option in options]
        together = await asyncio.gather(
            *(endless.generate_async(prompt, **option) for prompt in prompts for option in options)
        )
        assert [answer.content for answer in together] == alone

    async def test_a_cancelled_request_waits_for_no_turn(self, endless: HuggingFaceProvider) -> None:
        model = endless._loaded(endless.get_param("model"))
        gate = threading.Event()
        model.threads.submit(gate.wait)
        running = endless.generate_async("Story", stream=True)
        task = asyncio.ensure_future(running)
        waiting = threading.Event()
        model.threads.submit(waiting.set)
        while not endless._calls:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task  # while the model's thread is still held
        assert not waiting.is_set()
        gate.set()
        assert (await endless.generate_async("Hello", max_tokens=2)).content

    def test_a_long_prompt_comes_in_turns_and_tells_how_far_it_is(self, endless: HuggingFaceProvider) -> None:
        model = endless._loaded(endless.get_param("model"))
        (prepared,) = prepare(model, GenerateRequest((Message("user", "word " * CHUNK),), max_tokens=2))
        call = Call()
        told: list[tuple[int, int]] = []
        call.report_progress = lambda done, total: told.append((done, total))  # type: ignore[method-assign]
        list(answer_all(model, [prepared], call))
        total = len(prepared.prompt)
        assert total > 2 * CHUNK
        assert [done for done, _ in dict.fromkeys(told)] == [*range(0, total, CHUNK), total]
        assert {whole for _, whole in told} == {total}

    async def test_closing_ends_what_runs_with_an_error(self, tiny_model: Path) -> None:
        llm = HuggingFaceProvider(model=str(tiny_model), max_tokens=3000)
        stream = await llm.generate_async("Tell me", stream=True)
        await llm.aclose()
        with pytest.raises(UnsupportedOperationError, match="closed"):
            async for _ in stream:
                pass
        with pytest.raises(UnsupportedOperationError, match="closed"):
            llm.generate("Hello")

    def test_closing_ends_a_blocking_call_that_waits_for_its_turn(self, tiny_model: Path) -> None:
        llm = HuggingFaceProvider(model=str(tiny_model), max_tokens=3000)
        gate = threading.Event()
        llm._loaded(str(tiny_model)).threads.submit(gate.wait)
        errors: list[Exception] = []

        def ask() -> None:
            try:
                llm.generate("Tell me")
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        while not llm._calls:
            time.sleep(0)
        llm.close()
        thread.join(30)
        gate.set()
        assert not thread.is_alive()
        assert [type(error) for error in errors] == [UnsupportedOperationError]


class TestMemory:
    def test_providers_share_weights_until_the_last_lets_go(self, tiny_model: Path, tmp_path: Path) -> None:
        one, two = (HuggingFaceProvider(model=model, dtype="float32") for model in (tiny_model, tiny_model / "."))
        network = one._loaded(str(tiny_model)).network
        assert two._loaded(f"{tiny_model}/").network is network
        freed = weakref.ref(network)
        del network
        one.unload()
        assert two.generate("Hello", max_tokens=2).content
        two.close()
        one.close()
        gc.collect()
        assert freed() is None

    def test_an_unloaded_model_comes_back(self, tiny_model: Path) -> None:
        with HuggingFaceProvider(model=str(tiny_model), max_tokens=4) as llm:
            before = llm.generate("Hello").content
            llm.unload()
            assert llm.generate("Hello").content == before

    def test_the_number_format_is_what_is_asked_for(self, tiny_model: Path) -> None:
        import torch

        for dtype, expected in (("auto", torch.float32), ("bfloat16", torch.bfloat16)):
            with HuggingFaceProvider(dtype=dtype, device="cpu", max_tokens=4) as llm:
                network = llm._loaded(None).network
                assert {weight.dtype for weight in network.parameters()} == {expected}
                assert llm.generate("Hello").content

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    def test_a_forked_child_is_told(self, run_python: Any) -> None:
        printed = run_python(FORK)
        assert "UnsupportedOperationError" in printed
        assert "fork" in printed


FORK = """
import os, sys, warnings
warnings.simplefilter("ignore")
from abstractllm.providers.huggingface import HuggingFaceProvider
llm = HuggingFaceProvider(max_tokens=2)
llm.generate("Hello")
for model in (llm, HuggingFaceProvider(dtype="bfloat16")):
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        try:
            print(model.generate("Hello"))
        except Exception as error:
            print(type(error).__name__, error)
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(pid, 0)
"""


def test_it_is_not_in_the_way_of_a_shipped_model_that_is_moved(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    shutil.copytree(embedded.PATH, folder, ignore=shutil.ignore_patterns("__pycache__"))
    with HuggingFaceProvider(model=folder, max_tokens=8) as moved, HuggingFaceProvider(max_tokens=8) as shipped:
        assert moved.generate("Hello").content == shipped.generate("Hello").content
