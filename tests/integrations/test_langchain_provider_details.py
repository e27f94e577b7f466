"""What is told to a chat model of LangChain's that stands behind a provider, and what becomes of what it tells."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
from langchain_core import exceptions as theirs
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.fake_chat_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk
from pydantic import SecretStr

from abstractllm import create_llm
from abstractllm.errors import (
    AuthenticationError,
    ContextWindowExceededError,
    GenerationError,
    InvalidParameterError,
    MissingDependencyError,
    ModelNotFoundError,
    OutputValidationError,
    ProviderAPIError,
    ProviderConnectionError,
    QuotaExceededError,
    RequestTimeoutError,
    UnsupportedFeatureError,
)
from abstractllm.integrations.langchain import ChatAbstractLLM
from abstractllm.integrations.langchain.incoming import AnswerReader
from abstractllm.providers.echo import Reply
from abstractllm.types import DocumentPart, ImagePart, Message, TextPart, ToolCall

from .langchain_models import AsyncModel, StreamingModel, SyncModel

LOOK_UP = {
    "name": "look_up",
    "description": "Look a word up.",
    "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
}


def heard(kind=AsyncModel, **fields):
    """Return a provider, and the list of the messages that its model hears."""
    told = []

    def script(messages, given):
        told.append(messages)
        return AIMessage(content="Yes.")

    return create_llm("langchain", model=kind(script=script, **fields)), told


# Messages.


def test_every_kind_of_turn_reaches_the_model():
    llm, told = heard()
    conversation = [
        Message(
            "user", (TextPart("See "), ImagePart(b"png", "image/png"), DocumentPart(b"pdf", "application/pdf", "a.pdf"))
        ),
        Message(
            "assistant", "Well", tool_calls=(ToolCall("c1", "look_up", {"word": "é"}), ToolCall("c2", "x", {}, "{"))
        ),
        Message("tool", "a letter", "look_up", tool_call_id="c1"),
        Message("user", (ImagePart(b"", "", url="https://there/a.png"),)),
    ]
    llm.generate("And?", system_prompt="Be brief.", messages=conversation)
    system, seen, said, result, linked, last = told[0]
    assert isinstance(system, SystemMessage)
    assert (system.content, last.content) == ("Be brief.", "And?")
    assert [block["type"] for block in seen.content] == ["text", "image", "file"]
    assert seen.content[1] == {"type": "image", "base64": "cG5n", "mime_type": "image/png"}
    assert seen.content[2]["filename"] == "a.pdf"
    assert linked.content == [{"type": "image", "url": "https://there/a.png"}]
    assert said.tool_calls == [{"name": "look_up", "args": {"word": "é"}, "id": "c1", "type": "tool_call"}]
    assert [call["args"] for call in said.invalid_tool_calls] == ["{"]
    assert isinstance(result, ToolMessage)
    assert (result.tool_call_id, result.content) == ("c1", "a letter")


def test_a_turn_comes_back_as_the_model_gave_it():
    """What our messages have no field for, such as signed thoughts, is kept for the next request."""
    blocks = [{"type": "thinking", "thinking": "Hm.", "signature": "s1"}, {"type": "text", "text": "Yes."}]
    told = []

    def script(messages, given):
        told.append(messages)
        return AIMessage(content=blocks)

    class Model(SyncModel):
        def _message(self, messages, stop, kwargs):
            return self.script(messages, kwargs)

    with create_llm("langchain", model=Model(script=script)) as llm:
        first = llm.generate("So?")
        assert (first.content, first.reasoning) == ("Yes.", "Hm.")
        llm.generate("And?", messages=[Message("user", "So?"), first.to_message()])
    assert told[1][1].content == blocks


# Parameters.


@pytest.mark.parametrize("kind", [SyncModel, StreamingModel, AsyncModel])
async def test_parameters_are_set_for_one_request_alone(kind):
    model = kind(temperature=0.9)
    async with create_llm("langchain", model=model, temperature=0.5) as llm:
        await llm.generate_async("a", seed=3, stop=["#"])
        llm.generate("b", temperature=0.1)
        assert [await stream_text(llm, "c")] == ["So: c"]
    asked = [(call["temperature"], call["seed"], call["stop"]) for call in model.calls]
    assert asked == [(0.5, 3, ["#"]), (0.1, None, None), (0.5, None, None)]
    assert model.temperature == 0.9


async def stream_text(llm, prompt, **asked):
    return "".join([delta.content async for delta in llm.generate_async(prompt, stream=True, **asked)])


def test_a_parameter_without_a_field_is_refused():
    llm = create_llm("langchain", model=FakeListChatModel(responses=["x"]))
    with pytest.raises(UnsupportedFeatureError, match="temperature"):
        llm.generate("a", temperature=0.5)
    with pytest.raises(UnsupportedFeatureError, match="top_p"):
        create_llm("langchain", model=SyncModel(), top_p=0.5)


def test_options_reach_the_call():
    model = SyncModel()
    seen = []
    llm = create_llm("langchain", model=model)

    class Handler(BaseCallbackHandler):
        def on_llm_end(self, response, **kwargs):
            seen.append(kwargs["tags"])

    config = {"callbacks": [Handler()], "tags": ["mine"]}
    llm.generate("a", options={"config": config, "kwargs": {"service_tier": "flex"}})
    assert seen == [["mine"]]
    assert model.calls[0]["service_tier"] == "flex"


def test_stop_strings_are_kept_where_the_model_ignores_them():
    with create_llm("langchain", model=FakeListChatModel(responses=["one two three"])) as llm:
        for answer in (llm.generate("a", stop=[" tw"]), llm.generate("a", stop=[" tw"], stream=True)):
            whole = answer if not hasattr(answer, "response") else [*answer] and answer.response
            assert (whole.content, whole.finish_reason, whole.stop_string) == ("one", "stop", " tw")


# Tools.


@pytest.mark.parametrize(
    ("choice", "told"), [(None, None), ("auto", None), ("required", "any"), ("look_up", "look_up")]
)
def test_choices_are_told_in_langchains_words(choice, told):
    model = SyncModel(profile={"tool_calling": True})
    llm = create_llm("langchain", model=model)
    llm.generate("look up x", tools=[LOOK_UP], **({} if choice is None else {"tool_choice": choice}))
    assert model.calls[0].get("tool_choice") == told
    assert model.calls[0]["tools"][0]["function"]["name"] == "look_up"


def test_tools_that_must_not_be_called_are_left_out():
    model = SyncModel(profile={"tool_calling": True})
    llm = create_llm("langchain", model=model)
    assert not llm.generate("look up x", tools=[LOOK_UP], tool_choice="none").has_tool_calls()
    called = Message("assistant", tool_calls=(ToolCall("c1", "look_up", {"word": "x"}),))
    llm.generate(messages=[called, Message("tool", "y", tool_call_id="c1")], tools=[LOOK_UP], tool_choice="none")
    assert "tools" not in model.calls[0]
    assert model.calls[1]["tool_choice"] == "none"  # services want the tools of a history


def test_a_model_without_tools_refuses_them():
    llm = create_llm("langchain", model=FakeListChatModel(responses=["x"]))
    with pytest.raises(UnsupportedFeatureError, match="tools"):
        llm.generate("a", tools=[LOOK_UP])


def read(*messages, **given):
    reader = AnswerReader(**given)
    return [delta for message in messages for delta in reader.read(message)], reader.end()


def piece(index, name=None, identity=None, args=""):
    return AIMessageChunk(
        content="", tool_call_chunks=[tool_call_chunk(name=name, id=identity, args=args, index=index)]
    )


def test_pieces_of_calls_are_numbered_from_zero():
    """Integrations number calls from anywhere, or not at all."""
    deltas, end = read(piece(3, "a", "i"), piece(3, args="{}"), piece(7, "b"), piece(None, "c", "k", "{}"))
    pieces = [one for delta in deltas for one in delta.tool_call_deltas]
    assert [(one.index, one.id, one.name) for one in pieces] == [
        (0, "i", "a"),
        (0, None, None),
        (1, "call_1", "b"),
        (2, "k", "c"),
    ]
    assert end.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"finish_reason": "MAX_TOKENS"}, "length"),
        ({"stop_reason": "end_turn"}, "stop"),
        ({"stop_reason": "tool_use"}, "tool_calls"),
        ({"done_reason": "length"}, "length"),
        ({"stopReason": "guardrail_intervened"}, "content_filter"),
        ({}, "stop"),
    ],
)
def test_finish_reasons_of_integrations(told, reason):
    _, end = read(AIMessage(content="x", response_metadata=told))
    assert end.finish_reason == reason


def test_usage_is_summed_and_details_are_told():
    first = AIMessageChunk(
        content="a",
        usage_metadata={
            "input_tokens": 5,
            "output_tokens": 0,
            "total_tokens": 5,
            "input_token_details": {"cache_read": 2},
        },
    )
    second = AIMessageChunk(
        content="b",
        usage_metadata={
            "input_tokens": 0,
            "output_tokens": 3,
            "total_tokens": 3,
            "output_token_details": {"reasoning": 1},
        },
    )
    usage = read(first, second)[1].usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.reasoning_tokens) == (5, 3, 2, 1)


def test_logprobs_are_read():
    one = {
        "token": "é",
        "logprob": -0.5,
        "bytes": None,
        "top_logprobs": [{"token": "e", "logprob": -1.0, "bytes": [101]}],
    }
    [delta], _ = read(AIMessage(content="é", response_metadata={"logprobs": {"content": [one]}}))
    assert (delta.logprobs[0].bytes, delta.logprobs[0].top[0].bytes) == ("é".encode(), b"e")


def test_an_answer_of_nothing_is_an_error():
    class Silent(StreamingModel):
        def _stream(self, messages, stop=None, run_manager=None, **kwargs):
            yield from ()

    with create_llm("langchain", model=Silent()) as llm, pytest.raises(GenerationError):
        list(llm.generate("a", stream=True))


# Forms.

FORM = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"], "title": "Is it?"}


def test_a_form_is_asked_for_in_the_way_that_the_model_knows():
    holds, calls, plain = (
        SyncModel(profile={"structured_output": True}),
        SyncModel(profile={"tool_calling": True}),
        None,
    )
    for model in (holds, calls):
        answer = create_llm("langchain", model=model).generate("a", response_format=FORM)
        assert (answer.parsed, answer.finish_reason, answer.tool_calls) == ({"yes": True}, "stop", ())
    assert holds.calls[0]["response_format"]["json_schema"]["schema"] == FORM
    assert calls.calls[0]["tool_choice"] == "response"
    plain, told = heard(SyncModel)
    with pytest.raises(OutputValidationError):
        plain.generate("a", response_format=FORM, retries=1)
    assert len(told) == 2
    assert json.dumps(FORM) in told[0][-2].content  # the words of the system
    assert "JSON" in told[1][-1].content  # what was wrong with the first answer


def test_a_form_that_is_streamed_through_a_call():
    model = AsyncModel(profile={"tool_calling": True})
    with create_llm("langchain", model=model).generate("a", response_format=FORM, stream=True) as stream:
        deltas = list(stream)
    assert len([delta for delta in deltas if delta.content]) == 2
    assert deltas[-1].parsed == {"yes": True}


def test_forms_that_no_chat_model_is_held_to():
    from abstractllm import Regex

    llm = create_llm("langchain", model=SyncModel())
    with pytest.raises(UnsupportedFeatureError, match="regex"):
        llm.generate("a", response_format=Regex("a"))
    with pytest.raises(UnsupportedFeatureError, match="tools"):
        llm.generate("a", response_format=FORM, tools=[LOOK_UP])


# Errors.


class Answered(Exception):
    def __init__(self, status, message="No."):
        super().__init__(message)
        self.status_code = status
        self.body = {"message": message}


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (Answered(401), AuthenticationError),
        (Answered(429), QuotaExceededError),
        (Answered(503), ProviderAPIError),
        (Answered(404, "The model x does not exist"), ModelNotFoundError),
        (theirs.ModelRateLimitError("slow"), QuotaExceededError),
        (theirs.ModelPermissionDeniedError("no"), AuthenticationError),
        (theirs.ModelNotFoundError("no"), ModelNotFoundError),
        (theirs.ModelConnectionError("no"), ProviderConnectionError),
        (theirs.ContextOverflowError("long"), ContextWindowExceededError),
        (theirs.ModelTimeoutError("late"), RequestTimeoutError),
        (ConnectionResetError("gone"), ProviderConnectionError),
        (TimeoutError("late"), RequestTimeoutError),
        (KeyError("oops"), GenerationError),
    ],
)
def test_errors_are_ours_with_their_cause(raised, kind):
    for model in (SyncModel(error=raised), AsyncModel(error=raised)):
        llm = create_llm("langchain", model=model)
        for call in (lambda: llm.generate("a"), lambda: asyncio.run(llm.generate_async("a"))):  # noqa: B023
            with pytest.raises(kind) as caught:
                call()
            assert type(caught.value) is kind
            assert caught.value.__cause__ is raised
            assert caught.value.provider == "langchain"


def test_an_error_of_ours_comes_through_as_it_is():
    inner = ChatAbstractLLM(
        "echo", settings={"replies": [Reply("x", error=QuotaExceededError("wait", retry_after=3.0))]}
    )
    with pytest.raises(QuotaExceededError) as caught:
        create_llm("langchain", model=inner).generate("a")
    assert caught.value.retry_after == 3.0


def test_a_key_in_an_error_is_not_shown():
    llm = create_llm("langchain", model=SyncModel(error=ConnectionError("key sk-abcdefghijklmnop was sent")))
    with pytest.raises(ProviderConnectionError) as caught:
        llm.generate("a")
    assert "sk-abc" not in str(caught.value)


# Streams that are left.


async def test_leaving_a_stream_closes_the_models():
    model = AsyncModel()
    async with create_llm("langchain", model=model) as llm:
        async with llm.generate_async("one two three", stream=True) as stream:
            await anext(stream)
            assert not model.closed.is_set()
        await asyncio.wait_for(asyncio.to_thread(model.closed.wait), 10)


async def test_a_stream_that_is_left_has_ended_for_its_callbacks_at_once():
    ended = []

    class Handler(BaseCallbackHandler):
        run_inline = True

        def on_llm_error(self, error, **kwargs):
            ended.append(error)

    async with create_llm("langchain", model=AsyncModel(callbacks=[Handler()])) as llm:
        async with llm.generate_async("one two three", stream=True) as stream:
            await anext(stream)
        assert [type(error) for error in ended] == [GeneratorExit]


async def test_nothing_is_read_after_a_stop_string():
    made = []

    class Endless(AsyncModel):
        def _stream(self, messages, stop=None, run_manager=None, **kwargs):
            for number in range(1000):
                made.append(number)
                yield ChatGenerationChunk(message=AIMessageChunk(content=f"{number} "))

        async def _astream(self, messages, stop=None, run_manager=None, **kwargs):
            for chunk in self._stream(messages):
                yield chunk

    with create_llm("langchain", model=Endless()) as llm:
        assert "".join(delta.content for delta in llm.generate("a", stop=["3"], stream=True)) == "0 1 2 "
        assert await stream_text(llm, "a", stop=["3"]) == "0 1 2 "
    assert len(made) == 8


def test_a_blocking_model_runs_in_no_loop():
    """Neither whole nor streamed."""
    threads = []

    def script(messages, given):
        threads.append(threading.current_thread())
        return AIMessage(content="x")

    async def both():
        loops = threading.current_thread()
        await llm.generate_async("a")
        [_ async for _ in llm.generate_async("a", stream=True)]
        return loops

    with create_llm("langchain", model=StreamingModel(script=script)) as llm:
        loop = asyncio.run(both())
    assert len(threads) == 2
    assert loop not in threads


# Making.


def test_capabilities_are_those_of_the_profile():
    unknown = create_llm("langchain", model=SyncModel()).get_capabilities()
    assert [unknown[name] for name in ("supports_tool_use", "supports_vision", "context_window")] == [None] * 3
    profile = {"tool_calling": True, "image_inputs": False, "max_input_tokens": 5}
    known = create_llm("langchain", model=SyncModel(profile=profile)).get_capabilities()
    assert [known[name] for name in ("supports_tool_use", "supports_vision", "context_window")] == [True, False, 5]


def test_what_is_no_chat_model_is_refused():
    bound = SyncModel().bind(stop=["x"])
    for wrong in (bound, 3):
        with pytest.raises(InvalidParameterError, match="chat model"):
            create_llm("langchain", model=wrong)
    with pytest.raises(InvalidParameterError, match="api_key"):
        create_llm("langchain", model=SyncModel(), api_key="k")
    nothing = create_llm("langchain")
    assert "init_chat_model" not in str(nothing.missing())
    with pytest.raises(InvalidParameterError, match="No chat model"):
        nothing.generate("a")


def test_the_configuration_makes_the_same_provider_again():
    model = SyncModel()
    llm = create_llm("langchain", model=model, temperature=0.5)
    config = llm.get_config()
    assert config["model"] == "SyncModel"
    create_llm("langchain", **config).generate("a")
    assert model.calls[0]["temperature"] == 0.5
    other = SyncModel(script=lambda messages, given: AIMessage(content="other"))
    llm.set_config(model=other)
    assert llm.generate("a").content == "other"


def test_a_name_is_for_init_chat_model():
    """The integration's package is not there; so it is missing, and the name came through whole."""
    with pytest.raises(MissingDependencyError, match="langchain-groq") as caught:
        create_llm("langchain:groq:llama-4")
    assert isinstance(caught.value.__cause__, ImportError)
    with pytest.raises(InvalidParameterError, match="does not become a chat model"):
        create_llm("langchain:no-such-maker:x")


