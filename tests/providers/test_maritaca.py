"""Maritaca's provider against its service on this machine: requests, answers, errors, and the rules of all."""

from __future__ import annotations

import json

import pytest

from abstractllm import create_llm
from abstractllm.errors import (
    AuthenticationError,
    InvalidParameterError,
    ProviderAPIError,
    QuotaExceededError,
    UnsupportedFeatureError,
)
from abstractllm.providers.maritaca import MaritacaProvider
from abstractllm.testing import ProviderConformance
from abstractllm.testing.faces import Face, ask
from abstractllm.testing.loopback import LoopbackServer, Reply
from abstractllm.types import DocumentPart, ImagePart, Message, TextPart, ToolCall, Usage
from abstractllm.wire.openai_chat import OpenAIChat

from .maritaca_service import (
    ANSWER,
    KEY,
    OK,
    STREAM,
    TOOL,
    answered,
    asked,
    chunk,
    events,
    reply,
)
from .speaking import Opened, answering


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in ("MARITACA_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def sent(*args, answer=OK, **params):
    """Return the body of the request for a call."""
    with asked(answer) as (llm, server):
        llm.generate(*args, **params)
    return json.loads(server.requests[0].body)


# Requests.


def test_the_name_leads_here():
    llm = create_llm("maritaca:sabiazinho-4?temperature=0.2", api_key=KEY)
    assert type(llm) is MaritacaProvider
    assert (llm.get_param("model"), llm.get_param("temperature")) == ("sabiazinho-4", 0.2)
    assert MaritacaProvider().get_param("model") == "sabia-4"
    assert llm.get_config()["base_url"] == "https://chat.maritaca.ai/api"


def test_options_are_fields_of_the_request():
    options = {"service_tier": "flex", "extraction_effort": "basic", "data_ocean": True}
    options |= {"web_search": True, "web_search_filters": {"allowed_domains": ["stf.jus.br"]}, "code_execution": True}
    body = sent("Oi", options=options)
    assert body == {"model": "sabia-4", "messages": [{"role": "user", "content": "Oi"}], **options}
    with asked(OK) as (llm, _), pytest.raises(UnsupportedFeatureError, match="service_tier"):
        llm.generate("Oi", options={"tier": "flex"})


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("any", "required"),
        ("required", "required"),
        ("auto", "auto"),
        ("none", "none"),
        ("look_up", {"type": "function", "function": {"name": "look_up"}}),
    ],
)
def test_choices_of_tools(choice, said):
    assert sent("Oi", tools=[TOOL], tool_choice=choice)["tool_choice"] == said


def test_a_tool_named_any_is_a_tool():
    said = sent("Oi", tools=[{**TOOL, "name": "any"}], tool_choice="any")["tool_choice"]
    assert said == {"type": "function", "function": {"name": "any"}}
    with asked(OK) as (llm, _), pytest.raises(InvalidParameterError, match="needs tools"):
        llm.generate("Oi", tool_choice="any")


def test_forms_are_asked_for():
    form = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    said = answered(choices=[{"index": 0, "message": {"content": '{"a": 1}'}, "finish_reason": "stop"}])
    with asked(said) as (llm, server):
        assert llm.generate("Oi", response_format=form).parsed == {"a": 1}
        assert llm.generate("Oi", response_format={"type": "json_object"}).parsed == {"a": 1}
    first, second = (json.loads(request.body)["response_format"] for request in server.requests)
    assert first == {"type": "json_schema", "json_schema": {"name": "response", "schema": form, "strict": True}}
    assert second == {"type": "json_object"}


def test_documents_go_along_and_images_do_not(tmp_path):
    (tmp_path / "edital.pdf").write_bytes(b"%PDF-1.7")
    content = sent("Resuma.", files=[tmp_path / "edital.pdf"])["messages"][0]["content"]
    file = {"filename": "edital.pdf", "file_data": "data:application/pdf;base64,JVBERi0xLjc="}
    assert content == [{"type": "file", "file": file}, {"type": "text", "text": "Resuma."}]
    with asked(OK) as (llm, server), pytest.raises(UnsupportedFeatureError, match="images"):
        llm.generate(messages=[Message("user", (ImagePart(b"\x89PNG", "image/png"), TextPart("O que é?")))])
    assert server.requests == []


