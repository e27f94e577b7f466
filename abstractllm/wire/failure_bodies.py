"""What the body of an error says, in whichever form a service wrote it; and texts without keys.

Knows the forms of OpenAI, Anthropic, Gemini, Ollama, FastAPI and of proxies, not what the errors mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

MAX_SHOWN = 500
"""Characters of a body that a message shows."""

MAX_BODY = 2**20
"""Bytes of the largest body that is read as JSON; an error that is larger is not a model service's."""

_MAX_TEXT = 8 * MAX_SHOWN
_REMOVED = "[key removed]"

_KEYS = re.compile(
    r"""
    (?P<label>
        \b(?:Bearer|Basic)\s+
      | [?&](?:api[_-]?key|key|access_token|token)=
      | \b(?:api[ _-]?key|x-goog-api-key|access[ _-]?token|authorization)["']?(?:\s+provided)?\s*[:=]\s*["']?
        (?:(?:Bearer|Basic)\s+)?
    )
    (?!\[key)[^\s"'<>,;&}]{4,}
  | \b(?:sk|pk|rk|gsk|hf|xai|pplx|r8|nvapi|fw|csk|tgp|ghp)[-_][A-Za-z0-9_*.-]{6,}
  | \bAIza[A-Za-z0-9_*-]{10,}
  | \beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*
  | \b(?=[A-Za-z]*[0-9])[A-Za-z0-9]{32,}\b
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""What looks like a key: what follows a label, the prefixes that services give to theirs, and long tokens."""


def redacted(text: str) -> str:
    """Return a text in which everything that looks like a key is replaced; services like to echo them."""
    return _KEYS.sub(lambda found: (found["label"] or "") + _REMOVED, text)


@dataclass(frozen=True, slots=True)
class Report:
    """What a body says: `message` in one line, without keys, of at most `MAX_SHOWN` characters, perhaps empty.

    `codes` are the words that classify the error, in lower case, the most exact first. `number` is a code that is a
    number, such as an HTTP status inside a stream. `fields` are the error's own, `details` its list of further facts.
    """

    message: str = ""
    codes: tuple[str, ...] = ()
    number: int | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    details: tuple[Mapping[str, Any], ...] = ()


def read_body(body: bytes) -> Report:
    """Return what a body says; never raises. A page of HTML is not shown, other text is."""
    if not body.strip():
        return Report()
    try:
        value = msgspec.json.decode(body) if len(body) <= MAX_BODY else None
    except (ValueError, RecursionError):  # msgspec's errors and those of UTF-8 are ValueErrors
        value = None
    if isinstance(value, (dict, list, str)):
        return read_object(value)
    text = body[:_MAX_TEXT].decode("utf-8", "replace")
    return Report(_html_title(text) if text.lstrip().startswith("<") else _line(text))


def read_object(value: object) -> Report:
    """Return what a decoded error says; `value` may be the error itself or what it is wrapped in. Never raises."""
    inner = _unwrapped(value)
    if isinstance(inner, str):
        return Report(_line(inner))
    if not isinstance(inner, Mapping):
        return Report()
    details = tuple(_details(inner))
    code = inner.get("code")
    return Report(
        _line(_message(inner)),
        tuple(_codes(inner, details)),
        _number(code),
        inner,
        details,
    )


def _number(code: object) -> int | None:
    if isinstance(code, str) and re.fullmatch(r"[0-9]{3}", code):
        return int(code)
    return code if isinstance(code, int) and not isinstance(code, bool) else None


def _unwrapped(value: object) -> object:
    """Return the error inside `{"error": ...}`, `{"detail": ...}` or a list of one."""
    for _ in range(4):
        if isinstance(value, Sequence) and not isinstance(value, str) and value:
            value = value[0]  # Gemini's OpenAI-compatible answers stand in a list
        elif isinstance(value, Mapping) and isinstance(value.get("error"), (Mapping, list)):
            value = value["error"]
        elif isinstance(value, Mapping) and isinstance(value.get("detail"), Mapping):
            value = value["detail"]
        else:
            break
    return value


def _message(error: Mapping[str, Any]) -> str:
    found = next((error[key] for key in ("message", "detail", "error", "msg", "title") if error.get(key)), "")
    text = _plain(found)
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, Mapping) else None  # OpenRouter: what the service behind it said
    return f"{text}: {raw}" if isinstance(raw, str) and raw else text


def _plain(value: object) -> str:
    """Return a text for what stands where a message should: FastAPI lists what is wrong, with its places."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(one, Mapping) and "msg" in one for one in value):
        return "; ".join(f"{'.'.join(map(str, one.get('loc') or ()))}: {one['msg']}" for one in value[:10])
    return msgspec.json.encode(value).decode() if value else ""


def _details(error: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    found = error.get("details")
    if isinstance(found, Mapping):
        yield found
    if isinstance(found, list):
        yield from (one for one in found if isinstance(one, Mapping))


def _codes(error: Mapping[str, Any], details: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    inner = error.get("innererror")
    sources = (*details, *([inner] if isinstance(inner, Mapping) else []), error)
    for source in sources:
        for key in ("error_code", "reason", "code", "type", "status"):
            value = source.get(key)
            if isinstance(value, str) and value:
                yield value.lower()


def _html_title(page: str) -> str:
    title = re.search(r"<title[^>]*>(.*?)</title", page, re.IGNORECASE | re.DOTALL)
    return _line(f"a page of HTML, titled {' '.join(title[1].split())!r}" if title else "a page of HTML")


def _line(text: str) -> str:
    """Return the beginning of a text as one line without keys; a key that the cut divides is removed before it."""
    line = redacted(" ".join(text[:_MAX_TEXT].split()))
    return line if len(line) <= MAX_SHOWN else f"{line[: MAX_SHOWN - 4]} ..."