def test_what_a_name_is_made_with(monkeypatch):
    """An integration's package, as LangChain finds it."""
    made = []

    class ChatGroq(AsyncModel):
        model: str
        api_key: SecretStr | None = None
        max_retries: int = 2

        def __init__(self, **fields):
            made.append(fields)
            super().__init__(**fields)

    package = ModuleType("langchain_groq")
    package.ChatGroq = ChatGroq
    package.__spec__ = ModuleSpec("langchain_groq", None)
    monkeypatch.setitem(sys.modules, "langchain_groq", package)
    llm = create_llm("langchain:groq:llama-4?temperature=0.2", api_key="groq-0123", max_retries=5)
    assert llm.generate("a").content == "So: a"
    llm.set_config(temperature=0.3)  # no reason to make it again
    llm.generate("b")
    llm.set_config(model="groq:llama-5")
    assert [(one["model"], one["max_retries"]) for one in made] == [("llama-4", 5), ("llama-5", 5)]
    assert made[0]["api_key"].get_secret_value() == "groq-0123"
    assert "groq-0123" not in repr(llm.get_config())


def test_counting_is_the_models_own():
    with pytest.raises(UnsupportedFeatureError, match="count"):
        create_llm("langchain", model=SyncModel()).count_tokens("a")
    own = SyncModel(custom_get_token_ids=lambda text: list(range(len(text.split()))))
    assert create_llm("langchain", model=own).count_tokens([Message("user", "a b c")]) >= 3
    assert create_llm("langchain", model=ChatAbstractLLM("echo")).count_tokens("a b c") == 3


