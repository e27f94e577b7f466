"""The rules that every provider keeps, as a class of tests. Keyed on capabilities; knows no provider by name."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

from abstractllm.accumulator import join
from abstractllm.capabilities import ModelCapability
from abstractllm.errors import (
    AbstractLLMError,
    InvalidParameterError,
    InvalidRequestError,
    UnsupportedFeatureError,
    UnsupportedOperationError,
)
from abstractllm.interface import AbstractLLMInterface
from abstractllm.providers.base import BaseProvider
from abstractllm.testing.asking import supports
from abstractllm.testing.checks import check_answer, check_calls, check_delta, check_same, check_whole, require
from abstractllm.testing.faces import Answer, Face, ask, ask_async, call, refused
from abstractllm.testing.features import FeatureRules
from abstractllm.testing.requests import IMPOSSIBLE, lacking
from abstractllm.types import GenerateResponse, Message


class ProviderConformance(FeatureRules):
    """The rules for providers: subclass it, write `make`, and pytest runs one test for each rule.

        class TestMine(ProviderConformance):
            def make(self):
                return MyProvider(model="small")

    A rule that asks for something the provider declares that it lacks has nothing to check and passes. A broken rule
    raises AssertionError, which says what was expected. No answer may take longer than `patience` seconds.
    """

    # One answer.

    def test_a_whole_answer_is_complete(self) -> None:
        """A whole answer has text or tool calls, a finish_reason and usage."""
        with self._provider() as llm:
            for face in (Face.WHOLE, Face.ASYNC):
                check_whole(self._ask(llm, face).whole, face.value)

    def test_deltas_are_typed(self) -> None:
        """A stream yields `GenerateResponse`s of text and `ToolCallDelta`s, and at least one."""
        with self._provider() as llm:
            for face in self._streams(llm):
                deltas = self._ask(llm, face).deltas
                require(bool(deltas), f"{face.value} yielded nothing.")
                for delta in deltas:
                    check_delta(delta, face.value)

    def test_the_last_delta_ends_the_answer(self) -> None:
        """finish_reason and usage come once, in the last delta."""
        with self._provider() as llm:
            for face in self._streams(llm):
                deltas = self._ask(llm, face).deltas
                for name in ("finish_reason", "usage"):
                    found = [number for number, delta in enumerate(deltas, 1) if getattr(delta, name) is not None]
                    places = ", ".join(map(str, found)) or "none"
                    require(
                        found == [len(deltas)],
                        f"{face.value} must give {name} in its last delta ({len(deltas)}) only; deltas: {places}.",
                    )

    def test_deltas_join_to_the_whole(self) -> None:
        """What a stream holds at its end is its deltas joined and, where comparable, the whole answer."""
        with self._provider() as llm:
            whole = self._ask(llm, Face.WHOLE).whole
            for face in self._streams(llm):
                answer = self._ask(llm, face)
                require(answer.held == join(answer.deltas), f"{face.value}: .response is not its deltas joined.")
                same = answer.whole.content == whole.content
                require(same or not self.deterministic, f"{face.value} and generate give different texts.")

    def test_the_four_faces_agree(self) -> None:
        """The same request gets the same text, tool calls, finish_reason and usage through every face.

        So a provider's `_answer`, which async callers of whole answers get, is held to its deltas.
        """
        if not self.deterministic:
            return
        with self._provider() as llm:
            first = self._ask(llm, Face.WHOLE).whole
            for face in self._faces(llm):
                check_same(first, self._ask(llm, face).whole, face.value)

    def test_both_primitives_agree(self) -> None:
        """A provider that has both `_stream` and `_astream` answers the same from both."""
        with self._provider() as llm:
            if not self.deterministic or not _has_both(llm):
                return
            blocking = self._ask(llm, Face.WHOLE).whole
            for face in (Face.ASYNC, Face.WHOLE):  # with a timeout, a sync call takes the async primitive as well
                other = self._ask(llm, face, timeout=self.patience).whole
                check_same(blocking, other, "_astream against _stream")

    # Asking for what there is, and for what there is not.

    def test_capabilities_are_typed(self) -> None:
        """Capabilities are a mapping from `ModelCapability` to True, False, a count or None."""
        with self._provider() as llm:
            for name, value in llm.get_capabilities().items():
                require(isinstance(name, ModelCapability), f"{name!r} is no ModelCapability.")
                require(value is None or isinstance(value, int), f"{name} is {value!r}; use True, False, int or None.")

    def test_unsupported_features_are_refused(self) -> None:
        """What is declared as lacking raises UnsupportedFeatureError at the call, in every face."""
        with self._provider() as llm:
            for arguments in lacking(llm):
                for face in self._faces(llm):
                    prompt = None if "messages" in arguments else self.prompt
                    refused(UnsupportedFeatureError, llm, face, prompt, **{**self.params, **arguments})
            if llm.get_capabilities().get(ModelCapability.STREAMING) is False:
                for face in (Face.STREAM, Face.ASYNC_STREAM):
                    refused(UnsupportedFeatureError, llm, face, self.prompt, **self.params)

    def test_unknown_parameters_are_refused(self) -> None:
        """A parameter that nobody knows raises InvalidParameterError at the call, in every face."""
        with self._provider() as llm:
            for face in self._faces(llm):
                refused(InvalidParameterError, llm, face, self.prompt, **self.params, no_such_parameter=1)

    def test_impossible_requests_are_refused(self) -> None:
        """An empty prompt or a bad value raises InvalidRequestError at the call, and harms no later request."""
        with self._provider() as llm:
            for bad in IMPOSSIBLE:
                arguments = {"prompt": None if "messages" in bad else self.prompt, **self.params, **bad}
                for face in self._faces(llm):
                    refused(InvalidRequestError, llm, face, **arguments)
            self._check_usable(llm, "after refused requests")

    def test_declared_capabilities_work(self) -> None:
        """A system prompt and a conversation are taken where they are declared."""
        with self._provider() as llm:
            able = llm.get_capabilities()
            for face in self._faces(llm):
                if able.get(ModelCapability.SYSTEM_PROMPT) is True:
                    check_answer(self._ask(llm, face, system_prompt="Be brief.").whole, face.value)
                if able.get(ModelCapability.MULTI_TURN) is True:
                    earlier = [Message("user", "Hello."), Message("assistant", "Hello!")]
                    check_answer(self._ask(llm, face, messages=earlier).whole, face.value)

    def test_tool_calls_are_whole(self) -> None:
        """Where tools are declared, `tool_prompt` is answered by typed calls of the tools that were given."""
        with self._provider() as llm:
            able = llm.get_capabilities().get(ModelCapability.TOOL_USE)
            if able is not True or self.tool_prompt is None:
                return
            for face in self._faces(llm):
                answer = self._ask(llm, face, self.tool_prompt, tools=self.tools)
                check_calls(answer.whole, face.value)

    def test_max_tokens_is_kept(self) -> None:
        """`max_tokens=1` gives one token, and the finish_reason "length" where there would have been more."""
        with self._provider() as llm:
            if not supports(llm, "max_tokens"):
                return
            whole = self._ask(llm, Face.WHOLE).whole
            for face in self._faces(llm):
                short = self._ask(llm, face, max_tokens=1).whole
                tokens = short.usage.completion_tokens if short.usage else 0
                require(tokens <= 1, f"{face.value} with max_tokens=1 gave {tokens} tokens.")
                if self.deterministic and whole.usage and whole.usage.completion_tokens > 1:
                    reason = short.finish_reason
                    require(reason == "length", f"{face.value} with max_tokens=1 ended with {reason!r}, not 'length'.")
                    require(whole.content.startswith(short.content), f"{face.value}: max_tokens=1 changed the answer.")

    def test_stop_strings_are_kept(self) -> None:
        """With `stop`, the answer is the text before that string, which `stop_string` names if `names_stops`."""
        with self._provider() as llm:
            if not self.deterministic or not supports(llm, "stop"):
                return
            whole = self._ask(llm, Face.WHOLE).whole.content
            stop = whole[len(whole) // 2 :][:3]
            if not stop:
                return
            for face in self._faces(llm):
                cut = self._ask(llm, face, stop=[stop]).whole
                expected = whole[: whole.index(stop)]
                require(cut.content == expected, f"{face.value}: stop={stop!r} gave {cut.content!r}, not {expected!r}.")
                require(cut.finish_reason == "stop", f"{face.value}: stop gave finish_reason={cut.finish_reason!r}.")
                named = cut.stop_string == stop or not (self.names_stops or cut.stop_string)
                require(named, f"{face.value}: stop_string is {cut.stop_string!r}, not {stop!r}.")

    # Many at a time, and from everywhere.

    def test_concurrent_calls_are_independent(self) -> None:
        """Requests that run at the same time, in threads and on one loop, get the answers that each gets alone."""
        with self._provider() as llm:
            prompts = [self.prompt, *self.other_prompts] * 2
            alone = {prompt: self._ask(llm, Face.WHOLE, prompt).whole for prompt in prompts}
            together = [*self._in_threads(llm, prompts), *self._on_one_loop(llm, prompts)]
            for prompt, answer in zip(prompts * 2, together, strict=True):
                check_answer(answer.whole, repr(prompt))
                if self.deterministic:
                    check_same(alone[prompt], answer.whole, f"{prompt!r} beside other requests")

    def test_async_results_are_coroutines(self) -> None:
        """`generate_async` returns a Coroutine: create_task, TaskGroup and asyncio.run take it, streamed or not."""
        with self._provider() as llm:
            for face in self._faces(llm):
                if face in (Face.ASYNC, Face.ASYNC_STREAM):
                    self._within(face.value, lambda face=face: self._check_coroutine(llm, face))

    def test_sync_calls_work_in_a_running_loop(self) -> None:
        """`generate` works in a thread that runs an event loop."""

        async def inside(llm: AbstractLLMInterface) -> None:
            for face in self._faces(llm):
                if face in (Face.WHOLE, Face.STREAM):
                    check_answer(ask(llm, face, self.prompt, **self.params).whole, face.value)

        with self._provider() as llm:
            self._within("A sync call in a running loop", lambda: asyncio.run(inside(llm)))

    def test_waiting_does_not_block_the_loop(self) -> None:
        """While the provider waits for its backend, the event loop goes on."""
        gate = threading.Event()
        llm = self.make_waiting(gate)
        if llm is None:
            return
        try:
            for face in self._faces(llm):
                if face in (Face.ASYNC, Face.ASYNC_STREAM):
                    gate.clear()
                    self._within(
                        f"{face.value}, whose backend waits for the event loop,",
                        lambda face=face: asyncio.run(self._open_gate(llm, face, gate)),
                    )
        finally:
            gate.set()
            llm.close()

    # Endings.

    def test_leaving_a_stream_ends_the_request(self) -> None:
        """After a stream was left early, nothing of it runs on, and the provider answers as before."""
        with self._provider() as llm:
            expected = {face: self._ask(llm, face).whole for face in self._faces(llm)}
            for face in self._streams(llm):
                self._within(f"Leaving {face.value}", lambda face=face: self._leave(llm, face))
                self._check_usable(llm, f"after leaving {face.value}", expected)

    def test_cancelling_a_task_ends_the_request(self) -> None:
        """A cancelled task ends with CancelledError, nothing runs on, and the provider answers as before."""
        with self._provider() as llm:
            expected = {face: self._ask(llm, face).whole for face in self._faces(llm)}
            for face in self._faces(llm):
                if face in (Face.ASYNC, Face.ASYNC_STREAM):
                    self._within(f"Cancelling {face.value}", lambda face=face: asyncio.run(self._cancel(llm, face)))
                    self._check_usable(llm, f"after cancelling {face.value}", expected)

    def test_failures_are_typed(self) -> None:
        """What `make_failing` returns raises an AbstractLLMError in every face."""
        llm = self.make_failing()
        if llm is None:
            return
        try:
            for face in self._faces(llm):
                self._check_failure(llm, face)
        finally:
            llm.close()

    def test_a_closed_provider_refuses(self) -> None:
        """After `close`, which may be called twice, every face raises UnsupportedOperationError at the call."""
        for close in (lambda llm: llm.close(), lambda llm: asyncio.run(llm.aclose())):
            llm = self.make()
            self._ask(llm, Face.WHOLE)
            for _ in range(2):
                self._within("close", lambda llm=llm, close=close: close(llm))
            for face in self._faces(llm):
                refused(UnsupportedOperationError, llm, face, self.prompt, **self.params)

    # How these rules ask.

    def _in_threads(self, llm: AbstractLLMInterface, prompts: Sequence[str]) -> list[Answer]:
        with ThreadPoolExecutor(len(prompts)) as threads:
            return list(threads.map(lambda prompt: self._ask(llm, Face.WHOLE, prompt), prompts))

    def _on_one_loop(self, llm: AbstractLLMInterface, prompts: Sequence[str]) -> list[Answer]:
        face = self._faces(llm)[-1]

        async def together() -> list[Answer]:
            return await asyncio.gather(*(ask_async(llm, face, prompt, **self.params) for prompt in prompts))

        answers: list[Answer] = self._within("Concurrent requests on one loop", lambda: asyncio.run(together()))
        return answers

    def _check_coroutine(self, llm: AbstractLLMInterface, face: Face) -> None:
        result = call(llm, face, self.prompt, **self.params)
        require(isinstance(result, Coroutine), f"{face.value} returned a {type(result).__name__}, not a Coroutine.")
        asyncio.run(result)

        async def with_tasks() -> None:
            await asyncio.create_task(call(llm, face, self.prompt, **self.params))
            async with asyncio.TaskGroup() as group:
                group.create_task(call(llm, face, self.prompt, **self.params))

        asyncio.run(with_tasks())
        if face is Face.ASYNC_STREAM:
            asyncio.run(self._iterate_at_once(llm))

    async def _iterate_at_once(self, llm: AbstractLLMInterface) -> None:
        deltas = [delta async for delta in call(llm, Face.ASYNC_STREAM, self.prompt, **self.params)]
        require(bool(deltas), "A stream that is iterated without await must yield its deltas.")

    async def _open_gate(self, llm: AbstractLLMInterface, face: Face, gate: threading.Event) -> None:
        task = asyncio.create_task(ask_async(llm, face, self.prompt, **self.params))
        await asyncio.sleep(0)
        gate.set()
        check_answer((await task).whole, face.value)

    def _leave(self, llm: AbstractLLMInterface, face: Face) -> None:
        if face is Face.STREAM:
            for left in (False, True):
                with call(llm, face, self.prompt, **self.params) as stream:
                    if left:
                        next(stream, None)
                require(not list(stream), "A closed stream must yield nothing more.")
            return
        asyncio.run(self._leave_async(llm))

    async def _leave_async(self, llm: AbstractLLMInterface) -> None:
        stream = await call(llm, Face.ASYNC_STREAM, self.prompt, **self.params)
        async with aclosing(stream):
            await anext(stream)
        rest = [delta async for delta in stream]
        require(not rest, "A closed stream must yield nothing more.")
        _check_no_task()

    async def _cancel(self, llm: AbstractLLMInterface, face: Face) -> None:
        begun = asyncio.Event()

        async def whole() -> None:
            begun.set()
            await call(llm, face, self.prompt, **self.params)
            if not task.cancelling():  # the answer was faster than its cancellation
                await asyncio.Event().wait()

        async def stream() -> None:
            async with call(llm, face, self.prompt, **self.params):
                begun.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(stream() if face.streams else whole())
        waiter = asyncio.create_task(begun.wait())
        await asyncio.wait([task, waiter], return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        task.cancel()
        await asyncio.wait([task, waiter])
        require(task.cancelled(), f"A cancelled task of {face.value} must end with CancelledError.")
        _check_no_task()

    def _check_usable(
        self, llm: AbstractLLMInterface, when: str, expected: Mapping[Face, GenerateResponse] | None = None
    ) -> None:
        for face in self._faces(llm):
            answer = self._ask(llm, face).whole
            check_answer(answer, face.value)
            if expected is not None and self.deterministic:
                check_same(expected[face], answer, f"{face.value} {when}")

    def _check_failure(self, llm: AbstractLLMInterface, face: Face) -> None:
        try:
            self._ask(llm, face)
        except AbstractLLMError:
            return
        except Exception as error:
            if isinstance(error, AssertionError):
                raise
            raise AssertionError(f"{face.value} raised {error!r}, which is no AbstractLLMError.") from error
        raise AssertionError(f"{face.value} of a failing provider answered; it must raise an AbstractLLMError.")


def _check_no_task() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    require(not left, f"Tasks still run after the request was ended: {left}")


def _has_both(llm: AbstractLLMInterface) -> bool:
    primitives = ("_stream", "_astream")
    return all(getattr(type(llm), name, None) not in (None, getattr(BaseProvider, name)) for name in primitives)
