"""The one table from a service's errors to ours, and what a retry needs to know of them. Knows no HTTP client."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from abstractllm.errors import (
    AbstractLLMError,
    AuthenticationError,
    ContentFilterError,
    ContextWindowExceededError,
    InvalidRequestError,
    ModelNotFoundError,
    ProviderAPIError,
    ProviderConnectionError,
    QuotaExceededError,
    SpentQuotaError,
    UnsupportedFeatureError,
)
from abstractllm.wire.failure_bodies import Report, read_body, read_object

_STATUS = {
    "invalid_request_error": 400,
    "invalid_argument": 400,
    "invalid_prompt": 400,
    "badrequesterror": 400,
    "context_length_exceeded": 400,
    "exceed_context_size_error": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "unauthenticated": 401,
    "billing_error": 402,
    "permission_error": 403,
    "permission_denied": 403,
    "not_found_error": 404,
    "not_found": 404,
    "notfounderror": 404,
    "model_not_found": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "insufficient_quota": 429,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "resource_exhausted": 429,
    "too_many_requests": 429,
    "api_error": 500,
    "internal": 500,
    "server_error": 500,
    "internal_error": 500,
    "internal_server_error": 500,
    "internalservererror": 500,
    "unavailable": 503,
    "service_unavailable": 503,
    "deadline_exceeded": 504,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""HTTP status of the words that classify an error where there is no status: in the middle of a stream."""

_SPENT = {"insufficient_quota", "billing_error", "billing_hard_limit_reached", "enforced_spend_limit_reached"}
_FILTERED = {
    "content_filter",
    "content_filter_error",
    "content_policy_violation",
    "responsibleaipolicyviolation",
    "moderation_blocked",
}
_BAD_KEY = {"invalid_api_key", "api_key_invalid", "authentication_error", "unauthenticated"}
_NO_MODEL = {"model_not_found", "deploymentnotfound", "invalid_model"}
_ABOUT_A_MODEL = re.compile(r"\b(?:models?|deployment)\b", re.IGNORECASE)
_NOT_FOR_MONEY = re.compile(
    r"exceeded your current quota, please check your plan|insufficient (?:balance|credit)", re.I
)

_N = r"~?\s*([0-9][0-9,]*)"
_CONTEXT = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"context length (?:is|of) (?P<window>{_N}).*?(?:resulted in|you requested(?: about)?) (?P<prompt>{_N})",
        rf"context length (?:is|of) (?:only )?(?P<window>{_N}).*?request has (?P<prompt>{_N}) input",
        rf"passed (?P<prompt>{_N}) input tokens.*?context length is (?:only )?(?P<window>{_N})",
        rf"too long: (?P<prompt>{_N}) tokens > (?P<window>{_N})",
        rf"context limit: (?P<prompt>{_N}) \+ (?P<more>{_N}) > (?P<window>{_N})",
        rf"token count \(?(?P<prompt>{_N})\)? exceeds the maximum number of tokens allowed \(?(?P<window>{_N})",
        rf"contains (?P<prompt>{_N}) tokens.*?with (?P<window>{_N}) maximum context",
        rf"requested tokens \((?P<prompt>{_N})\) exceed context window of (?P<window>{_N})",
        rf"\((?P<prompt>{_N}) tokens\) exceeds the available context size \((?P<window>{_N})",
    )
)
"""How OpenAI, vLLM, Anthropic, Gemini, Mistral and llama.cpp say how much there was and how much there may be."""

_ADVICE: Mapping[int, str] = {
    401: "Check the key, and that it belongs to this service.",
    402: "Add credit to the account, or use another key.",
    403: "Check what the key is allowed to do.",
    404: "Check the base URL.",
    408: "Try again.",
    409: "Try again.",
    413: "Send less: fewer or smaller files, shorter messages.",
    429: "Wait and try again, or send fewer requests at once.",
    529: "The service is overloaded; try again later.",
}
_RETRIED = frozenset({408, 409, 425, 429})
_NEVER_RETRIED = frozenset({501, 505})


