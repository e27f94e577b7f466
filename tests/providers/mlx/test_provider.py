"""The MLX provider through its public faces, on real models."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from abstractllm import (
    ContextWindowExceededError,
    InvalidParameterError,
    ModelCapability,
    ModelLoadingError,
    ModelNotFoundError,
    QueueFullError,
    UnsupportedFeatureError,
    UnsupportedModelError,
    UnsupportedOperationError,
    create_llm,
)
from abstractllm.accumulator import join
from abstractllm.providers.mlx import MLXProvider
from abstractllm.types import GenerateResponse, Message

SAMPLED = {"temperature": 0.8, "top_p": 0.95, "seed": 7}


@pytest.fixture(scope="module")
def llm() -> Iterator[MLXProvider]:
    """The model that ships."""
    with MLXProvider(max_tokens=24) as provider:
        yield provider


@pytest.fixture(scope="module")
def endless(tiny_model: Path) -> Iterator[MLXProvider]:
    """A random model, which practically never ends by itself."""
    with MLXProvider(model=str(tiny_model), max_tokens=400) as provider:
        yield provider


def same(one: GenerateResponse, other: GenerateResponse) -> bool:
    """Whether two answers are the same, however much of their prompts had to be computed."""
    return facts(one) == facts(other)


def facts(answer: GenerateResponse) -> tuple[object, ...]:
    assert answer.usage is not None
    tokens = (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    return (answer.content, answer.tool_calls, answer.finish_reason, tokens)


class TestAsyncSupport:
    """What an asynchronous local model owes its application."""

    def test_a_simple_asyncio_application_gets_an_answer(self, llm: MLXProvider) -> None:
        response = asyncio.run(llm.generate_async("Hello"))

        assert response.content
        assert response.finish_reason in ("stop", "length")
        assert response.usage is not None
        assert 1 <= response.usage.completion_tokens <= 24

    async def test_chunks_come_one_by_one_while_the_loop_stays_responsive(self, endless: MLXProvider) -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0)
                ticks += 1

        ticker = asyncio.create_task(tick())
        seen: list[int] = []
        async for chunk in endless.generate_async("Tell me", stream=True, max_tokens=64):
            if chunk.content:
                seen.append(ticks)
        ticker.cancel()

        assert len(seen) > 10
        assert len(set(seen)) > 2  # the loop went on between chunks

    @pytest.mark.parametrize("number", [2, 4, 8])
    async def test_concurrent_generations_overlap_and_do_not_block_each_other(
        self, endless: MLXProvider, number: int
    ) -> None:
        streams = [endless.generate_async(f"Story {name}", stream=True, max_tokens=3000) for name in range(number)]
        await asyncio.gather(*streams)  # each has its first chunk

        assert [stream.response.finish_reason for stream in streams] == [None] * number
        for stream in streams:
            await anext(stream)
            await stream.aclose()

    @pytest.mark.parametrize("params", [{}, SAMPLED], ids=["greedy", "seeded"])
    async def test_all_faces_give_the_same_answer(self, llm: MLXProvider, params: dict[str, object]) -> None:
        whole = llm.generate("What can you do?", **params)
        stream = llm.generate("What can you do?", stream=True, **params)
        pieces = list(stream)
        async_whole = await llm.generate_async("What can you do?", **params)
        async_stream = llm.generate_async("What can you do?", stream=True, **params)
        async_pieces = [piece async for piece in async_stream]

        assert "".join(piece.content for piece in pieces) == whole.content
        assert "".join(piece.content for piece in async_pieces) == whole.content
        assert same(stream.response, whole)
        assert same(async_whole, whole)
        assert same(async_stream.response, whole)

    async def test_a_seed_gives_the_same_answer_in_company(self, endless: MLXProvider) -> None:
        alone = endless.generate("Number 3", max_tokens=32, **SAMPLED)
        together = await asyncio.gather(
            *(endless.generate_async(f"Number {n}", max_tokens=32, **(SAMPLED | {"seed": n + 4})) for n in range(6))
        )

        assert same(together[3], alone)
        assert len({response.content for response in together}) == 6

    async def test_company_does_not_change_a_greedy_answer(self, endless: MLXProvider) -> None:
        prompts = ["A", "B " * 40, "C c", "D " * 11, "E"]
        alone = [endless.generate(prompt, max_tokens=32) for prompt in prompts]
        together = await asyncio.gather(*(endless.generate_async(prompt, max_tokens=32) for prompt in prompts))

        assert all(same(one, other) for one, other in zip(together, alone, strict=True))


class TestRequests:
    def test_usage_timings_and_model_arrive(self, llm: MLXProvider) -> None:
        response = llm.generate("Hello")

        assert response.model == "embedded"
        assert response.usage is not None
        assert response.usage.prompt_tokens == llm.count_tokens("Hello")
        assert response.timings is not None
        assert response.timings.total > 0

    def test_a_system_prompt_and_a_conversation_reach_the_model(self, llm: MLXProvider) -> None:
        short = llm.generate("Hello").usage
        conversation = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
        long = llm.generate("Hello", system_prompt="Be brief.", messages=conversation).usage

        assert short is not None
        assert long is not None
        assert long.prompt_tokens > short.prompt_tokens

    def test_max_tokens_is_kept(self, endless: MLXProvider) -> None:
        response = endless.generate("Tell me", max_tokens=5)

        assert response.finish_reason == "length"
        assert response.usage is not None
        assert response.usage.completion_tokens == 5

    def test_a_stop_string_cuts_the_answer_wherever_tokens_end(self, endless: MLXProvider) -> None:
        whole = endless.generate("Tell me", max_tokens=40).content
        stop = whole[7:12]
        response = endless.generate("Tell me", max_tokens=40, stop=stop)

        assert response.content == whole[: whole.index(stop)]
        assert response.stop_string == stop
        assert response.finish_reason == "stop"

    def test_max_tokens_is_cut_to_the_context(self, tiny_model: Path, tmp_path: Path) -> None:
        folder = _changed(tiny_model, tmp_path, max_position_embeddings=64)
        with MLXProvider(model=str(folder), max_tokens=1000) as llm:
            response = llm.generate("Hello")
            usage = response.usage
            assert usage is not None
            assert usage.total_tokens <= 64

    async def test_a_prompt_beyond_the_context_is_refused_and_harms_nothing(self, llm: MLXProvider) -> None:
        with pytest.raises(ContextWindowExceededError, match="Shorten"):
            await llm.generate_async("word " * 20_000)
        with pytest.raises(ContextWindowExceededError):
            llm.generate("word " * 20_000)

        assert llm.generate("Hello").content

    def test_a_tool_reaches_the_prompt_and_none_keeps_it_out(self, llm: MLXProvider) -> None:
        def get_weather(city: str) -> str:
            """Current weather in a city."""
            return city

        with_tool = llm.generate("Hello", tools=[get_weather]).usage
        without = llm.generate("Hello", tools=[get_weather], tool_choice="none").usage

        assert with_tool is not None
        assert without is not None
        assert with_tool.prompt_tokens > without.prompt_tokens

    async def test_leaving_a_stream_frees_its_slot(self, endless: MLXProvider) -> None:
        for _ in range(40):  # more than there are slots
            async with endless.generate_async("Tell me", stream=True) as stream:
                await anext(stream)

        assert (await endless.generate_async("Tell me", max_tokens=3)).usage is not None

    async def test_cancelling_a_waiting_task_ends_its_request(self, endless: MLXProvider) -> None:
        task = asyncio.create_task(endless.generate_async("Tell me", max_tokens=2000))
        async for _ in endless.generate_async("Meanwhile", stream=True, max_tokens=3):
            pass
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_closing_ends_what_runs_with_an_error(self, tiny_model: Path) -> None:
        llm = MLXProvider(model=str(tiny_model), max_tokens=3000)
        stream = await llm.generate_async("Tell me", stream=True)
        await llm.aclose()

        with pytest.raises(UnsupportedOperationError, match="closed"):
            async for _ in stream:
                pass
        with pytest.raises(UnsupportedOperationError, match="closed"):
            llm.generate("Hello")

    def test_many_threads_and_loops_share_one_model(self, endless: MLXProvider) -> None:
        expected = endless.generate("Hello", max_tokens=16).content
        answers: list[str] = []

        def in_thread(number: int) -> None:
            if number % 2:
                answers.append(endless.generate("Hello", max_tokens=16).content)
            else:
                answers.append(asyncio.run(endless.generate_async("Hello", max_tokens=16)).content)

        threads = [threading.Thread(target=in_thread, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert answers == [expected] * 6


class TestBadInput:
    """Each a typed error with advice, before any work; the provider works afterwards."""

    @pytest.mark.parametrize(
        "bad",
        [
            {"prompt": "x", "temperature": -1},
            {"prompt": "x", "max_tokens": 0},
            {"prompt": ""},
            {"prompt": "x", "temprature": 1},
            {"prompt": "x", "top_p": 0},
            {"prompt": None},
        ],
        ids=str,
    )
    def test_a_bad_parameter_is_refused_at_the_call_in_all_faces(
        self, llm: MLXProvider, bad: dict[str, object]
    ) -> None:
        for face in (llm.generate, llm.generate_async):
            for stream in (False, True):
                with pytest.raises(InvalidParameterError):
                    face(**bad, stream=stream)  # type: ignore[arg-type]

    def test_what_it_cannot_do_is_refused_at_the_call(self, llm: MLXProvider) -> None:
        with pytest.raises(UnsupportedFeatureError, match="reasoning"):
            llm.generate_async("Hello", reasoning="low")

    def test_an_image_is_refused(self, llm: MLXProvider, tmp_path: Path) -> None:
        from PIL import Image

        picture = tmp_path / "dot.png"
        Image.new("RGB", (2, 2)).save(picture)
        with pytest.raises(UnsupportedFeatureError, match="images"):
            llm.generate("What is this?", files=[picture])

    def test_a_missing_folder_says_where_it_looked(self) -> None:
        llm = MLXProvider(model="./no-such-model")
        with pytest.raises(ModelNotFoundError, match="no such folder"):
            llm.generate("Hello")

    def test_a_bad_dtype_is_refused_at_construction(self) -> None:
        with pytest.raises(InvalidParameterError, match="dtype"):
            MLXProvider(dtype="float8")

    def test_a_corrupt_config_is_refused(self, tiny_model: Path, tmp_path: Path) -> None:
        folder = _changed(tiny_model, tmp_path)
        (folder / "config.json").write_text('{"model_type": ')
        with pytest.raises(ModelLoadingError, match="config.json"):
            MLXProvider(model=str(folder)).generate("Hello")

    def test_truncated_weights_are_refused_and_can_be_mended(self, tiny_model: Path, tmp_path: Path) -> None:
        folder = _changed(tiny_model, tmp_path)
        weights = folder / "model.safetensors"
        whole = weights.read_bytes()
        weights.write_bytes(whole[: len(whole) // 2])
        with MLXProvider(model=str(folder)) as llm:
            with pytest.raises(ModelLoadingError, match="fetch it again"):
                llm.generate("Hello")
            weights.write_bytes(whole)
            assert llm.generate("Hello", max_tokens=2).usage is not None

    def test_a_model_without_chat_template_is_refused(self, tiny_model: Path, tmp_path: Path) -> None:
        folder = _changed(tiny_model, tmp_path)
        (folder / "chat_template.jinja").unlink()
        with pytest.raises(UnsupportedModelError, match="chat template"):
            MLXProvider(model=str(folder)).generate("Hello")


class TestCapabilities:
    def test_they_come_from_config_and_template_alone(self, tiny_model: Path, tmp_path: Path) -> None:
        folder = _changed(tiny_model, tmp_path, max_position_embeddings=777)
        (folder / "model.safetensors").unlink()
        capabilities = MLXProvider(model=str(folder)).get_capabilities()

        assert capabilities[ModelCapability.CONTEXT_WINDOW] == 777
        assert capabilities[ModelCapability.TOOL_USE] is True
        assert capabilities[ModelCapability.VISION] is False

    def test_tools_are_refused_where_the_template_knows_none(self, tiny_model: Path, tmp_path: Path) -> None:
        folder = _changed(tiny_model, tmp_path)
        (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
        with pytest.raises(UnsupportedFeatureError, match="tools"):
            MLXProvider(model=str(folder)).generate("Hello", tools=[print_it])

    def test_a_model_that_is_not_here_leaves_them_unknown(self) -> None:
        capabilities = MLXProvider(model="nobody/not-cached").get_capabilities()

        assert capabilities[ModelCapability.TOOL_USE] is None
        assert capabilities[ModelCapability.CONTEXT_WINDOW] is None


def print_it(text: str) -> str:
    """Print a text."""
    return text


def _changed(model: Path, folder: Path, **config: object) -> Path:
    """Copy a model, with some of its config changed."""
    copy = folder / "model"
    shutil.copytree(model, copy)
    settings = json.loads((copy / "config.json").read_text()) | config
    (copy / "config.json").write_text(json.dumps(settings))
    return copy


def test_it_is_found_by_name(tiny_model: Path) -> None:
    with create_llm("mlx", model=str(tiny_model), max_tokens=2) as llm:
        assert llm.generate("Hello").model == str(tiny_model)


class TestEngine:
    """What the engine does for callers."""

    async def test_a_line_that_is_full_refuses_where_a_limit_is_set(self, tiny_model: Path) -> None:
        async with MLXProvider(model=str(tiny_model), max_tokens=40, max_queue=0) as llm:
            await llm.generate_async("Hi", max_tokens=1)
            answers = await asyncio.gather(*(llm.generate_async("Hi") for _ in range(40)), return_exceptions=True)

        refused = [answer for answer in answers if isinstance(answer, QueueFullError)]
        assert len(refused) == 8
        assert len([answer for answer in answers if isinstance(answer, GenerateResponse)]) == 32

    @pytest.mark.parametrize("value", [-1, True, "many"])
    def test_a_bad_limit_is_refused(self, value: object) -> None:
        with pytest.raises(InvalidParameterError, match="max_queue"):
            MLXProvider(max_queue=value)

    def test_the_second_turn_computes_only_what_is_new(self, llm: MLXProvider) -> None:
        question = Message("user", "What can you do? Tell me all about it, please.")
        first = llm.generate(messages=[question])
        second = llm.generate("Thanks!", messages=[question, first.to_message()])
        assert first.usage is not None
        assert second.usage is not None
        assert second.usage.cached_tokens >= first.usage.prompt_tokens - 1

    async def test_deterministic_answers_are_the_same_alone_and_in_company(self, endless: MLXProvider) -> None:
        options = {"deterministic": True, "temperature": 1.0, "seed": 5, "max_tokens": 30}
        alone = await endless.generate_async("What is this?", **options)
        company = [endless.generate_async(f"Question {i}", max_tokens=30) for i in range(6)]
        together, *_ = await asyncio.gather(endless.generate_async("What is this?", **options), *company)
        assert same(together, alone)
        assert alone.usage is not None
        assert alone.usage.cached_tokens == 0

    async def test_a_higher_priority_is_served_first(self, tiny_model: Path) -> None:
        async with MLXProvider(model=str(tiny_model), max_tokens=60) as llm:
            await llm.generate_async("Hi", max_tokens=1)
            order: list[int] = []

            async def ask(number: int) -> None:
                await llm.generate_async("Hi", priority=10 if number == 69 else 0)
                order.append(number)

            await asyncio.gather(*(ask(number) for number in range(70)))
        assert order.index(69) < 66

    async def test_streams_that_wait_tell_their_places(self, tiny_model: Path) -> None:
        async with MLXProvider(model=str(tiny_model), max_tokens=3000) as llm:
            running = [llm.generate_async(f"Story {i}", stream=True) for i in range(32)]
            await asyncio.gather(*running)
            assert {stream.queue_position for stream in running} == {None}
            waiting = [llm.generate_async("And me?", stream=True, priority=priority) for priority in (0, 1)]
            tasks = [asyncio.ensure_future(stream) for stream in waiting]
            while None in (places := [stream.queue_position for stream in waiting]):
                await asyncio.sleep(0)
            await running.pop().aclose()
            first = await tasks[1]
            later = [waiting[1].queue_position, waiting[0].queue_position]
            tasks[0].cancel()
            await asyncio.gather(*(stream.aclose() for stream in (*running, first)))
        assert places == [1, 0]
        assert later == [None, 0]

    @pytest.mark.parametrize("stream", [False, True])
    def test_several_answers_to_one_prompt(self, endless: MLXProvider, stream: bool) -> None:
        options = {"n": 3, "temperature": 1.0, "seed": 11, "max_tokens": 12}
        answer = endless.generate("What is this?", stream=stream, **options)
        if stream:
            deltas = list(answer)
            assert {delta.choice for delta in deltas} == {0, 1, 2}
            answer = join(deltas)
        assert [choice.choice for choice in answer.choices] == [0, 1, 2]
        assert len({choice.content for choice in answer.choices}) == 3
        assert answer.content == endless.generate("What is this?", **options | {"n": 1}).content
        again = endless.generate("What is this?", **options)
        assert [choice.content for choice in again.choices] == [choice.content for choice in answer.choices]

    @pytest.mark.parametrize("stream", [False, True])
    def test_logprobs_come_with_the_text_they_belong_to(self, endless: MLXProvider, stream: bool) -> None:
        options = {"max_tokens": 10, "logprobs": True, "top_logprobs": 3}
        answer = endless.generate("What is this?", stream=stream, **options)
        if stream:
            deltas = list(answer)
            assert all(delta.logprobs for delta in deltas if delta.content)
            answer = join(deltas)
        assert len(answer.logprobs) == 10
        assert b"".join(one.bytes for one in answer.logprobs).decode(errors="replace") == answer.content
        for one in answer.logprobs:
            assert one.logprob <= 0
            assert one.top[0].logprob == one.logprob  # greedy: the likeliest is taken
            assert [top.logprob for top in one.top] == sorted((top.logprob for top in one.top), reverse=True)
            assert len(one.top) == 3

    def test_penalties_and_bias_change_the_answer(self, endless: MLXProvider) -> None:
        plain = endless.generate("What is this?", max_tokens=30, logprobs=True, top_logprobs=0)
        assert plain.logprobs
        assert all(one.top == () for one in plain.logprobs)
        biased = endless.generate("What is this?", max_tokens=80, logit_bias={70: 100})
        assert len(set(biased.content)) == 1
        tired = endless.generate("What is this?", max_tokens=80, logit_bias={70: 100}, frequency_penalty=2)
        assert len(set(tired.content)) > 1

    def test_a_bias_for_a_token_that_does_not_exist_is_refused(self, llm: MLXProvider) -> None:
        with pytest.raises(InvalidParameterError, match="2048"):
            llm.generate("Hello", logit_bias={2048: 1})
