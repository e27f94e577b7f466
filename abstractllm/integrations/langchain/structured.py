"""`with_structured_output`: a schema -> what is bound to a chat model, and what reads its answers. Asks no model."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, cast

from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import (
    JsonOutputKeyToolsParser,
    JsonOutputToolsParser,
    PydanticToolsParser,
)
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import Runnable, RunnableLambda, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass

from abstractllm.errors import InvalidParameterError, shown
from abstractllm.integrations.langchain.misfits import check_calls, checking
from abstractllm.schema import without_nulls

if TYPE_CHECKING:
    from pydantic import BaseModel

Method = Literal["json_schema", "function_calling", "json_mode"]
Schema = Mapping[str, Any] | type
Parser = Runnable[Any, Any]


def form_of(schema: Schema, *, strict: bool | None) -> dict[str, Any]:
    """Return the `response_format` that asks for a schema: a class, or a JSON Schema in any of LangChain's forms."""
    if isinstance(schema, Mapping) and schema.get("type") == "json_schema" and "json_schema" in schema:
        return dict(schema)
    bare = isinstance(schema, Mapping) and not {"title", "name", "function", "toolSpec"} & schema.keys()
    plain = dict(schema) if isinstance(schema, Mapping) and bare else dict(convert_to_json_schema(_plain(schema)))
    name, description = str(plain.pop("title", "response")), plain.get("description")
    told = {"name": re.sub(r"[^\w-]", "_", name), "schema": plain, "strict": strict, "description": description}
    return {"type": "json_schema", "json_schema": {key: value for key, value in told.items() if value is not None}}


def tracing(schema: Schema | None, method: str, strict: bool | None) -> dict[str, Any]:
    """Return what LangSmith and callbacks are told of the form that is asked for."""
    kwargs = {"method": method} if strict is None else {"method": method, "strict": strict}
    return {"kwargs": kwargs, "schema": schema}


def tool_name(schema: Schema) -> str:
    """Return the name of the tool that a schema becomes."""
    return str(convert_to_openai_tool(_plain(schema))["function"]["name"])


def parser_of_calls(schema: Schema) -> Parser:
    """Return what reads the first call of a tool that a schema has become."""
    if is_model(schema):
        return _ModelCalls(tools=[cast("type[BaseModel]", schema)], first_tool_only=True)
    return _KeyCalls(key_name=tool_name(schema), first_tool_only=True)


def parser_of_text(schema: Schema | None, form: Mapping[str, Any]) -> Parser:
    """Return what reads an answer of a form, which is JSON: values of a pydantic model, dicts for any other schema."""
    told = form.get("json_schema")
    text = json.dumps(told["schema"]) if told else None
    if schema is not None and is_model(schema):
        return _ModelParser(pydantic_object=cast("type[BaseModel]", schema), schema_text=text)
    return _WithoutNulls(schema_text=text)


class _WholeCalls(JsonOutputToolsParser):
    """Reads calls, and raises for one that broke off; LangChain would answer with None."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        generation = result[0]
        if isinstance(generation, ChatGeneration):
            check_calls(generation.message)
        return super().parse_result(result, partial=partial)


class _ModelCalls(_WholeCalls, PydanticToolsParser):
    """Makes values of a pydantic model of such calls."""


class _KeyCalls(_WholeCalls, JsonOutputKeyToolsParser):
    """Makes dicts of such calls."""


class _WithoutNulls(JsonOutputParser):
    """Reads JSON in which what is left out may be null: services that have every property written say it so."""

    schema_text: str | None = None

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        if not partial and self.schema_text is not None:
            shorter = without_nulls(self.schema_text, result[0].text)
            result = result if shorter is None else [Generation(text=shorter)]
        return super().parse_result(result, partial=partial)


class _ModelParser(_WithoutNulls, PydanticOutputParser):  # type: ignore[type-arg]
    """Makes values of a pydantic model of such JSON."""


def is_model(schema: Schema) -> bool:
    """Whether a schema is a pydantic model, of either version."""
    return inspect.isclass(schema) and is_basemodel_subclass(schema)


def checked_method(method: object) -> Method:
    """Return a method of asking. Raises InvalidParameterError."""
    if method == "json_schema" or method == "function_calling" or method == "json_mode":
        return method
    raise InvalidParameterError(
        "method", f"method={shown(method)} is not valid: it is 'json_schema', 'function_calling' or 'json_mode'."
    )


def with_raw(
    bound: Runnable[Any, Any], parser: Runnable[Any, Any], form: Mapping[str, Any] | None = None
) -> Runnable[Any, Any]:
    """Return what answers with the message as well, and with the error of its reading instead of raising it.

    `form` is what an answer in text was asked for; `bound` has to give it also where it does not fit.
    """
    check = RunnableLambda(lambda _: None) if form is None else checking(form)
    checked = RunnablePassthrough.assign(parsing_error=check)
    parsed = checked | RunnablePassthrough.assign(parsed=itemgetter("raw") | parser)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=bound) | parsed.with_fallbacks([failed], exception_key="parsing_error")


def _plain(schema: Schema) -> Any:
    return schema if isinstance(schema, type) else dict(schema)