def failure(
    status: int,
    body: bytes,
    headers: Mapping[str, str],
    *,
    provider: str | None,
    now: datetime | None = None,
) -> AbstractLLMError:
    """Return the error that an HTTP answer stands for: `status` as received, 4xx or 5xx, and the whole body.

    AuthenticationError for 401, 403 and a refused key; ModelNotFoundError for a 404 about a model; QuotaExceededError
    for 429, SpentQuotaError where waiting does not help; ContextWindowExceededError where the service says by how much
    the prompt is too long; ContentFilterError; ProviderAPIError for everything else. No message holds a key. `now`, an
    aware time, is what dates in `Retry-After` are compared with; None is the present.
    """
    report = read_body(body)
    wait = _header_wait(headers, now)
    return _error(
        status,
        report,
        provider=provider,
        request_id=request_id(headers),
        retry_after=wait if wait is not None else _detail_wait(report),
    )


def stream_failure(error_object: object, provider: str | None) -> AbstractLLMError:
    """Return the error that an error object in the middle of a stream stands for, or in an answer of status 200.

    `error_object` is decoded JSON, with or without the object around it. `status_code` is the status that the same
    error has outside a stream, or None where it names none.
    """
    report = read_object(error_object)
    status = report.number if report.number is not None and 400 <= report.number <= 599 else None
    if status is None:
        status = next((_STATUS[code] for code in report.codes if code in _STATUS), None)
    return _error(status, report, provider=provider, request_id=None, retry_after=_detail_wait(report))


def _error(
    status: int | None, report: Report, *, provider: str | None, request_id: str | None, retry_after: float | None
) -> AbstractLLMError:
    what = _sentence(status, report, request_id)
    window = _context(status, report)
    if window is not None:
        return ContextWindowExceededError(
            f"The request does not fit into the model's context. {what} Send less, or ask for fewer tokens.",
            prompt_tokens=window[0],
            context_window=window[1],
            provider=provider,
        )
    if _is_about_a_model(status, report):
        return ModelNotFoundError(f"The service does not have this model. {what} Check its name.", provider=provider)
    kind = _kind(status, report)
    message = " ".join(filter(None, [what, _advice(kind, status)]))
    return kind(message, provider=provider, status_code=status, request_id=request_id, retry_after=retry_after)


def _kind(status: int | None, report: Report) -> type[ProviderAPIError]:
    codes = set(report.codes)
    if codes & _FILTERED or _was_moderated(report):
        return ContentFilterError
    if status == 402 or (status == 429 and (codes & _SPENT or _NOT_FOR_MONEY.search(report.message))):
        return SpentQuotaError
    if status in (401, 403) or (status == 400 and codes & _BAD_KEY):
        return AuthenticationError
    return QuotaExceededError if status == 429 else ProviderAPIError


def _was_moderated(report: Report) -> bool:
    """Whether a gateway refused the text itself: OpenRouter answers 403 and says what it flagged."""
    metadata = report.fields.get("metadata")
    return isinstance(metadata, Mapping) and "flagged_input" in metadata


def _is_about_a_model(status: int | None, report: Report) -> bool:
    if status in (400, 404) and not _NO_MODEL.isdisjoint(report.codes):
        return True
    if status == 400:
        return "not a valid model" in report.message
    return status == 404 and bool(report.fields) and bool(_ABOUT_A_MODEL.search(report.message))


def _context(status: int | None, report: Report) -> tuple[int, int] | None:
    """Return tokens of the request and of the context, where the service says both."""
    if status not in (None, 400, 413, 422, 500):
        return None
    sizes = report.fields.get("n_prompt_tokens"), report.fields.get("n_ctx")  # llama.cpp's own fields
    if all(isinstance(size, int) for size in sizes):
        return sizes  # type: ignore[return-value]
    found = next(filter(None, (pattern.search(report.message) for pattern in _CONTEXT)), None)
    if found is None:
        return None
    counts = {name: int(re.sub(r"[~\s,]", "", text)) for name, text in found.groupdict().items()}
    return counts["prompt"] + counts.get("more", 0), counts["window"]


def _sentence(status: int | None, report: Report, request_id: str | None) -> str:
    begin = "The service reported an error" if status is None else f"The service answered with status {status}"
    marks = [next(iter(report.codes), ""), f"request {request_id}" if request_id else ""]
    inside = ", ".join(filter(None, marks))
    said = report.message.rstrip(".") or "without saying why"
    return f"{begin}{f' ({inside})' if inside else ''}: {said}."


