"""Grammars that make a model call tools: tools and a family's markers -> a Lark grammar as llguidance reads it.

Writes text only: knows no tokenizer, no engine and not the library. Names of families are those of mlx-lm's parsers.
Syntax: https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from abstractllm.errors import InvalidParameterError
from abstractllm.types import ToolDefinition

Marker = str | int
"""A marker that is one token, as the token's id; any other as its text.

llguidance takes tokens that are marked as special, and all that are written `<...>`, out of texts: a grammar that
asks for their text never lets the token through. An id works for every token.
"""

Style = Literal["object", "header", "list"]
"""How a call is written: `{"name":...,"arguments":{...}}`; `name[ARGS]{...}`; or a list of such objects."""

_PARSERS = frozenset({"json_tools", "mistral"})
_OPEN_ENDED = frozenset({"type", "properties", "required", "description", "title", "$schema", "$defs", "definitions"})
"""Keywords of a schema that can be closed to unknown properties without a change to what it says of the known ones."""


def can_force(parser: str | None) -> bool:
    """Whether calls that mlx-lm's parser of this name reads can be forced; None is a model that knows no calls."""
    return parser in _PARSERS


@dataclass(frozen=True, slots=True)
class CallSyntax:
    """How one model writes its calls.

    `start` comes before each call (before the list, in that style), `end` after it where the family has one, and
    `header` between a name and its arguments in the style of that name. `spaced` puts a blank after each `,` and `:`
    of the JSON, and `lines` allows a line break inside the markers and between calls, for models that learnt it so.
    """

    start: Marker
    end: Marker | None = None
    style: Style = "object"
    header: Marker = "[ARGS]"
    spaced: bool = False
    lines: bool = False


def call_grammar(
    tools: Sequence[ToolDefinition],
    syntax: CallSyntax,
    choice: str,
    *,
    lenient: bool = False,
    text_tokens: Collection[int] = (),
    single: bool = False,
    form: Mapping[str, Any] | None = None,
) -> str:
    """Return the grammar, in Lark's notation, of an answer to a request with these tools.

    `choice` is a tool's name: exactly one call of it; "required": one call or more, of any tools; or "auto": any text,
    but whatever begins with the start marker is a call. Arguments of a forced call match the tool's schema; properties
    come in its order, and a schema that names properties and does not speak of others allows no others. A call of
    the model's own accord may name the properties in any order, each with a value that fits it, and may leave any out.

    Where "auto" goes by a start marker's id, all other tokens are free. Where it goes by its text, `text_tokens` are
    the ids of special tokens that may stand in free text, such as those around reasoning.

    With `single` there is one call at most. With a `form`, which goes with "auto" alone, the answer is either calls or
    JSON that fits this schema, in the engine's dialect with its options; nothing stands before or after it.

    llguidance refuses schemas with keywords that it cannot enforce, such as `not`, `uniqueItems` or most `oneOf`;
    `lenient` makes it pass over them, so that arguments must be validated.

    Raises InvalidParameterError when there is no tool, or none of the name.
    """
    allowed = tools if choice in ("auto", "required") else [tool for tool in tools if tool.name == choice]
    if not allowed:
        known = ", ".join(tool.name for tool in tools) or "none"
        raise InvalidParameterError(
            "tool_choice", f"tool_choice is {choice!r}, and there is no such tool to call; the tools are: {known}."
        )
    writer = _Writer(syntax, lenient, ordered=choice != "auto")
    once = single or choice not in ("auto", "required")
    if form is not None:
        begin = writer.formed(form, once=once)
    else:
        begin = writer.auto(text_tokens, once=once) if choice == "auto" else writer.forced(once=once)
    rules = [*begin, *writer.body(once=once)]
    for number, tool in enumerate(allowed):
        rules += writer.tool(number, tool)
    rules.append("call: " + " | ".join(f"call_{number}" for number in range(len(allowed))))
    return "\n".join(rules) + "\n"


