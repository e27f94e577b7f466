"""The rules pass on providers that keep them, and each fails on a provider that breaks it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from dataclasses import replace
from typing import ClassVar

import pytest

from abstractllm.accumulator import join
from abstractllm.capabilities import ModelCapability
from abstractllm.errors import GenerationError
from abstractllm.messages import to_messages
from abstractllm.providers.base import BaseProvider
from abstractllm.providers.echo import EchoProvider, Reply
from abstractllm.providers.request import build_request
from abstractllm.streams import ResponseStream
from abstractllm.testing import ProviderConformance
from abstractllm.types import GenerateRequest, GenerateResponse, Message, TokenLogprob, ToolCall, Usage

TOOL = {
    "name": "add",
    "description": "Add two numbers.",
    "parameters": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}},
}
CALLS = (ToolCall("one", "add", {"a": 1, "b": 2}), ToolCall("two", "add", {"a": 3, "b": 4}))


class Words(BaseProvider):
    """Keeps every rule: says the prompt back, word by word; asks for tools when it is given some."""

    name = "words"
    parameters = frozenset({"max_tokens", "stop", "temperature", "seed", "n", "logprobs", "top_logprobs"}) | {
        "tool_choice",
        "response_format",
    }

    def get_capabilities(self):
        return {
            ModelCapability.STREAMING: True,
            ModelCapability.ASYNC: True,
            ModelCapability.SYSTEM_PROMPT: True,
            ModelCapability.MULTI_TURN: True,
            ModelCapability.TOOL_USE: True,
            ModelCapability.VISION: False,
            ModelCapability.DOCUMENTS: False,
        }

    def count_tokens(self, messages, tools=None):
        turns = [Message("user", messages)] if isinstance(messages, str) else to_messages(messages)
        return sum(len(turn.text.split()) for turn in turns)

    def deltas(self, request: GenerateRequest) -> list[GenerateResponse]:
        return [replace(delta, choice=number) for number in range(request.n) for delta in self.answer(request)]

    def answer(self, request: GenerateRequest) -> list[GenerateResponse]:
        text, stop_string = self.cut(self.text(request), request)
        words = text.split(" ")
        pieces = [word + " " for word in words[:-1]] + [word for word in words[-1:] if word]
        taken = pieces[: request.max_tokens]
        calls = self.calls(request)
        reason = "tool_calls" if calls else "length" if len(taken) < len(pieces) else "stop"
        end = GenerateResponse(
            tool_calls=calls,
            finish_reason=reason,
            usage=Usage(self.count_tokens(request.messages), len(taken)),
            stop_string=stop_string,
        )
        return [*(GenerateResponse(piece, logprobs=self.scores(piece, request)) for piece in taken), end]

    def text(self, request: GenerateRequest) -> str:
        return '{"yes":true}' if request.response_format else request.messages[-1].text

    def calls(self, request: GenerateRequest) -> tuple[ToolCall, ...]:
        return CALLS if request.tools and request.tool_choice != "none" else ()

    def scores(self, piece: str, request: GenerateRequest) -> tuple[TokenLogprob, ...]:
        top = [TokenLogprob(piece, -1.0 - place, piece.encode()) for place in range(request.top_logprobs or 0)]
        return (TokenLogprob(piece, -1.0, piece.encode(), tuple(top)),) if request.logprobs else ()

    def cut(self, text: str, request: GenerateRequest) -> tuple[str, str | None]:
        for stop in request.stop:
            if stop in text:
                return text[: text.index(stop)], stop
        return text, None


class Blocking(Words):
    def _stream(self, request, call):
        yield from self.deltas(request)


class Native(Words):
    async def _astream(self, request, call):
        for delta in self.deltas(request):
            await asyncio.sleep(0)
            yield delta


class Both(Blocking, Native):
    pass


class Failing(Blocking):
    def deltas(self, request):
        raise KeyError("lost")


class Gated(Blocking):
    """Blocks its thread until the gate is open."""

    def __init__(self, gate):
        super().__init__()
        self.gate = gate

    def _stream(self, request, call):
        self.gate.wait()
        yield from self.deltas(request)


class Rules(ProviderConformance):
    """What all the runs below have in common."""

    tools: ClassVar = (TOOL,)
    tool_prompt = "Add one and two."
    provider: ClassVar[type[BaseProvider]]

    def make(self):
        return self.provider()

    def make_failing(self):
        return Failing()

    def make_waiting(self, gate):
        return Gated(gate)


class TestEcho(ProviderConformance):
    def make(self):
        return EchoProvider()

    def make_failing(self):
        return EchoProvider(replies=lambda request: Reply("a b c", error=OSError("broken pipe"), error_after=2))

    def make_waiting(self, gate):
        def answer(request):
            gate.wait()
            return "open"

        return EchoProvider(replies=answer)


class TestScriptedEcho(ProviderConformance):
    tools: ClassVar = (TOOL,)
    tool_prompt = "Add one and two."

    def make(self):
        return EchoProvider(replies=self.answer)

    def answer(self, request):
        if request.tools and request.tool_choice != "none":
            return Reply("Let me see.", reasoning="Numbers.", tool_calls=CALLS)
        return Reply(f"You said: {request.messages[-1].text}", reasoning="Easy.", chunk=2, delay=0.0001)


class TestBlocking(Rules):
    provider = Blocking


class TestNative(Rules):
    provider = Native


class TestBoth(Rules):
    provider = Both


class TestUnpredictable(Rules):
    """Answers that differ from call to call pass where the subclass says that they do."""

    deterministic = False

    class provider(Blocking):
        def deltas(self, request):
            first, *rest = super().deltas(request)
            if request.response_format:
                return [first, *rest]
            return [replace(first, content=f"{id(object())} {threading.get_ident()} {first.content}"), *rest]


class TestWithoutStreams(Rules):
    class provider(Blocking):
        parameters = frozenset()

        def get_capabilities(self):
            return {
                ModelCapability.STREAMING: False,
                ModelCapability.SYSTEM_PROMPT: False,
                ModelCapability.TOOL_USE: False,
            }


# Broken providers, one for each rule.


class WithoutPromptTokens(Blocking):
    def count_tokens(self, messages, tools=None):
        return 0

    def deltas(self, request):
        *rest, last = super().deltas(request)
        return [*rest, replace(last, usage=Usage(0, last.usage.completion_tokens))]


class UntypedDeltas(Blocking):
    def deltas(self, request):
        return [replace(delta, reasoning=None) for delta in super().deltas(request)]


class UsageTwice(Blocking):
    def deltas(self, request):
        return [GenerateResponse(usage=Usage(1, 1)), *super().deltas(request)]


class ForgetfulStream(ResponseStream):
    @property
    def response(self):
        return GenerateResponse()


class Forgetful(Blocking):
    def generate(self, *args, stream=False, **params):
        result = super().generate(*args, stream=stream, **params)
        return ForgetfulStream(result._deltas, result._accumulator) if stream else result


class OtherUsage(Blocking):
    def generate_async(self, *args, stream=False, **params):
        result = super().generate_async(*args, stream=stream, **params)
        return result if stream else self.changed(result)

    async def changed(self, result):
        answer = await result
        return replace(answer, usage=Usage(answer.usage.prompt_tokens + 99, answer.usage.completion_tokens))


class OtherAnswer(Native):
    """Answers otherwise in one step than by its deltas."""

    def _answer(self, request, call):
        return self.whole(request)

    async def whole(self, request):
        return replace(join(self.deltas(request)), content="Something else.")


class TwoMinds(Both):
    async def _astream(self, request, call):
        for delta in self.deltas(request):
            yield replace(delta, content=delta.content.upper()) if request.timeout else delta


class UntypedCapabilities(Blocking):
    def get_capabilities(self):
        return {**super().get_capabilities(), ModelCapability.JSON_MODE: "yes"}


class Uncritical(Blocking):
    def _checked(self, prompt, system_prompt, files, stream, tools, params, *, unread=False):
        self._check_open()
        return build_request(self._config, prompt, system_prompt, files, stream, tools, params, unread=unread)


class IgnoresUnknown(Blocking):
    def _checked(self, prompt, system_prompt, files, stream, tools, params, *, unread=False):
        known = {name: value for name, value in params.items() if not name.startswith("no_such")}
        return super()._checked(prompt, system_prompt, files, stream, tools, known, unread=unread)


class MendsValues(Blocking):
    def _checked(self, prompt, system_prompt, files, stream, tools, params, *, unread=False):
        mended = {name: abs(value) if name == "temperature" else value for name, value in params.items()}
        return super()._checked(prompt, system_prompt, files, stream, tools, mended, unread=unread)


class DeafToSystemPrompts(Blocking):
    def deltas(self, request):
        if request.messages[0].role == "system":
            raise GenerationError("There was a system prompt.")
        return super().deltas(request)


class SameIds(Blocking):
    def deltas(self, request):
        *rest, last = super().deltas(request)
        return [*rest, replace(last, tool_calls=tuple(replace(call, id="call") for call in last.tool_calls))]


class Talkative(Blocking):
    def deltas(self, request):
        return super().deltas(replace(request, max_tokens=None))


class DeafToStops(Blocking):
    def cut(self, text, request):
        return text, None


class SharedState(Blocking):
    """Different requests that run at the same time disturb each other."""

    def __init__(self):
        super().__init__()
        self.texts = []
        self.disturbed = threading.Event()

    def _stream(self, request, call):
        text = request.messages[-1].text
        self.texts.append(text)
        if any(other != text for other in list(self.texts)):
            self.disturbed.set()
        changed = self.disturbed.wait(0.02)
        self.texts.remove(text)
        first, *rest = self.deltas(request)
        yield replace(first, content="!") if changed else first
        yield from rest


class NoCoroutine(Blocking):
    def generate_async(self, *args, stream=False, **params):
        checked = super().generate_async(*args, stream=True, **params)
        return checked if stream else Awaitable(lambda: super(NoCoroutine, self).generate_async(*args, **params))


class Awaitable:
    def __init__(self, make):
        self.make = make

    def __await__(self):
        return self.make().__await__()


class OwnLoop(Native):
    def generate(self, *args, stream=False, **params):
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return super().generate(*args, stream=stream, **params)
        raise RuntimeError("There is a running event loop already.")


class BlocksTheLoop(Gated):
    _stream = BaseProvider._stream

    async def _astream(self, request, call):
        self.gate.wait(0.05)
        for delta in self.deltas(request):
            yield delta
        if not self.gate.is_set():
            raise AssertionError("The gate stayed shut.")


class GatedWithoutThread(Blocking):
    """The provider itself is fine; what waits for its backend is not."""


class LosesItsSlot(Both):
    """Does not get its one slot for sync calls back from a stream that was left."""

    lost = False

    def _stream(self, request, call):
        if self.lost:
            raise GenerationError("No slot became free in time.")
        try:
            yield from self.deltas(request)
        except GeneratorExit:
            self.lost = True


class SwallowsCancellation(Native):
    async def _astream(self, request, call):
        for _ in range(20):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        for delta in self.deltas(request):
            yield delta


class UntypedFailure(Blocking):
    """The provider itself is fine; how it fails is not."""


class RaisesAsItLikes(Failing):
    def generate(self, *args, stream=False, **params):
        if stream:
            return super().generate(*args, stream=True, **params)
        raise KeyError("lost")


class NeverCloses(Blocking):
    def close(self):
        pass


class RefusesSeeds(Blocking):
    def answer(self, request):
        if request.seed == 7:
            raise GenerationError("A seed was given, and there is none.")
        return super().answer(request)


class OneAnswer(Blocking):
    def deltas(self, request):
        return super().deltas(replace(request, n=1))


class PositiveLogprobs(Blocking):
    def scores(self, piece, request):
        return tuple(replace(one, logprob=-one.logprob) for one in super().scores(piece, request))


class OwnSeeds(Blocking):
    """Takes a seed and draws as it likes."""

    def __init__(self):
        super().__init__()
        self.drawn = 0

    def text(self, request):
        self.drawn += 1
        return f"{self.drawn} draws" if request.seed == 17 else super().text(request)


class Formless(Blocking):
    def text(self, request):
        return '{"yes":"perhaps"}' if request.response_format else super().text(request)

    def _checked(self, *args, **kwargs):
        request = super()._checked(*args, **kwargs)
        return request if request.response_format is None else replace(request, response_format=AnyForm())


class AnyForm:
    """Takes any JSON for what was asked for."""

    kind = "json"

    def parse(self, text):
        return json.loads(text)

    def partial(self, text):
        return None


class AlwaysCalls(Blocking):
    def calls(self, request):
        return CALLS if request.tools else ()


class CountsLetters(Blocking):
    def count_tokens(self, messages, tools=None):
        return super().count_tokens(messages) if not isinstance(messages, str) else len(messages)


class BlindToFiles(Blocking):
    def deltas(self, request):
        *turns, last = request.messages
        said = last.content if isinstance(last.content, str) else last.content[-1].text
        return super().deltas(replace(request, messages=(*turns, replace(last, content=said))))


class PatientWithoutEnd(Blocking):
    """The provider itself is fine; the one that waits knows no deadline."""


class Timeless(Gated):
    def _checked(self, *args, **kwargs):
        return replace(super()._checked(*args, **kwargs), timeout=None)

    def _stream(self, request, call):
        self.gate.wait(0.02)
        yield from self.deltas(request)


BROKEN: dict[str, type[BaseProvider]] = {
    "declared_parameters_are_taken": RefusesSeeds,
    "n_gives_so_many_answers": OneAnswer,
    "logprobs_are_those_of_the_answer": PositiveLogprobs,
    "a_seed_repeats_an_answer": OwnSeeds,
    "a_response_format_is_kept": Formless,
    "tool_choice_is_obeyed": AlwaysCalls,
    "tokens_are_counted_as_they_are_used": CountsLetters,
    "text_files_are_read": BlindToFiles,
    "a_deadline_ends_the_request": PatientWithoutEnd,
    "a_whole_answer_is_complete": WithoutPromptTokens,
    "deltas_are_typed": UntypedDeltas,
    "the_last_delta_ends_the_answer": UsageTwice,
    "deltas_join_to_the_whole": Forgetful,
    "the_four_faces_agree": OtherUsage,
    "both_primitives_agree": TwoMinds,
    "capabilities_are_typed": UntypedCapabilities,
    "unsupported_features_are_refused": Uncritical,
    "unknown_parameters_are_refused": IgnoresUnknown,
    "impossible_requests_are_refused": MendsValues,
    "declared_capabilities_work": DeafToSystemPrompts,
    "tool_calls_are_whole": SameIds,
    "max_tokens_is_kept": Talkative,
    "stop_strings_are_kept": DeafToStops,
    "concurrent_calls_are_independent": SharedState,
    "async_results_are_coroutines": NoCoroutine,
    "sync_calls_work_in_a_running_loop": OwnLoop,
    "waiting_does_not_block_the_loop": GatedWithoutThread,
    "leaving_a_stream_ends_the_request": LosesItsSlot,
    "cancelling_a_task_ends_the_request": SwallowsCancellation,
    "failures_are_typed": UntypedFailure,
    "a_closed_provider_refuses": NeverCloses,
}


class BrokenRules(Rules):
    """Runs the rules on one broken provider."""

    def __init__(self, provider):
        self.provider = provider

    def make_failing(self):
        return RaisesAsItLikes() if self.provider is UntypedFailure else Failing()

    def make_waiting(self, gate):
        waiting = {GatedWithoutThread: BlocksTheLoop, PatientWithoutEnd: Timeless}
        return waiting.get(self.provider, Gated)(gate)


def rules() -> list[str]:
    return sorted(name.removeprefix("test_") for name in dir(ProviderConformance) if name.startswith("test_"))


def broken_rules(suite: ProviderConformance) -> set[str]:
    found = set()
    for rule in rules():
        try:
            getattr(suite, f"test_{rule}")()
        except Exception:
            found.add(rule)
    return found


def test_every_rule_has_a_provider_that_breaks_it():
    assert sorted(BROKEN) == rules()


@pytest.mark.parametrize("rule", sorted(BROKEN))
def test_a_broken_rule_fails_and_no_other(rule):
    assert broken_rules(BrokenRules(BROKEN[rule])) == {rule}


def test_an_answer_in_one_step_is_held_to_the_deltas():
    assert "the_four_faces_agree" in broken_rules(BrokenRules(OtherAnswer))


@pytest.mark.parametrize("rule", sorted(BROKEN))
def test_a_broken_rule_says_what_is_wrong(rule):
    with pytest.raises((AssertionError, GenerationError, RuntimeError)) as caught:
        getattr(BrokenRules(BROKEN[rule]), f"test_{rule}")()
    assert len(str(caught.value)) > 20


def test_an_answer_that_never_comes_is_a_failure_not_a_hang():
    gate = threading.Event()
    suite = BrokenRules(Blocking)
    suite.patience = 0.05
    suite.make = lambda: Gated(gate)
    with pytest.raises(AssertionError, match=r"did not end within 0\.05 s"):
        suite.test_a_whole_answer_is_complete()
    gate.set()


def test_make_must_be_written():
    with pytest.raises(NotImplementedError, match="make"):
        ProviderConformance().test_a_whole_answer_is_complete()
