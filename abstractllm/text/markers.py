"""The marks that model families put into their output: around thoughts and tool calls, and what stands between them.

For engines whose tokenizers know no more than a chat template and a vocabulary. Knows no tokenizer and no engine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from abstractllm.text.toolcalls import Parser

_THOUGHTS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<|think:start|>", "<|think:end|>"))


@dataclass(frozen=True, slots=True)
class CallFormat:
    """How a family writes its calls: between `start` and `end`, which is empty where they go on to the answer's end.

    `name` is what `text.toolgrammar` calls the format; `parser` reads what stands between the marks.
    """

    name: str
    start: str
    end: str
    parser: Parser


def thought_marks(vocabulary: Collection[str]) -> tuple[str, str] | None:
    """Return the marks around thoughts that a model has among its tokens, or None for one that does not think."""
    return next((pair for pair in _THOUGHTS if pair[0] in vocabulary and pair[1] in vocabulary), None)


def call_format(template: str | None) -> CallFormat | None:
    """Return how a model with this chat template writes its calls, or None where that is not known here.

    Three formats are: JSON in `<tool_call>` tags (Hermes, Qwen 2.5 and 3), Mistral's, and tags for functions and
    parameters (Qwen3-Coder, Qwen 3.5). The same texts in templates tell them apart as in mlx-lm (`tokenizer_utils.py`).
    """
    if template is None or "<arg_key>" in template:  # GLM's calls, in the tags of others
        return None
    if re.search(r"<tool_call>(\\n|\n)<function=", template):
        return CallFormat("function_tags", "<tool_call>", "</tool_call>", parse_function_tags)
    if "[TOOL_CALLS]" in template:
        return CallFormat("mistral", "[TOOL_CALLS]", "", parse_mistral)
    if "<tool_call>" in template and "tool_call.name" in template:
        return CallFormat("json_tools", "<tool_call>", "</tool_call>", parse_json)
    return None


def parse_json(text: str, tools: Sequence[Mapping[str, Any]]) -> Any:
    """Return the JSON value in a text. Raises ValueError."""
    return json.loads(text)


def parse_mistral(text: str, tools: Sequence[Mapping[str, Any]]) -> Any:
    """Return the calls in Mistral's formats: a JSON list of them, or `name[ARGS]{...}` one after another.

    Raises ValueError. Source: the chat templates of Mistral 7B Instruct v0.3, which writes the first form, and of
    Mistral Small 3.2, which writes the second with `[CALL_ID]...` after the name and the start mark before each call.
    """
    if text.lstrip().startswith("["):
        return json.loads(text)
    calls: list[Mapping[str, Any]] = []
    rest = text.strip()
    while rest:
        head = re.match(r"(?:\[TOOL_CALLS\])?\s*([^\[\]{}\s]+)\s*(?:\[CALL_ID\]\w*)?\s*(?:\[ARGS\])?\s*(?=\{)", rest)
        if head is None:
            raise ValueError(f"no call begins at {rest[:40]!r}")
        arguments, end = json.JSONDecoder().raw_decode(rest, head.end())
        calls.append({"name": head[1], "arguments": arguments})
        rest = rest[end:].strip()
    return calls


def parse_function_tags(text: str, tools: Sequence[Mapping[str, Any]]) -> Any:
    """Return the call in `<function=name><parameter=key>value</parameter></function>`.

    A value is text where the tool's schema says so, or says nothing and it is no JSON. Raises ValueError. Source: the
    chat template of Qwen3-Coder-30B-A3B-Instruct, which puts one line break before and after a value.
    """
    found = re.fullmatch(r"\s*<function=([^>\s]+)\s*>(.*?)(?:</function>)?\s*", text, re.DOTALL)
    if found is None:
        raise ValueError("no function is named")
    schemas = _parameters(found[1], tools)
    pairs = re.findall(r"<parameter=([^>\s]+)\s*>\n?(.*?)\n?</parameter>", found[2], re.DOTALL)
    return {"name": found[1], "arguments": {key: _value(text, schemas.get(key, {})) for key, text in pairs}}


def _parameters(name: str, tools: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the schemas of a tool's parameters by name, for tools in the form of OpenAI's Chat Completions."""
    schemas = [tool["function"]["parameters"] for tool in tools if tool["function"]["name"] == name]
    properties = schemas[0].get("properties", {}) if schemas else {}
    return properties if isinstance(properties, Mapping) else {}


def _value(text: str, schema: Any) -> Any:
    kinds = schema.get("type") if isinstance(schema, Mapping) else None
    if kinds in ("string", ["string"]):
        return text
    try:
        return json.loads({"True": "true", "False": "false", "None": "null"}.get(text, text))
    except ValueError:
        return text