class _Writer:
    """Writes the rules of one grammar, a line each.

    `body` is what follows a start marker: a call or, in that style, a list of them, and the end marker.
    """

    def __init__(self, syntax: CallSyntax, lenient: bool, ordered: bool) -> None:
        self._syntax = syntax
        self._ordered = ordered
        self._start = _marker(syntax.start)
        self._comma, self._colon = (", ", ": ") if syntax.spaced else (",", ":")
        self._break = '"\\n"?' if syntax.lines else ""
        self._options = {
            "whitespace_flexible": False,
            "item_separator": self._comma,
            "key_separator": self._colon,
            "lenient": lenient,
        }

    def forced(self, *, once: bool) -> list[str]:
        """Return the rule of an answer that is calls alone."""
        more = "" if once else self._more()
        return [_rule("start", self._start, "body", more)]

    def formed(self, form: Mapping[str, Any], *, once: bool) -> list[str]:
        """Return the rules of an answer that is either calls or JSON of a form."""
        more = "" if once else self._more()
        return ["start: calls | answer", _rule("calls", self._start, "body", more), f"answer: %json {json.dumps(form)}"]

    def auto(self, text_tokens: Collection[int], *, once: bool) -> list[str]:
        """Return the rules of an answer that is text and calls. Without an end marker nothing comes after calls."""
        more, ended = "" if once else self._more(), self._syntax.end is not None
        if isinstance(self._syntax.start, int):
            some = f"({self._start} body free)" if ended else f"({self._start} body {more})"
            calls = some + ("*" if ended and not once else "?")
            return [_rule("start", "free", calls), f"free: <[^{self._syntax.start}]>*"]
        special = f"(TEXT {_tokens(text_tokens)})*" if text_tokens else ""
        calls = f"(head body {special})* TEXT" if ended and not once else f"(head body {more} | TEXT)"
        return [
            _rule("start", special, calls),
            _rule("head[lazy]", "TEXT", self._start),
            "TEXT: /(?s:.*)/",
        ]

    def _more(self) -> str:
        return "" if self._syntax.style == "list" else f"({self._break} {self._start} body)*"

    def body(self, *, once: bool) -> list[str]:
        """Return the rule of what stands between markers."""
        calls = ["call"]
        if self._syntax.style == "list":
            calls = ['"["', "call", "" if once else f"({_text(self._comma)} call)*", '"]"']
        end = [] if self._syntax.end is None else [self._break, _marker(self._syntax.end)]
        return [_rule("body", self._break, *calls, *end)]

    def tool(self, number: int, tool: ToolDefinition) -> list[str]:
        """Return the rules of a call of one tool. Its schema is a grammar of its own, so references stay inside."""
        arguments = self._arguments(f"arguments_{number}", tool.parameters)
        if self._syntax.style == "header":
            call = [_text(tool.name), _marker(self._syntax.header), f"arguments_{number}"]
        else:
            name = f'{{"name"{self._colon}{json.dumps(tool.name)}{self._comma}"arguments"{self._colon}'
            call = [_text(name), f"arguments_{number}", _text("}")]
        return [_rule(f"call_{number}", *call), *arguments]

    def _arguments(self, name: str, schema: Mapping[str, Any]) -> list[str]:
        """Return the rules of arguments: in the order of the schema, or in any where a schema says no more than what
        its properties are.
        """
        properties = schema.get("properties")
        plain = {key for key, value in schema.items() if (key, value) != ("additionalProperties", False)}
        if self._ordered or not properties or not plain <= _OPEN_ENDED or _refers_to_the_whole(schema):
            return [f"{name}: {self._json(_closed(schema))}"]
        shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
        pairs = [
            f"{name}_{i}: {_text(json.dumps(key, ensure_ascii=False) + self._colon)} {self._json({**shared, **part})}"
            for i, (key, part) in enumerate(properties.items())
        ]
        either = " | ".join(f"{name}_{i}" for i in range(len(pairs)))
        optional = "" if schema.get("required") else "?"
        return [
            _rule(name, '"{"', f"({name}_pair ({_text(self._comma)} {name}_pair)*){optional}", '"}"'),
            f"{name}_pair: {either}",
            *pairs,
        ]

    def _json(self, schema: Mapping[str, Any]) -> str:
        return f"%json {json.dumps({**schema, 'x-guidance': self._options})}"


def _rule(name: str, *parts: str) -> str:
    return f"{name}: {' '.join(part for part in parts if part)}"


def _marker(marker: Marker) -> str:
    return f"<[{marker}]>" if isinstance(marker, int) else _text(marker)


def _tokens(tokens: Collection[int]) -> str:
    return f"<[{','.join(str(token) for token in sorted(tokens))}]>"


def _text(text: str) -> str:
    """Return a literal; it is written as in JSON."""
    return json.dumps(text)


def _refers_to_the_whole(schema: object) -> bool:
    """Whether anything in a schema refers to something else than its definitions."""
    if isinstance(schema, list):
        return any(_refers_to_the_whole(part) for part in schema)
    if not isinstance(schema, Mapping):
        return False
    reference = schema.get("$ref", "#/$defs/")
    inside = isinstance(reference, str) and reference.startswith(("#/$defs/", "#/definitions/"))
    return not inside or any(_refers_to_the_whole(part) for part in schema.values())


def _closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema of arguments that allows no others, where it says nothing of others."""
    plain = dict(schema)
    if "properties" in plain and plain.keys() <= _OPEN_ENDED:
        plain["additionalProperties"] = False
    return {"type": "object", **plain}
