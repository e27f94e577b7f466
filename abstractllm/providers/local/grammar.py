"""An `OutputFormat` as a grammar of llguidance, and what llguidance says against it as an error.

Knows no tokens: whether they can follow a grammar is seen when it is compiled.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from abstractllm.errors import AbstractLLMError, InvalidParameterError, UnsupportedFeatureError
from abstractllm.providers.local.dialect import engine_schema, unsupported
from abstractllm.schema import OutputFormat, check_sound

Kind = Literal["json", "regex", "grammar", "tools"]

_MOST_RULES = 500
_LONGEST_REGEX = 10_000
"""The engine follows rules in recursion, and between 1,000 and 3,000 its stack overflows; a regex of 40,000 characters
took it half a minute."""

_JSON_OPTIONS = {"whitespace_flexible": False, "lenient": False, "coerce_one_of": False}
"""Compact JSON, and no keyword ignored. A random model would write blanks for ever."""

_JSON_BLOCK = re.compile(r"%json\s*(?=\{)")
_RULE = re.compile(r"^\s*[?!]*[\w-]+(?:\[[^\]]*\])?(?:::[^:]*)?\s*:", re.MULTILINE)
_TEXTS = re.compile(r'"(?:\\.|[^"\\\n])*"|/(?:\\.|[^/\\\n])+/|//.*|#.*')
_SPECIAL = re.compile(r"<[^<>\s]*>")

_KEYWORDS = {
    r"Unimplemented keys: \[\"([^\"]*)": "",
    "oneOf constraints": "oneOf",
    "patternProperty|patternProperties": "patternProperties",
    "min/maxProperties": "minProperties",
    "Unknown format": "format",
    "circular references|Pointer|[Rr]esource|Definition not found": "$ref",
    "for integer range|for float range": "minimum",
    r"Expected \S+ (?:\w+ )?for '(\w+)'|Value for '(\w+)'": "",
    "multiple of": "multipleOf",
    "regex|lookarounds": "pattern",
}
"""What the engine's messages about JSON Schemas are about; an empty text stands for the name in the message."""


def engine_grammar(output: OutputFormat | str) -> str:
    """Return the engine's grammar for a format, or for a text in Lark's syntax that this package has written.

    Raises UnsupportedFeatureError or InvalidParameterError for what the engine cannot take, would get wrong, or would
    not survive.
    """
    from llguidance import LLMatcher

    if isinstance(output, str):
        return str(LLMatcher.grammar_from_lark(output))
    if output.schema is not None:
        return _json_grammar(engine_schema(output.schema, typed=output.typed))
    if output.kind == "regex":
        if len(output.text) > _LONGEST_REGEX:
            raise _bad(f"The regex has {len(output.text):,} characters; {_LONGEST_REGEX:,} are the most.")
        return str(LLMatcher.grammar_from_regex(output.text))
    _check_grammar(output.text)
    return str(LLMatcher.grammar_from_lark(_compact_json(output.text)))


def json_block(output: OutputFormat) -> dict[str, Any]:
    """Return the JSON Schema of a format as a grammar takes it after `%json`. Raises UnsupportedFeatureError."""
    assert output.schema is not None
    return {**engine_schema(output.schema, typed=output.typed), "x-guidance": _JSON_OPTIONS}


def refusal(kind: Kind, message: str) -> AbstractLLMError:
    """Return the error for what the engine says against a grammar."""
    about_schema = kind == "json" or "failed to compile JSON schema" in message
    reason = first_line(message)
    if not about_schema:
        subject = {"regex": "The regex", "tools": "The grammar of the tools"}.get(kind, "The grammar")
        return _bad(f"{subject} in response_format is not valid: {reason}")
    if "nsatisfiable" in message:
        return _bad(f"No value fits the JSON Schema in response_format: {reason}")
    for pattern, keyword in _KEYWORDS.items():
        found = re.search(pattern, message)
        if found:
            return unsupported(keyword or next(filter(None, found.groups())), "", reason)
    return UnsupportedFeatureError(
        "response_format", f"The grammar engine cannot take this JSON Schema: {reason}", provider="mlx"
    )


def first_line(message: str) -> str:
    """Return what a message of the engine says, without its state."""
    return " ".join(message.split("\n<state>")[0].split())[:300]


def _json_grammar(schema: dict[str, Any]) -> str:
    from llguidance import LLMatcher

    try:
        return str(LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=_JSON_OPTIONS))
    except ValueError as error:
        raise refusal("json", str(error)) from error


def _check_grammar(text: str) -> None:
    """Refuse what a user's grammar may not do."""
    plain = _TEXTS.sub('""', text)
    special = _SPECIAL.search(plain)
    if special:
        raise _bad(f"The grammar uses the special token {special[0]}, which an answer cannot hold; write text instead.")
    if len(_RULE.findall(plain)) > _MOST_RULES:
        raise _bad(f"The grammar has more than {_MOST_RULES} rules; use fewer.")


def _compact_json(text: str) -> str:
    """Return a grammar whose JSON Schemas are in the engine's dialect, and written without blanks."""
    pieces, at = [], 0
    for block in _JSON_BLOCK.finditer(text):
        if block.start() < at:
            continue
        try:
            schema, end = json.JSONDecoder().raw_decode(text, block.end())
        except (ValueError, RecursionError) as error:
            raise _bad(f"A %json block of the grammar is no JSON: {error}.") from error
        check_sound("response_format", "The %json blocks of the grammar", text[block.end() : end])
        compact = {**engine_schema(schema, typed=False), "x-guidance": _JSON_OPTIONS}
        pieces += [text[at : block.end()], json.dumps(compact)]
        at = end
    return "".join([*pieces, text[at:]])


def _bad(message: str) -> InvalidParameterError:
    return InvalidParameterError("response_format", message)
