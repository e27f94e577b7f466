"""Forms of answers over HTTP: how each service is asked, and what users get, whatever the way was."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from abstractllm.errors import (
    IncompleteOutputError,
    InvalidParameterError,
    OutputValidationError,
    UnsupportedFeatureError,
)
from abstractllm.providers.anthropic import AnthropicProvider
from abstractllm.providers.compatible import CompatibleProvider
from abstractllm.providers.ollama import OllamaProvider
from abstractllm.providers.openai import OpenAIProvider
from abstractllm.providers.services import SERVICES, Service
from abstractllm.schema import Grammar, Regex
from abstractllm.testing.faces import Face, ask
from abstractllm.testing.loopback import LoopbackServer
from abstractllm.tools import to_tool_definitions, validate_arguments
from abstractllm.types import GenerateResponse, ToolCall, Usage
from abstractllm.wire.anthropic import AnthropicMessages
from abstractllm.wire.ollama import OllamaChat
from abstractllm.wire.openai_chat import ChatQuirks, OpenAIChat
from abstractllm.wire.openai_responses import OpenAIResponses

from .services import CLASSES
from .serving import body_of, served, streamed

KEY = "key-of-a-test"
FORM = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "integer", "minimum": 0}},
    "required": ["city"],
}
CLOSED = {**FORM, "additionalProperties": False}
OPEN = {"type": "object", "properties": {"counts": {"type": "object", "additionalProperties": {"type": "integer"}}}}
LIST = {"type": "array", "items": {"type": "string"}}
ANSWER, VALUE = '{"city": "Recife", "people": 3}', {"city": "Recife", "people": 3}
TOOL = {
    "name": "look_up",
    "description": "Look a word up.",
    "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
}
CHAT, MESSAGES, NATIVE, RESPONSES = OpenAIChat(), AnthropicMessages(), OllamaChat(), OpenAIResponses()
OLD_CLAUDE, CLAUDE = "claude-3-5-haiku-latest", "claude-sonnet-4-5"


class ByTool(
    CompatibleProvider, service=Service("by-tool", "here", None, quirks=ChatQuirks(schemas="tool"), needs_key=False)
):
    """A service that knows tools, and no forms."""


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in (
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
        "OPENAI_BASE_URL",
        "ANTHROPIC_BASE_URL",
        "OLLAMA_HOST",
    ):
        monkeypatch.delenv(name, raising=False)


def said(text, reason="stop"):
    return GenerateResponse(text, finish_reason=reason, usage=Usage(5, 2), model="served")


def called(*calls, reason="tool_calls", content=""):
    made = tuple(ToolCall(f"call_{number}", name, arguments) for number, (name, arguments) in enumerate(calls))
    return GenerateResponse(content, tool_calls=made, finish_reason=reason, usage=Usage(5, 2), model="served")


@contextmanager
def asking(kind, codec, *answers, **settings):
    """Yield a provider whose service gives these answers in order, streamed where that is asked for, and the server."""
    left = list(answers)

    def script(request):
        answer = left.pop(0)
        return streamed(codec, *pieces(answer)) if body_of(request).get("stream") else served(codec, answer)

    with (
        LoopbackServer(script) as server,
        kind(base_url=server.url, **{"api_key": KEY, "model": "m", **settings}) as llm,
    ):
        yield llm, server


def pieces(answer):
    """Yield the deltas of an answer, calls letter by letter."""
    for letter in answer.content:
        yield GenerateResponse(letter)
    yield GenerateResponse(
        tool_calls=answer.tool_calls, finish_reason=answer.finish_reason, usage=answer.usage, model=answer.model
    )


def body_for(kind, codec, answer, *, settings=(), **params):
    with asking(kind, codec, answer, **dict(settings)) as (llm, server):
        llm.generate("Where?", **params)
    return body_of(server.requests[0])


# The field that a service has.


def sent_form(body):
    return body["response_format"]["json_schema"]


@pytest.mark.parametrize("name", ["openrouter", "azure"])
def test_strict_services_get_schemas_that_strict_takes(name):
    form = sent_form(body_for(CLASSES[name], CHAT, said(ANSWER), response_format=FORM))
    people = {"type": ["integer", "null"], "minimum": 0}
    properties = {"city": {"type": "string"}, "people": people}
    assert form["strict"] is True
    assert form["schema"] == {**CLOSED, "properties": properties, "required": ["city", "people"]}
    loose = sent_form(body_for(CLASSES[name], CHAT, said("{}"), response_format=OPEN))
    assert (loose["schema"], loose["strict"]) == (OPEN, False)


@pytest.mark.parametrize("name", ["maritaca", "vllm", "mistral", "xai", "lmstudio", "gemini"])
def test_other_services_get_schemas_as_they_are(name):
    body = body_for(CLASSES[name], CHAT, said(ANSWER), response_format=FORM)
    assert (sent_form(body)["schema"], sent_form(body)["strict"]) == (FORM, False)
    assert [turn["role"] for turn in body["messages"]] == ["user"]


@pytest.mark.parametrize(("model", "strict"), [("openai/gpt-oss-20b", True), ("moonshotai/kimi-k2-instruct", False)])
def test_groq_is_strict_for_the_models_that_are(model, strict):
    body = body_for(CLASSES["groq"], CHAT, said(ANSWER), response_format=CLOSED, settings={"model": model})
    assert sent_form(body)["strict"] is strict


@pytest.mark.parametrize("name", ["fireworks", "together"])
def test_who_does_not_show_schemas_to_models_has_them_in_the_prompt_too(name):
    body = body_for(CLASSES[name], CHAT, said(ANSWER), system_prompt="Be brief.", response_format=FORM)
    assert sent_form(body)["schema"] == FORM
    assert body["messages"][0]["role"] == "system"
    assert body["messages"][0]["content"].startswith("Be brief.\n\n")
    assert json.dumps(FORM) in body["messages"][0]["content"]


@pytest.mark.parametrize(("api", "codec"), [("chat", CHAT), ("responses", RESPONSES)])
def test_openai_is_strict_and_null_is_left_out(api, codec):
    answer = said('{"city": "Recife", "people": null}')
    with asking(OpenAIProvider, codec, answer, model="gpt-4o", api=api) as (llm, server):
        found = llm.generate("Where?", response_format=FORM)
    body = body_of(server.requests[0])
    form = body["text"]["format"] if api == "responses" else sent_form(body)
    assert (form["strict"], form["schema"]["required"]) == (True, ["city", "people"])
    assert (found.parsed, found.content) == ({"city": "Recife"}, answer.content)


@pytest.mark.parametrize("model", ["gpt-4-turbo", "ft:gpt-3.5-turbo-0125:acme::abc123"])
def test_openai_models_from_before_forms_get_a_tool(model):
    body = body_for(OpenAIProvider, CHAT, called(("answer", VALUE)), response_format=FORM, settings={"model": model})
    assert body["tool_choice"] == {"type": "function", "function": {"name": "answer"}}
    assert "response_format" not in body


@pytest.mark.parametrize(("api", "codec"), [("chat", CHAT), ("responses", RESPONSES)])
def test_tools_are_strict_where_that_is_asked_for(api, codec):
    tool = {
        **TOOL,
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}, "n": {"type": "integer"}}},
    }
    asked = {"tools": [tool], "options": {"strict_tools": True}, "settings": {"model": "gpt-4o", "api": api}}
    body = body_for(OpenAIProvider, codec, said("Hi"), **asked)
    function = body["tools"][0] if api == "responses" else body["tools"][0]["function"]
    assert function["strict"] is True
    assert function["parameters"]["required"] == ["word", "n"]
    assert function["parameters"]["additionalProperties"] is False
    assert "strict_tools" not in body
    assert validate_arguments(to_tool_definitions([tool])[0], {"word": "a", "n": None}) == {"word": "a"}
    with asking(OpenAIProvider, codec, said("Hi"), model="gpt-4o", api=api) as (llm, server):
        for wrong in (
            {**asked, "tools": [{**TOOL, "parameters": OPEN}]},
            {**asked, "options": {"strict_tools": "yes"}},
        ):
            del wrong["settings"]
            with pytest.raises(InvalidParameterError):
                llm.generate("Where?", **wrong)
        assert server.requests == []


def test_gemini_is_not_told_of_keywords_that_its_tools_do_not_know():
    parameters = {
        **TOOL["parameters"],
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "additionalProperties": False,
    }
    body = body_for(CLASSES["gemini"], CHAT, said("Hi"), tools=[{**TOOL, "parameters": parameters}])
    sent = body["tools"][0]["function"]["parameters"]
    assert sent == TOOL["parameters"]


@pytest.mark.parametrize("face", Face)
def test_claude_is_held_to_what_it_knows_and_the_rest_is_looked_at_here(face):
    with asking(AnthropicProvider, MESSAGES, said('{"city": "Recife", "people": -1}'), said(ANSWER), model=CLAUDE) as (
        llm,
        server,
    ):
        if face.streams:
            with pytest.raises(OutputValidationError, match="people") as caught:
                ask(llm, face, "Where?", response_format=FORM)
            assert caught.value.response.content == '{"city": "Recife", "people": -1}'
            return
        assert ask(llm, face, "Where?", response_format=FORM).whole.parsed == VALUE
    form = body_of(server.requests[0])["output_config"]["format"]["schema"]
    assert form["properties"]["people"] == {"type": "integer", "description": "minimum: 0"}
    assert form["additionalProperties"] is False
    again = body_of(server.requests[1])["messages"]
    assert [turn["role"] for turn in again] == ["user", "assistant", "user"]


def test_ollama_that_ignores_its_format_is_asked_again():
    with asking(OllamaProvider, NATIVE, said("It is Recife."), said(ANSWER)) as (llm, server):
        found = llm.generate("Where?", response_format=FORM)
    assert (found.parsed, found.usage) == (VALUE, Usage(10, 4))
    first, second = map(body_of, (request for request in server.requests))
    assert first["format"] == second["format"] == FORM
    assert json.dumps(FORM) in second["messages"][-1]["content"]


# A tool whose arguments are the answer.


@dataclass
class City:
    city: str
    people: int | None = None


@pytest.mark.parametrize("face", Face)
@pytest.mark.parametrize(
    ("kind", "codec", "model"),
    [(AnthropicProvider, MESSAGES, OLD_CLAUDE), (ByTool, CHAT, "m"), (OpenAIProvider, CHAT, "gpt-4")],
)
def test_the_arguments_of_a_call_are_the_answer(kind, codec, model, face):
    with asking(kind, codec, called(("answer", VALUE)), model=model) as (llm, server):
        answer = ask(llm, face, "Where?", response_format=City)
    found = answer.whole
    assert (json.loads(found.content), found.parsed) == (VALUE, City("Recife", 3))
    assert (found.finish_reason, found.tool_calls, found.reasoning) == ("stop", (), "")
    assert (found.usage, found.model) == (Usage(5, 2), "served")
    body = body_of(server.requests[0])
    (tool,) = body["tools"]
    assert tool.get("name") == "answer" or tool["function"]["name"] == "answer"
    assert "response_format" not in body
    if face.streams:
        assert not any(delta.tool_call_deltas for delta in answer.deltas)
        assert "".join(delta.content for delta in answer.deltas) == found.content


@pytest.mark.parametrize("face", Face)
def test_an_answer_in_words_instead_of_a_call_is_looked_at_too(face):
    with asking(ByTool, CHAT, said(ANSWER)) as (llm, _):
        found = ask(llm, face, "Where?", response_format=FORM).whole
    assert (found.content, found.parsed) == (ANSWER, VALUE)


@pytest.mark.parametrize("face", Face)
def test_words_before_the_answer_are_reasoning(face):
    with asking(ByTool, CHAT, called(("answer", VALUE), content="Let me see.")) as (llm, _):
        found = ask(llm, face, "Where?", response_format=FORM).whole
    assert (json.loads(found.content), found.reasoning, found.parsed) == (VALUE, "Let me see.", VALUE)


@pytest.mark.parametrize("face", Face)
def test_a_cut_call_is_an_incomplete_answer(face):
    cut = GenerateResponse(
        tool_calls=(ToolCall("c", "answer", {}, invalid='{"city": "Rec'),), finish_reason="length", usage=Usage(5, 2)
    )
    with asking(ByTool, CHAT, cut) as (llm, _), pytest.raises(IncompleteOutputError) as caught:
        ask(llm, face, "Where?", response_format=FORM)
    assert caught.value.response.content == '{"city": "Rec'


@pytest.mark.parametrize(("kind", "codec", "model"), [(AnthropicProvider, MESSAGES, OLD_CLAUDE), (ByTool, CHAT, "m")])
def test_a_misshapen_call_is_asked_for_again(kind, codec, model):
    with asking(kind, codec, called(("answer", {"people": 3})), called(("answer", VALUE)), model=model) as (
        llm,
        server,
    ):
        assert llm.generate("Where?", response_format=FORM).parsed == VALUE
    turns = body_of(server.requests[1])["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[1]["content"] == '{"people":3}'
    assert "'city' is a required property" in turns[2]["content"]


@pytest.mark.parametrize("face", Face)
@pytest.mark.parametrize(("kind", "codec", "model"), [(AnthropicProvider, MESSAGES, OLD_CLAUDE), (ByTool, CHAT, "m")])
def test_with_tools_a_model_calls_them_or_answers(kind, codec, model, face):
    calls = called(("look_up", {"word": "Recife"}), content="Let me see.")
    with asking(kind, codec, calls, called(("answer", VALUE)), model=model) as (llm, server):
        first = ask(llm, face, "Where?", response_format=FORM, tools=[TOOL]).whole
        second = ask(llm, face, "Where?", response_format=FORM, tools=[TOOL]).whole
    assert [call.name for call in first.tool_calls] == ["look_up"]
    assert (first.finish_reason, first.parsed, first.content) == ("tool_calls", None, "Let me see.")
    assert (second.finish_reason, second.parsed, second.tool_calls) == ("stop", VALUE, ())
    body = body_of(server.requests[0])
    assert body["tool_choice"] in ("required", {"type": "any"})
    assert len(body["tools"]) == 2


def test_a_call_that_is_demanded_comes_before_the_answer():
    with asking(ByTool, CHAT, called(("look_up", {"word": "x"})), called(("answer", VALUE))) as (llm, server):
        llm.generate("Where?", response_format=FORM, tools=[TOOL], tool_choice="required")
        assert llm.generate("Where?", response_format=FORM, tools=[TOOL], tool_choice="none").parsed == VALUE
    first, second = (body_of(request) for request in server.requests)
    assert (first["tool_choice"], len(first["tools"])) == ("required", 1)
    assert second["tool_choice"] == {"type": "function", "function": {"name": "answer"}}


def test_a_tool_of_the_same_name_keeps_it():
    with asking(ByTool, CHAT, called(("answer", {"word": "x"})), called(("answer_", VALUE))) as (llm, _):
        tools = [{**TOOL, "name": "answer"}]
        assert llm.generate("Where?", response_format=FORM, tools=tools).tool_calls[0].arguments == {"word": "x"}
        assert llm.generate("Where?", response_format=FORM, tools=tools).parsed == VALUE


@pytest.mark.parametrize(
    ("name", "params"),
    [("groq", {"tools": [TOOL]}), ("groq", {"stream": True}), ("gemini", {"tools": [TOOL]})],
)
def test_what_a_service_refuses_beside_a_form_makes_it_a_tool(name, params):
    with asking(CLASSES[name], CHAT, called(("answer", VALUE))) as (llm, server):
        face = Face.STREAM if params.pop("stream", False) else Face.WHOLE
        assert ask(llm, face, "Where?", response_format=FORM, **params).whole.parsed == VALUE
    assert "response_format" not in body_of(server.requests[0])


def test_claude_gets_a_tool_for_what_it_cannot_be_held_to():
    body = body_for(
        AnthropicProvider,
        MESSAGES,
        called(("answer", {"counts": {"a": 1}})),
        response_format=OPEN,
        settings={"model": CLAUDE},
    )
    assert body["tools"][0]["input_schema"] == OPEN
    assert body["tool_choice"] == {"type": "tool", "name": "answer"}
    assert "output_config" not in body


# The prompt.


@pytest.mark.parametrize("face", Face)
@pytest.mark.parametrize(
    ("kind", "codec", "settings", "params", "field"),
    [
        (CLASSES["mlx-lm"], CHAT, {}, {"response_format": FORM}, None),
        (CLASSES["deepseek"], CHAT, {}, {"response_format": FORM}, {"type": "json_object"}),
        (
            AnthropicProvider,
            MESSAGES,
            {"model": "claude-sonnet-4-0"},
            {"response_format": FORM, "reasoning": "low"},
            None,
        ),
        (
            AnthropicProvider,
            MESSAGES,
            {"model": "claude-mythos"},
            {"response_format": {**FORM, "additionalProperties": True}},
            None,
        ),
    ],
)
@pytest.mark.parametrize("fence", ["{}", "```json\n{}\n```\n", "\n```\n{}```"])
def test_a_form_in_the_prompt(kind, codec, settings, params, field, fence, face):
    with asking(kind, codec, said(fence.replace("{}", ANSWER)), **settings) as (llm, server):
        found = ask(llm, face, "Where?", **params).whole
    assert (found.content.strip(), found.parsed) == (ANSWER, VALUE)
    body = body_of(server.requests[0])
    instructions = body["system"] if codec is MESSAGES else body["messages"][0]["content"]
    assert json.dumps(params["response_format"]) in instructions
    assert body.get("response_format") == field
    assert "tools" not in body


def test_lists_go_into_the_prompt_where_only_objects_are_taken():
    for name in ("deepseek", "azure"):
        with asking(CLASSES[name], CHAT, said('["a"]')) as (llm, server):
            assert llm.generate("Where?", response_format=list[str]).parsed == ["a"]
        assert "response_format" not in body_of(server.requests[0])
    body = body_for(CLASSES["vllm"], CHAT, said('["a"]'), response_format=LIST)
    assert sent_form(body)["schema"] == LIST


@pytest.mark.parametrize(("prompt", "turns"), [("Give me JSON.", 1), ("Where?", 2)])
def test_any_object_needs_the_word_json(prompt, turns):
    with asking(CLASSES["deepseek"], CHAT, said("{}")) as (llm, server):
        llm.generate(prompt, response_format={"type": "json_object"})
    body = body_of(server.requests[0])
    assert body["response_format"] == {"type": "json_object"}
    assert len(body["messages"]) == turns
    assert "json" in body["messages"][0]["content"].lower()


# Other forms.


@pytest.mark.parametrize("form", [Regex("[0-9]+"), Grammar('start: "a"')])
def test_expressions_go_where_a_service_has_a_field_for_them(form):
    body = body_for(CLASSES["vllm"], CHAT, said("42"), response_format=form)
    assert list(body["structured_outputs"].values()) == [getattr(form, "pattern", None) or form.text]
    refusing = [(kind, {}) for name, kind in CLASSES.items() if name != "vllm"]
    refusing += [(OpenAIProvider, {"model": "gpt-4o"}), (AnthropicProvider, {"model": CLAUDE}), (OllamaProvider, {})]
    for kind, settings in refusing:
        with asking(kind, CHAT, **settings) as (llm, server):
            for stream in (False, True):
                with pytest.raises(UnsupportedFeatureError) as caught:
                    llm.generate("Where?", response_format=form, stream=stream)
                assert caught.value.feature == "response_format"
            assert server.requests == []


def test_every_row_says_how_it_is_asked():
    assert {name for name, row in SERVICES.items() if row.quirks.schemas != "json_schema"} == {"mlx-lm", "deepseek"}
    assert {name for name, row in SERVICES.items() if row.quirks.dialect == "strict"} == {"openrouter", "groq", "azure"}
