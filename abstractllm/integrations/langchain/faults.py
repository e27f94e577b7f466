"""What LangChain's chat models raise -> our errors. Knows what libraries share, and none of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from langchain_core import exceptions as theirs

from abstractllm import errors as ours
from abstractllm.wire.failure_bodies import redacted
from abstractllm.wire.failures import failure

_CONNECTION = frozenset({"APIConnectionError", "TransportError", "ClientConnectionError", "ConnectionError"})
_TIMEOUT = frozenset({"APITimeoutError", "TimeoutException", "TimeoutError"})
"""Names of classes, of openai's and anthropic's libraries, httpx, aiohttp and Python; subclasses count as well."""


@contextmanager
def told_to_us(*, context_window: int | None = None) -> Iterator[None]:
    """Raise what a chat model raises inside as an error of ours, with the cause; what says nothing passes as it is.

    `context_window` is that of the model, for errors that say only that it was exceeded.
    """
    try:
        yield
    except ours.AbstractLLMError:
        raise
    except Exception as error:
        told = as_ours(error, context_window=context_window)
        if told is None:
            raise
        raise told from error


def as_ours(error: Exception, *, context_window: int | None = None) -> ours.AbstractLLMError | None:
    """Return the error of ours that one of a chat model's stands for, None where it cannot be told.

    Counts of tokens that the error does not say are 0.
    """
    status = _status(error)
    told = None if status is None else failure(status, _body(error), _headers(error), provider=None)
    if isinstance(told, ours.ContextWindowExceededError):
        return told
    if isinstance(error, theirs.ContextOverflowError):
        what = f"The request does not fit into the model's context. {_text(error)} Send less."
        return ours.ContextWindowExceededError(what, context_window=context_window or 0, prompt_tokens=0)
    return told or _by_class(error)


def _by_class(error: Exception) -> ours.AbstractLLMError | None:
    text, names = _text(error), {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, theirs.ModelTimeoutError) or names & _TIMEOUT:
        return ours.RequestTimeoutError(f"The chat model's own limit passed: {text}", limit="total")
    if isinstance(error, theirs.ModelConnectionError) or names & _CONNECTION:
        return ours.ProviderConnectionError(f"The service of the chat model could not be reached: {text}")
    if isinstance(error, theirs.ModelNotFoundError):
        return ours.ModelNotFoundError(text)
    if isinstance(error, NotImplementedError):
        return ours.UnsupportedFeatureError("langchain", f"The chat model has not what this needs: {text}")
    found = next(((kind, status) for own, kind, status in _KINDS if isinstance(error, own)), None)
    if found is None:
        return None
    kind, status = found
    return kind(text, status_code=status)


_KINDS: tuple[tuple[type[theirs.ModelError], type[ours.ProviderAPIError], int | None], ...] = (
    (theirs.ModelAuthenticationError, ours.AuthenticationError, 401),
    (theirs.ModelPermissionDeniedError, ours.AuthenticationError, 403),
    (theirs.ModelRateLimitError, ours.QuotaExceededError, 429),
    (theirs.ModelInvalidRequestError, ours.ProviderAPIError, 400),
    (theirs.ModelAPIError, ours.ProviderAPIError, 500),
)


def _status(error: Exception) -> int | None:
    """Return the HTTP status that an error of a client library has, itself or in its response."""
    for place in (error, getattr(error, "response", None)):
        for name in ("status_code", "status", "code"):
            status = getattr(place, name, None)
            if isinstance(status, int) and 400 <= status <= 599:
                return status
    return None


def _body(error: Exception) -> bytes:
    """Return what the service answered, or else what the error says, in a form that the table of errors reads."""
    body = getattr(error, "body", None)
    if isinstance(body, Mapping):
        return json.dumps(body if "error" in body else {"error": dict(body)}, default=str).encode()
    return json.dumps({"error": {"message": str(error)}}).encode()


def _headers(error: Exception) -> Mapping[str, str]:
    headers = getattr(getattr(error, "response", None), "headers", None)
    return {str(key): str(value) for key, value in headers.items()} if isinstance(headers, Mapping) else {}


def _text(error: Exception) -> str:
    return redacted(str(error) or type(error).__name__)