def _advice(kind: type[ProviderAPIError], status: int | None) -> str:
    if kind is ContentFilterError:
        return "The service refused the content; change what you ask for."
    if kind is SpentQuotaError:
        return _ADVICE[402]
    if kind is AuthenticationError and status == 400:
        return _ADVICE[401]
    if status is not None and status >= 500 and status not in _ADVICE:
        return "The fault is the service's; try again later."
    return _ADVICE.get(status or 0, "")


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the service's own name for the request, at most 200 characters of it, or None."""
    found = _lowered(headers)
    names = ("x-request-id", "request-id", "x-ms-request-id", "apim-request-id")
    return next((found[name][:200] for name in names if found.get(name)), None)


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value.strip() for name, value in headers.items()}


# Retries.


def may_retry(error: Exception) -> bool:
    """Whether the same request may succeed if it is sent again, provided that nothing of the answer has been used.

    True for broken connections, 408, 409, 425, 429 and 5xx; never for other 4xx and for a spent quota.
    """
    if isinstance(error, SpentQuotaError) or not isinstance(error, ProviderAPIError):
        return False
    if isinstance(error, (AuthenticationError, ContentFilterError)):
        return False
    status = error.status_code
    if status is None:
        return isinstance(error, (ProviderConnectionError, QuotaExceededError))
    return status in _RETRIED or (status >= 500 and status not in _NEVER_RETRIED)


def retry_after(headers: Mapping[str, str], body: bytes = b"", *, now: datetime | None = None) -> float | None:
    """Return the seconds that a service asks to wait, at least 0, or None where it does not say so in a form known.

    The forms: `retry-after-ms`; `Retry-After` in seconds, whole or not, or as a date (RFC 9110, section 10.2.3), which
    is compared with `now`; Gemini's `retryDelay` in the body. The caller bounds how long it is willing to wait.
    """
    found = _header_wait(headers, now)
    return found if found is not None else _detail_wait(read_body(body))


def _header_wait(headers: Mapping[str, str], now: datetime | None) -> float | None:
    found = _lowered(headers)
    milliseconds = _seconds(found.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    text = found.get("retry-after", "")
    seconds = _seconds(text)
    return seconds if seconds is not None else _until(text, now)


def _seconds(text: str) -> float | None:
    if not re.fullmatch(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+", text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def _until(text: str, now: datetime | None) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())


def _detail_wait(report: Report) -> float | None:
    delays = (one.get("retryDelay") for one in report.details)
    found = (_seconds(delay.removesuffix("s")) for delay in delays if isinstance(delay, str) and delay.endswith("s"))
    return next((one for one in found if one is not None), None)


# The other direction.

_TYPES: tuple[tuple[type[Exception], str, str | None], ...] = (
    (SpentQuotaError, "insufficient_quota", "insufficient_quota"),
    (QuotaExceededError, "rate_limit_error", "rate_limit_exceeded"),
    (ContentFilterError, "invalid_request_error", "content_filter"),
    (AuthenticationError, "authentication_error", "invalid_api_key"),
    (ModelNotFoundError, "invalid_request_error", "model_not_found"),
    (ContextWindowExceededError, "invalid_request_error", "context_length_exceeded"),
    (InvalidRequestError, "invalid_request_error", None),
    (UnsupportedFeatureError, "invalid_request_error", "unsupported_parameter"),
)


def error_object(error: Exception) -> dict[str, Any]:
    """Return an error in OpenAI's form, `{"message", "type", "param", "code"}`, as a server tells it to its clients.

    The message of an error that is not ours is not told: it may say things that are none of a client's business.
    """
    kind, code = next(((type_, code) for cls, type_, code in _TYPES if isinstance(error, cls)), ("server_error", None))
    known = isinstance(error, AbstractLLMError)
    message = error.message if isinstance(error, AbstractLLMError) else "The server failed while answering."
    param = getattr(error, "parameter", None) or getattr(error, "feature", None) if known else None
    return {"message": message, "type": kind, "param": param, "code": code}