# There and back.


async def test_our_chat_model_over_a_chat_model_of_theirs():
    theirs = GenericFakeChatModel(messages=iter(["One two.", "Three four."]))
    chat = ChatAbstractLLM(create_llm("langchain", model=theirs))
    assert chat.invoke("a").content == "One two."
    assert "".join([chunk.content async for chunk in chat.astream("a")]) == "Three four."
    model = AsyncModel(profile={"tool_calling": True})
    bound = ChatAbstractLLM(create_llm("langchain", model=model)).bind_tools([LOOK_UP], tool_choice="any")
    whole = bound.invoke([HumanMessage("x")])
    streamed = None
    async for chunk in bound.astream("x"):
        streamed = chunk if streamed is None else streamed + chunk
    assert (
        whole.tool_calls
        == streamed.tool_calls
        == [{"name": "look_up", "args": {"word": "x"}, "id": "c1", "type": "tool_call"}]
    )
    assert whole.usage_metadata == streamed.usage_metadata
    assert whole.response_metadata["model_name"] == "scripted-1"


async def test_echo_through_langchain_and_back_is_echo():
    plain, through = create_llm("echo"), create_llm("langchain", model=ChatAbstractLLM("echo"))
    for asked in ({}, {"max_tokens": 1}, {"stop": ["two"]}):
        one, other = plain.generate("one two three", **asked), through.generate("one two three", **asked)
        for name in ("content", "finish_reason", "stop_string", "usage", "model"):
            assert getattr(one, name) == getattr(other, name)
        last = [delta async for delta in through.generate_async("one two three", stream=True, **asked)][-1]
        assert (last.finish_reason, last.usage, last.stop_string) == (one.finish_reason, one.usage, one.stop_string)
    assert plain.get_capabilities() == through.get_capabilities()
    assert through.parameters == plain.parameters