def test_sheets_and_letters_go_along_as_they_are():
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    part = DocumentPart(b"PK", kind, "carta.docx")
    content = sent(messages=[Message("user", (part, TextPart("Resuma.")))])["messages"][0]["content"]
    assert content[0]["file"] == {"filename": "carta.docx", "file_data": f"data:{kind};base64,UEs="}


@pytest.mark.parametrize("tool", ["web_search", "code_execution", "data_ocean"])
def test_a_tool_of_the_service_is_refused_in_a_stream(tool):
    with asked(STREAM) as (llm, server):
        for ask_for in (llm.generate, llm.generate_async):
            with pytest.raises(UnsupportedFeatureError, match=tool) as caught:
                ask_for("Oi", stream=True, options={tool: True})
            assert (caught.value.feature, caught.value.provider) == ("stream", "maritaca")
        assert server.requests == []
        assert list(llm.generate("Oi", stream=True, options={tool: False}))


@pytest.mark.parametrize("name", ["seed", "reasoning", "logit_bias", "logprobs", "top_k"])
def test_what_the_service_does_not_declare_is_refused(name):
    values = {"reasoning": "low", "logit_bias": {1: 1}, "logprobs": True}
    with asked(OK) as (llm, server), pytest.raises(UnsupportedFeatureError) as caught:
        llm.generate("Oi", **{name: values.get(name, 7)})
    assert (caught.value.feature, server.requests) == (name, [])


# Answers.


@pytest.mark.parametrize("face", Face)
def test_every_face_gives_the_answer(face):
    with asked(STREAM if face.streams else OK) as (llm, server):
        answer = ask(llm, face, "Oi").whole
    assert (answer.content, answer.finish_reason, answer.model) == ("O Pelourinho, em Salvador.", "stop", "sabia-4")
    assert answer.usage == Usage(1200, 300, cached_tokens=1000)
    body = json.loads(server.requests[0].body)
    assert body.get("stream_options") == ({"include_usage": True} if face.streams else None)


def test_what_the_service_adds_is_in_the_raw_answer():
    files = [{"filename": "g.png", "mime_type": "image/png", "size_bytes": 1, "content_base64": "iQ=="}]
    texts = [{"filename": "edital.pdf", "text": "Art. 1"}]
    with asked(answered(generated_files=files, extracted_content=texts, service_tier="flex")) as (llm, _):
        raw = llm.generate("Oi").raw_response
    assert (raw["generated_files"], raw["extracted_content"], raw["service_tier"]) == (files, texts, "flex")
    assert raw["system_fingerprint"] == "c68cf2ecaa94f232"


def test_the_raw_event_with_the_usage_ends_a_stream():
    with asked(STREAM) as (llm, _):
        stream = llm.generate("Oi", stream=True)
        *before, last = stream
    assert all(delta.raw_response is None for delta in before)
    assert last.raw_response == chunk(None, usage=ANSWER["usage"], service_tier="flex")
    assert stream.response.raw_response == last.raw_response


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("stream", [False, True])
def test_thinking_is_kept_apart(stream, field):
    usage = {**ANSWER["usage"], "completion_tokens_details": {"reasoning_tokens": 7}}
    message = {"role": "assistant", field: "Vejamos.", "content": "52"}
    whole = answered(choices=[{"index": 0, "message": message, "finish_reason": "stop"}], usage=usage)
    pieces = (chunk({field: "Veja"}), chunk({field: "mos."}), chunk({"content": "52"}), chunk({}, "stop"))
    with asked(events(*pieces, chunk(None, usage=usage)) if stream else whole, model="sabia-4-thinking") as (llm, _):
        answer = ask(llm, Face.STREAM if stream else Face.WHOLE, "25 + 27?").whole
    assert (answer.reasoning, answer.content, answer.usage.reasoning_tokens) == ("Vejamos.", "52", 7)


