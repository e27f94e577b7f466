"""The table from a service's errors to ours, and what retries need to know."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies as st

from abstractllm.errors import (
    AbstractLLMError,
    AuthenticationError,
    ContentFilterError,
    ContextWindowExceededError,
    GenerationError,
    InvalidParameterError,
    ModelNotFoundError,
    ProviderAPIError,
    ProviderConnectionError,
    QuotaExceededError,
    RequestTimeoutError,
    SpentQuotaError,
    UnsupportedFeatureError,
)
from abstractllm.wire.failures import error_object, failure, may_retry, retry_after, stream_failure


def openai(message: str = "No.", type_: str | None = None, code: object = None, **more: object) -> bytes:
    return json.dumps({"error": {"message": message, "type": type_, "param": None, "code": code, **more}}).encode()


def fail(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> AbstractLLMError:
    return failure(status, body, headers or {}, provider="acme")


GEMINI_QUOTA = {
    "code": 429,
    "message": "You exceeded your current quota, please retry.",
    "status": "RESOURCE_EXHAUSTED",
    "details": [{"@type": "Help"}, {"@type": "RetryInfo", "retryDelay": "34s"}],
}
GEMINI_KEY = {
    "code": 400,
    "message": "API key not valid.",
    "status": "INVALID_ARGUMENT",
    "details": [{"reason": "API_KEY_INVALID"}],
}
SPENT_ANTHROPIC = {
    "type": "error",
    "error": {
        "type": "rate_limit_error",
        "message": "Limit of spending.",
        "details": {"error_code": "enforced_spend_limit_reached"},
    },
}
CASES = [
    (
        401,
        openai("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
        AuthenticationError,
        False,
    ),
    (403, b'{"error":{"message":"Not in your country."}}', AuthenticationError, False),
    (400, json.dumps([{"error": GEMINI_KEY}]).encode(), AuthenticationError, False),
    (
        404,
        openai("The model `x` does not exist", "invalid_request_error", "model_not_found"),
        ModelNotFoundError,
        False,
    ),
    (404, b'{"error":"model \\"x\\" not found, try pulling it first"}', ModelNotFoundError, False),
    (404, b'{"type":"error","error":{"type":"not_found_error","message":"model: x"}}', ModelNotFoundError, False),
    (404, b'{"object":"error","message":"The model `x` does not exist.","code":404}', ModelNotFoundError, False),
    (404, openai("It does not exist.", code="DeploymentNotFound"), ModelNotFoundError, False),
    (400, openai("x/y is not a valid model ID", code=400), ModelNotFoundError, False),
    (404, b'{"detail":"Not Found"}', ProviderAPIError, False),
    (404, b"<html><title>404 about models</title></html>", ProviderAPIError, False),
    (429, openai("Slow down.", "requests", "rate_limit_exceeded"), QuotaExceededError, True),
    (429, json.dumps({"error": GEMINI_QUOTA}).encode(), QuotaExceededError, True),
    (429, openai("Your quota is used up.", "insufficient_quota", "insufficient_quota"), SpentQuotaError, False),
    (429, json.dumps(SPENT_ANTHROPIC).encode(), SpentQuotaError, False),
    (402, openai("Insufficient Balance"), SpentQuotaError, False),
    (400, openai("Filtered.", code="content_filter"), ContentFilterError, False),
    (400, openai("Bad.", innererror={"code": "ResponsibleAIPolicyViolation"}), ContentFilterError, False),
    (403, openai("Flagged.", metadata={"reasons": ["x"], "flagged_input": "y"}), ContentFilterError, False),
    (400, openai("Too long.", code="context_length_exceeded"), ProviderAPIError, False),
    (422, b'{"detail":[{"loc":["body","n"],"msg":"too big","type":"x"}]}', ProviderAPIError, False),
    (413, b'{"type":"error","error":{"type":"request_too_large","message":"Too big"}}', ProviderAPIError, False),
    (408, b"", ProviderAPIError, True),
    (409, b"{}", ProviderAPIError, True),
    (500, b"<!doctype html><h1>oh</h1>", ProviderAPIError, True),
    (501, b"", ProviderAPIError, False),
    (503, b"upstream connect error", ProviderAPIError, True),
    (529, b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', ProviderAPIError, True),
]


@pytest.mark.parametrize(("status", "body", "kind", "again"), CASES)
def test_each_form_of_error_becomes_its_own(status: int, body: bytes, kind: type, again: bool) -> None:
    error = fail(status, body)
    assert type(error) is kind
    assert may_retry(error) is again
    assert error.provider == "acme"
    assert f"status {status}" in str(error)
    if isinstance(error, ProviderAPIError):
        assert error.status_code == status
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"detail":[{"loc":["body","n"],"msg":"too big","type":"x"}]}', "body.n: too big"),
        (b'{"detail":"Not here."}', "Not here."),
        (b'{"error":"plain"}', "plain"),
        (b'"only a string"', "only a string"),
        (b"no JSON\n at all", "no JSON at all"),
        (b"<html><TITLE> 502 Bad\nGateway </TITLE><body>secrets</body>", "a page of HTML, titled '502 Bad Gateway'"),
        (b"<html>secrets", "a page of HTML"),
        (b"", "without saying why"),
        (b"null", "null"),
        (b"[]", "without saying why"),
        (b'{"error":{}}', "without saying why"),
        (openai("Provider returned error", metadata={"raw": "behind it"}), "Provider returned error: behind it"),
        (b'{"message":{"detail":[{"loc":[],"msg":"m"}]}}', "m"),
        (b"\xff\xfe", "\ufffd"),
    ],
)
def test_messages_say_what_the_service_said(body: bytes, said: str) -> None:
    message = fail(400, body).message
    assert said in message
    assert "secrets" not in message


@pytest.mark.parametrize(
    ("message", "prompt", "window"),
    [
        ("The maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.", 9000, 8192),
        ("maximum context length is 4096 tokens. However, you requested 5000 tokens (4500 in them)", 5000, 4096),
        ("maximum context length is 131,072 tokens. However, you requested about 200,000 tokens", 200000, 131072),
        ("is too large: 9. The maximum context length is 40 tokens and your request has 41 input", 41, 40),
        ("You passed 5001 input tokens and requested 1. However, the model's context length is only 4096", 5001, 4096),
        ("prompt is too long: 208310 tokens > 200000 maximum", 208310, 200000),
        ("input length and `max_tokens` exceed context limit: 199000 + 8000 > 200000, decrease it", 207000, 200000),
        ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", 1200000, 1048576),
        ("Prompt contains 40000 tokens, too large for model with 32768 maximum context length", 40000, 32768),
        ("request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it", 5000, 4096),
    ],
)  # fmt: skip
def test_sizes_are_read_where_the_prompt_is_too_long(message: str, prompt: int, window: int) -> None:
    error = fail(400, openai(message))
    assert isinstance(error, ContextWindowExceededError)
    assert (error.prompt_tokens, error.context_window) == (prompt, window)
    assert not may_retry(error)


def test_llama_cpp_says_sizes_in_fields() -> None:
    error = fail(400, openai("Too long", "exceed_context_size_error", 400, n_prompt_tokens=70, n_ctx=64))
    assert isinstance(error, ContextWindowExceededError)
    assert (error.prompt_tokens, error.context_window) == (70, 64)


KEYS = [
    "sk-proj-abcDEF123456",
    "sk-ant-api03-abc_DEF-123",
    "gsk_0123456789abcdef",
    "AIzaSyA1234567890abcdefghij",
    "0123456789abcdef0123456789abcdef",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIi.x-y_z",
]


@pytest.mark.parametrize("key", [*KEYS, "anything-at-all"])
@pytest.mark.parametrize(
    "before", ["Bearer ", "api_key=", "?key=", "API key provided: ", '"api-key": "', "Authorization: Bearer "]
)
def test_no_message_holds_a_key(key: str, before: str) -> None:
    for body in (openai(f"Wrong {before}{key} there"), f"Wrong {before}{key}".encode()):
        message = fail(401, body).message
        assert key not in message
        assert "[key removed]" in message


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("place", [3, 470, 485, 495, 499, 505])
def test_a_key_is_removed_wherever_it_stands(key: str, place: int) -> None:
    message = fail(401, ("x " * place)[:place].encode() + b" " + key.encode()).message
    assert key[:10] not in message


def test_ordinary_words_are_no_keys() -> None:
    text = "The risk-free task-oriented model gpt-4o-mini-2024-07-18 takes no parameter 'top_k'; key: none."
    assert text.rstrip(".") in fail(400, openai(text)).message


@pytest.mark.parametrize("size", [10**4, 3 * 2**20])
def test_huge_bodies_are_cut(size: int) -> None:
    assert len(fail(500, openai("y" * size)).message) < 750
    assert len(fail(500, b"y" * size).message) < 750


FIELDS = ["error", "message", "detail", "details", "code", "type", "metadata"]


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode()), st.integers(400, 599))  # fmt: skip
def test_any_body_gives_some_error(body: bytes, status: int) -> None:
    error = fail(status, body)
    assert isinstance(error, AbstractLLMError)
    assert len(error.message) < 1000


@pytest.mark.parametrize("name", ["x-request-id", "Request-Id", "X-Request-ID"])
def test_the_service_names_the_request(name: str) -> None:
    error = fail(500, b"", {name: "req_123"})
    assert isinstance(error, ProviderAPIError)
    assert error.request_id == "req_123"
    assert "req_123" in str(error)


NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "20"}, 20.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"RETRY-AFTER": "0"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "Fri, 02 Jan 2026 03:05:05 GMT"}, 60.0),
        ({"retry-after": "Fri, 02 Jan 2026 03:05:05 -0000"}, 60.0),
        ({"retry-after": "Fri, 02 Jan 2026 03:00:00 GMT"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "1_0"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "Fri, 99 Foo"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_each_form_of_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=NOW) == seconds
    error = failure(503, b"", headers, provider=None, now=NOW)
    assert isinstance(error, ProviderAPIError)
    assert error.retry_after == seconds


def test_gemini_says_in_the_body_how_long_to_wait() -> None:
    body = json.dumps({"error": GEMINI_QUOTA}).encode()
    assert retry_after({}, body) == 34.0
    assert retry_after({"retry-after": "5"}, body) == 5.0
    error = fail(429, body)
    assert isinstance(error, QuotaExceededError)
    assert error.retry_after == 34.0
    bad = {"error": {"details": [{"retryDelay": "soon"}, {"retryDelay": 3}]}}
    assert retry_after({}, json.dumps(bad).encode()) is None


@given(st.text(max_size=40))
def test_nonsense_never_breaks_retry_after(text: str) -> None:
    found = retry_after({"Retry-After": text}, now=NOW)
    assert found is None or found >= 0


@pytest.mark.parametrize(
    ("value", "kind", "status"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, ProviderAPIError, 529),
        ({"error": {"message": "Gone", "type": "server_error"}}, ProviderAPIError, 500),
        ({"message": "Slow", "code": "rate_limit_exceeded"}, QuotaExceededError, 429),
        ({"message": "Spent", "type": "insufficient_quota"}, SpentQuotaError, 429),
        ({"message": "Behind", "code": 502}, ProviderAPIError, 502),
        ({"message": "x", "code": "content_filter"}, ContentFilterError, None),
        ({"code": "401", "message": "No"}, AuthenticationError, 401),
        ("only text", ProviderAPIError, None),
        (None, ProviderAPIError, None),
        (7, ProviderAPIError, None),
    ],
)
def test_errors_in_streams(value: object, kind: type, status: int | None) -> None:
    error = stream_failure(value, "acme")
    assert type(error) is kind
    assert isinstance(error, ProviderAPIError)
    assert error.status_code == status


def test_what_may_be_sent_again() -> None:
    assert may_retry(ProviderConnectionError("broken"))
    assert may_retry(QuotaExceededError("slow"))
    assert not may_retry(SpentQuotaError("spent", status_code=429))
    assert not may_retry(ProviderAPIError("unknown"))
    assert not may_retry(RequestTimeoutError("late", limit="total"))
    assert not may_retry(GenerationError("bad"))
    assert not any(may_retry(ProviderAPIError("no", status_code=status)) for status in (400, 401, 403, 404, 413, 422))


@pytest.mark.parametrize(
    "error",
    [
        QuotaExceededError("Slow down"),
        SpentQuotaError("Spent"),
        ContentFilterError("Refused"),
        AuthenticationError("Wrong"),
        ModelNotFoundError("No such model"),
        ProviderAPIError("Broken"),
    ],
)
def test_errors_come_back_as_they_were_told(error: AbstractLLMError) -> None:
    told = error_object(error)
    assert told["message"] == error.message
    assert type(stream_failure({"error": told}, None)) is type(error)


def test_foreign_errors_are_not_told() -> None:
    assert "secret" not in str(error_object(ValueError("secret path")))
    assert error_object(InvalidParameterError("top_p", "No."))["param"] == "top_p"
    assert error_object(UnsupportedFeatureError("seed", "No."))["param"] == "seed"
