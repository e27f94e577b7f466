"""What tools return, and the sentence that answers from it.

The answers have few forms on purpose: a small model should spend its strength on copying the result.
"""

import json
from typing import Any

from .tools import Tool
from .words import Words

CONDITIONS = ("sunny", "rainy", "cloudy", "windy", "foggy", "clear", "snowing", "stormy", "warm", "cold", "humid", "mild")
ERRORS = (
    "not found", "timeout", "connection refused", "invalid input", "permission denied", "no such file", "rate limit exceeded", "service unavailable", "unknown user", "{n} not found",
    "unknown {n}", "could not reach the server", "the {n} is closed", "missing key", "disk full", "division by zero", "no results for {n}", "invalid value: {n}", "bad request",
)  # fmt: skip


def join_words(items: list[str], portuguese: bool) -> str:
    """``a, b and c``."""
    if len(items) < 2:
        return "".join(items)
    return ", ".join(items[:-1]) + (" e " if portuguese else " and ") + items[-1]


def plain(value: Any, portuguese: bool) -> str:
    """A JSON value inside a sentence."""
    if isinstance(value, bool):
        return ("verdadeiro" if value else "falso") if portuguese else ("true" if value else "false")
    if isinstance(value, list):
        return join_words([plain(item, portuguese) for item in value], portuguese)
    return str(value)


def describe_object(value: dict[str, Any], portuguese: bool) -> str:
    """``The a is 1 and the b is 2.`` for the fields of a JSON object."""
    facts = [f"{key.replace('_', ' ')}: {plain(item, portuguese)}" for key, item in value.items()]
    return ", ".join(facts) + "."


def make_error(words: Words, portuguese: bool) -> tuple[str, str]:
    """An error result and the answer to it."""
    message = words.pick(ERRORS).format(n=words.noun())
    if words.chance(0.25):
        message = words.sentence()
    wrappers = ("Error: {m}", "{m}", "ValueError: {m}", "error: {m}", "Tool failed: {m}", "RuntimeError: {m}", "KeyError: {m}", "Error executing tool: {m}")
    wrapper = words.pick(wrappers)
    text = json.dumps({"error": message}, ensure_ascii=False, separators=(",", ":")) if wrapper == "{m}" else wrapper.format(m=message)
    return text, ("A ferramenta falhou: " if portuguese else "The tool failed: ") + message + "."


def number_text(words: Words) -> str:
    """A number as a tool returns it."""
    return str(words.pick((words.integer(), words.integer(), words.decimal())))


def short_text(tool: Tool, words: Words) -> str:
    """A word or two that fit the tool."""
    kind = tool.family.names.split()[0] if tool.family else ""
    if kind == "get_weather":
        degrees = words.rng.randint(-10, 40)
        forms = ("{c}", "{c}, {t} degrees", "{t} degrees", "{t}°C and {c}", "{c} and {t}C", "{t} degrees and {c}")
        return words.pick(forms).format(c=words.pick(CONDITIONS), t=degrees)
    if kind == "get_time":
        return words.time()
    if kind == "get_date":
        return words.date()
    if kind == "order_status":
        return words.pick(("sent", "on its way", "delivered", "cancelled", "waiting for payment"))
    return words.pick((words.code, words.noun, words.city, words.date, words.time))()


def make_object(words: Words) -> dict[str, Any]:
    """A flat JSON object of one to four fields."""
    makers = (
        ("temperature", words.integer), ("condition", lambda: words.pick(CONDITIONS)), ("name", words.person), ("age", words.integer), ("city", words.city), ("id", words.integer),
        ("price", words.decimal), ("status", lambda: words.pick(("open", "closed", "sent", "pending", "active"))), ("email", words.email), ("total", words.integer), ("title", words.phrase),
        ("available", lambda: words.chance(0.5)), ("date", words.date), ("items", lambda: [words.noun() for _ in range(words.rng.randint(2, 3))]), ("code", words.code),
        ("order_id", words.code), (words.identifier(), words.noun), (words.identifier(), words.integer),
    )  # fmt: skip
    return {name: make() for name, make in words.rng.sample(makers, words.rng.randint(1, 4))}


def make_result(tool: Tool, words: Words, portuguese: bool) -> tuple[str, str]:
    """The content of a tool message for the call of ``tool``, and the assistant's answer."""
    roll = words.rng.random()
    family = tool.family
    if roll < 0.13:
        return make_error(words, portuguese)
    if roll < 0.19:
        return words.pick(("ok", "OK", "done", "success", "null", "", "None", '{"ok":true}', '{"status":"ok"}')), "Pronto." if portuguese else "Done."
    if family and family.answer and not portuguese and roll < 0.75:
        numeric = any(word in family.answer for word in ("sum", "product", "number", "value", "quotient", "difference", "distance", "price", "balance", "That", "result"))
        text = number_text(words) if numeric else short_text(tool, words)
        if words.chance(0.1):
            return json.dumps({"result": text}, separators=(",", ":"), ensure_ascii=False), family_answer(tool, text)
        return text, family_answer(tool, text)
    if roll < 0.42:
        text = number_text(words) if words.chance(0.5) else short_text(tool, words)
        return text, ("O resultado é " if portuguese else "The result is ") + text + "."
    if roll < 0.72:
        found = make_object(words)
        separators = (",", ":") if words.chance(0.6) else (", ", ": ")
        return json.dumps(found, ensure_ascii=False, separators=separators), describe_object(found, portuguese)
    if roll < 0.8:
        items = [words.noun() if words.chance(0.7) else words.person() for _ in range(words.rng.randint(2, 5))]
        text = json.dumps(items, ensure_ascii=False) if words.chance(0.7) else json.dumps(items, ensure_ascii=False, separators=(",", ":"))
        return text, ("Encontrei: " if portuguese else "I found: ") + join_words(items, portuguese) + "."
    return sentence_result(tool, words)


def family_answer(tool: Tool, text: str) -> str:
    """The answer of an everyday tool around ``text``."""
    assert tool.family is not None
    return tool.family.answer.format(*[parameter.value for parameter in tool.parameters], r=text)


def sentence_result(tool: Tool, words: Words) -> tuple[str, str]:
    """A whole sentence, which is repeated as it is."""
    value = str(words.pick(tool.used).value) if tool.used and words.chance(0.5) else words.noun()
    forms = (
        "It is {c} and {t} degrees in {v}", "The weather in {v} is {c}", "{s}", "{s}", "The {n} for {v} is {m}", "{v} was created with id {t}", "Found {t} entries for {v}",
        "Sent to {v}", "{c}, {t} degrees in {v}", "The current price of {v} is {t}", "{p} lives in {v}", "Booking {k} is confirmed for {v}", "It's always {c} in {v}",
    )  # fmt: skip
    text = words.pick(forms).format(
        c=words.pick(CONDITIONS), t=words.integer(), v=value, s=words.sentence(), n=words.noun(), m=words.noun(), p=words.person(), k=words.code()
    )
    mark = words.pick(("", ".", "!"))
    return text + mark, text + (mark or ".")
