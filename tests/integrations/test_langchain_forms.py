"""`with_structured_output` in all its forms, on the model that ships and on a provider that plays a script."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, Field, ValidationError
from typing_extensions import TypedDict

from abstractllm import IncompleteOutputError, InvalidParameterError, OutputValidationError
from abstractllm.integrations.langchain import ChatAbstractLLM, ChatMLX
from abstractllm.providers.echo import Reply
from abstractllm.types import ToolCall

from .recorded import Recorded


class Pet(BaseModel):
    """A pet."""

    name: str = Field(description="Its name", max_length=12)
    legs: int = Field(ge=0, le=8)
    note: str = ""


class Named(TypedDict):
    """Something with a name."""

    name: str


SCHEMA = {"title": "pet", "type": "object", "properties": {"legs": {"enum": [2, 4]}}, "required": ["legs"]}
METHODS = ["json_schema", "function_calling", "json_mode"]


@pytest.fixture(scope="module")
def model() -> ChatMLX:
    return ChatMLX(temperature=0, max_tokens=200)


@pytest.mark.parametrize("method", METHODS)
async def test_values_are_enforced_whatever_the_method(model: ChatMLX, method: Any) -> None:
    runnable = model.with_structured_output(Pet, method=method)
    prompt = "Ana has a cat called Rex."
    for value in (runnable.invoke(prompt), await runnable.ainvoke(prompt), *runnable.batch([prompt])):
        assert isinstance(value, Pet)
    *_, last = [value async for value in runnable.astream(prompt)]
    assert last == runnable.invoke(prompt)
    assert set(model.with_structured_output(Named, method=method).invoke(prompt)) == {"name"}
    assert model.with_structured_output(SCHEMA, method=method).invoke(prompt)["legs"] in (2, 4)


def test_json_of_any_form() -> None:
    llm = Recorded('{"legs": 3}')
    assert ChatAbstractLLM(llm).with_structured_output(None, method="json_mode").invoke("JSON!") == {"legs": 3}
    assert llm.requests[0].response_format.schema == {"type": "object"}
    unsure = Recorded('{"legs": 3}')  # nobody knows whether it can hold to a form: the prompt has to say it
    assert ChatAbstractLLM(unsure).with_structured_output(SCHEMA, method="json_mode").invoke("JSON!") == {"legs": 3}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"legs": {"enum": [2]}}, "required": ["legs"]},
        {"type": "json_schema", "json_schema": {"name": "pet", "schema": SCHEMA}},
        {"name": "pet", "description": "A pet.", "parameters": {k: v for k, v in SCHEMA.items() if k != "title"}},
    ],
)
def test_schemas_in_all_their_forms(model: ChatMLX, schema: dict[str, Any]) -> None:
    assert model.with_structured_output(schema).invoke("A cat.")["legs"] in (2, 4)


@pytest.mark.parametrize("method", METHODS)
def test_the_raw_answer_too(model: ChatMLX, method: Any) -> None:
    found = model.with_structured_output(Pet, method=method, include_raw=True).invoke("Ana has a cat called Rex.")
    assert set(found) == {"raw", "parsed", "parsing_error"}
    assert isinstance(found["parsed"], Pet)
    assert found["parsing_error"] is None
    assert found["raw"].usage_metadata["output_tokens"] > 1


def test_what_does_not_fit_raises_or_is_told() -> None:
    wrong = Reply(tool_calls=[ToolCall("a", "Pet", {"name": "Rex", "legs": "many"})])
    runnable = ChatAbstractLLM(Recorded(wrong)).with_structured_output(Pet, method="function_calling")
    with pytest.raises(ValidationError, match="legs"):
        runnable.invoke("x")
    model = ChatAbstractLLM(Recorded(wrong, "no JSON"))
    told = model.with_structured_output(Pet, method="function_calling", include_raw=True).invoke("x")
    assert told["parsed"] is None
    assert "legs" in str(told["parsing_error"])
    assert told["raw"].tool_calls[0]["args"]["legs"] == "many"
    with pytest.raises(OutputValidationError, match="JSON"):
        model.with_structured_output(Pet).invoke("x")


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
@pytest.mark.parametrize("text", ["no JSON", '{"legs": 3}', '{"legs": 9'])
async def test_a_text_that_does_not_fit_is_told_beside_the_raw_answer(method: Any, text: str) -> None:
    schema = {**SCHEMA, "properties": {"legs": {"enum": [2, 4]}}}
    answer = Reply(text, finish_reason="length") if text.endswith("9") else text
    chat = ChatAbstractLLM(Recorded(answer, answer, answer))
    raw = chat.with_structured_output(schema, method=method, include_raw=True)
    for told in (raw.invoke("x"), await raw.ainvoke("x"), *raw.batch(["x"])):
        if method == "json_mode" and text == '{"legs": 3}':  # nobody was told of the form
            assert told["parsed"] == {"legs": 3}
            continue
        assert (told["parsed"], told["raw"].content) == (None, text)
        assert told["raw"].usage_metadata["output_tokens"] > 0
        kind = IncompleteOutputError if text.endswith("9") else OutputValidationError
        assert isinstance(told["parsing_error"], kind)


async def test_a_stream_that_does_not_fit_is_whole_where_the_raw_answer_is_wanted() -> None:
    chat = ChatAbstractLLM(Recorded(*["it is no JSON"] * 2)).bind(response_format=SCHEMA, misfits_as_answers=True)
    for chunks in (list(chat.stream("x")), [chunk async for chunk in chat.astream("x")]):
        assert "".join(chunk.text for chunk in chunks) == "it is no JSON"
        assert chunks[-1].response_metadata["finish_reason"] == "stop"
        assert chunks[-1].usage_metadata is not None
        assert chunks[-1].usage_metadata["output_tokens"] == 4


def test_an_answer_that_is_cut_off_raises(model: ChatMLX) -> None:
    with pytest.raises(IncompleteOutputError):
        model.with_structured_output(Pet).invoke("A cat.", max_tokens=3)


@pytest.mark.parametrize("schema", [Pet, SCHEMA])
async def test_a_call_that_is_cut_off_raises(model: ChatMLX, schema: Any) -> None:
    asking = model.with_structured_output(schema, method="function_calling", max_tokens=8)
    with pytest.raises(IncompleteOutputError):
        asking.invoke("A cat.")
    with pytest.raises(IncompleteOutputError):
        [value async for value in asking.astream("A cat.")]
    told = model.with_structured_output(schema, method="function_calling", include_raw=True, max_tokens=8)
    answer = told.invoke("A cat.")
    assert isinstance(answer["parsing_error"], IncompleteOutputError)
    assert answer["parsed"] is None
    broken = Reply(tool_calls=[ToolCall("a", "Pet", {}, invalid='{"legs":')])
    with pytest.raises(OutputValidationError, match="legs"):
        ChatAbstractLLM(Recorded(broken)).with_structured_output(schema, method="function_calling").invoke("x")


def test_nulls_for_what_is_left_out() -> None:
    model = ChatAbstractLLM(Recorded('{"name": "Rex", "legs": 4, "note": null}', '{"legs": 2, "x": null}'))
    assert model.with_structured_output(Pet).invoke("x") == Pet(name="Rex", legs=4)
    assert model.with_structured_output(SCHEMA).invoke("x") == {"legs": 2, "x": None}


def test_strict_and_names_reach_the_provider() -> None:
    llm = Recorded('{"legs": 2}', "x")
    asking = ChatAbstractLLM(llm)
    asking.with_structured_output({**SCHEMA, "title": "my pet!"}, strict=True, temperature=0.5).invoke("x")
    assert llm.requests[0].response_format.name == "my_pet_"
    assert llm.requests[0].temperature == 0.5
    asking.with_structured_output(SCHEMA, method="function_calling", strict=True).invoke("x")
    assert llm.requests[1].tool_choice == "pet"
    assert llm.requests[1].options["strict_tools"] is True


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "telepathy"},
        {"method": "json_mode", "strict": True},
        {"schema": None},
        {"schema": None, "method": "function_calling"},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameterError):
        ChatAbstractLLM("echo").with_structured_output(**{"schema": Pet, **wrong})