def test_streamed_calls_and_their_results():
    begun = {"index": 0, "id": "call_7", "type": "function", "function": {"name": "look_up", "arguments": ""}}
    other = {"index": 1, "id": "call_8", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    calls = events(
        chunk({"role": "assistant", "content": None, "tool_calls": [begun]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"word":'}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": ' "oi"}'}}]}),
        chunk({"tool_calls": [other]}),
        chunk({}, "stop"),
        chunk(None, usage=ANSWER["usage"]),
    )
    with asked(calls, OK) as (llm, server):
        answer = ask(llm, Face.STREAM, "Oi", tools=[TOOL]).whole
        assert answer.tool_calls == (ToolCall("call_7", "look_up", {"word": "oi"}), ToolCall("call_8", "look_up", {}))
        assert answer.finish_reason == "tool_calls"  # the service's word is no sign, says its examples/csharp-js.md
        results = [Message("tool", "olá", tool_call_id=call.id) for call in answer.tool_calls]
        llm.generate(messages=[Message("user", "Oi"), answer.to_message(), *results], tools=[TOOL])
    turns = json.loads(server.requests[1].body)["messages"]
    assert [call["id"] for call in turns[1]["tool_calls"]] == ["call_7", "call_8"]
    assert turns[2] == {"role": "tool", "content": "olá", "tool_call_id": "call_7"}


# Tries and errors.


def test_a_full_flex_queue_is_tried_again():
    with asked(reply({"detail": "Flex capacity is full"}, 429), OK, options={"service_tier": "flex"}) as (llm, server):
        assert llm.generate("Oi").content == "O Pelourinho, em Salvador."
        assert llm.retried == 1
    assert [json.loads(request.body)["service_tier"] for request in server.requests] == ["flex", "flex"]


@pytest.mark.parametrize("face", Face)
@pytest.mark.parametrize(
    "first",
    [
        *(reply({"error": {"message": "later"}}, status) for status in (408, 429, 500, 503)),
        reply({"detail": "later"}, 429, **{"Retry-After": "0.001"}),
        reply({"detail": "later"}, 429, **{"Retry-After": "Fri, 17 Jul 2026 12:00:00 GMT"}),
        Reply.hang_up(),
    ],
)
def test_what_passes_is_tried_again_streams_included(first, face):
    with asked(first, STREAM if face.streams else OK) as (llm, server):
        assert ask(llm, face, "Oi").whole.finish_reason == "stop"
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"detail": "streaming is not supported with built-in tools"}, ProviderAPIError),
        (401, {"detail": f"Invalid key {KEY}"}, AuthenticationError),
        (422, {"detail": [{"loc": ["body", "model"], "msg": "field required"}]}, ProviderAPIError),
        (429, {"detail": "Too many requests"}, QuotaExceededError),
        (500, {"error": "internal"}, ProviderAPIError),
    ],
)
def test_errors_are_typed(status, body, kind):
    with asked(reply(body, status), max_retries=0) as (llm, _):
        for work in (lambda: llm.generate("Oi"), llm.models):
            with pytest.raises(kind) as caught:
                work()
            assert (caught.value.provider, caught.value.status_code) == ("maritaca", status)
            assert KEY not in str(caught.value)


# The rules.


class TestConformance(ProviderConformance):
    """The rules of all providers."""

    prompt = "um dois três"
    other_prompts = ("quatro", "cinco seis")
    tool_prompt = "procure sete"
    tools = (TOOL,)

    @pytest.fixture(autouse=True)
    def server(self):
        self.script = self.friendly = answering(OpenAIChat(MaritacaProvider.service.quirks))
        with LoopbackServer(lambda request: self.script(request)) as server:
            self.url = server.url
            yield

    def make(self):
        return MaritacaProvider(base_url=self.url, api_key=KEY)

    def make_failing(self):
        self.script = lambda request: Reply(404, body=b'{"error": {"message": "no such model"}}')
        return self.make()

    def make_waiting(self, gate):
        def waiting(request):
            given = self.friendly(request)
            return Reply(chunks=[Opened(gate), *(given.chunks or [given.body])])

        self.script = waiting
        return self.make()
