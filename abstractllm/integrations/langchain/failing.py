"""Our errors in LangChain's classes too, so that what acts on either of them works. Raises nothing itself.

Each error stays what it is (`except QuotaExceededError` and all its attributes) and is an error of LangChain as well
(`except ModelRateLimitError`, `is_retryable`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from langchain_core import exceptions as theirs

from abstractllm import errors as ours


def kind_of(error: ours.AbstractLLMError) -> tuple[type[theirs.ModelError], bool] | None:
    """Return LangChain's class for an error, and whether the same request may work later; None where it has none."""
    status = getattr(error, "status_code", None) or 0
    by_status = next((kind for low, high, kind in _STATUSES if low <= status <= high), None)
    if type(error) is ours.ProviderAPIError and by_status is not None:
        return by_status, by_status.is_retryable
    if isinstance(error, ours.AuthenticationError) and status == 403:
        return theirs.ModelPermissionDeniedError, False
    return next(((kind, again) for own, kind, again in _KINDS if isinstance(error, own)), None)


_STATUSES = (
    (404, 404, theirs.ModelNotFoundError),
    (408, 408, theirs.ModelTimeoutError),
    (400, 499, theirs.ModelInvalidRequestError),
    (500, 599, theirs.ModelAPIError),
)
_KINDS: tuple[tuple[type[ours.AbstractLLMError], type[theirs.ModelError], bool], ...] = (
    (ours.ContextWindowExceededError, theirs.ContextOverflowError, False),
    (ours.InvalidRequestError, theirs.ModelInvalidRequestError, False),
    (ours.UnsupportedFeatureError, theirs.ModelInvalidRequestError, False),
    (ours.ModelNotFoundError, theirs.ModelNotFoundError, False),
    (ours.AuthenticationError, theirs.ModelAuthenticationError, False),
    (ours.SpentQuotaError, theirs.ModelRateLimitError, False),
    (ours.QuotaExceededError, theirs.ModelRateLimitError, True),
    (ours.QueueFullError, theirs.ModelRateLimitError, True),
    (ours.ContentFilterError, theirs.ModelInvalidRequestError, False),
    (ours.ProviderConnectionError, theirs.ModelConnectionError, True),
    (ours.ProviderAPIError, theirs.ModelAPIError, True),
    (ours.RequestTimeoutError, theirs.ModelTimeoutError, True),
    (ours.ModelError, theirs.ModelError, False),
    (ours.GenerationError, theirs.ModelError, False),
    (ours.MemoryLimitError, theirs.ModelError, False),
)
"""First the narrower classes; the last column says whether the same request may work later."""


@contextmanager
def told_to_langchain() -> Iterator[None]:
    """Raise what is raised inside in LangChain's classes too, with the error as it was for a cause."""
    try:
        yield
    except ours.AbstractLLMError as error:
        twin = as_langchain(error)
        if twin is error:
            raise
        raise twin from error


def as_langchain(error: ours.AbstractLLMError) -> ours.AbstractLLMError:
    """Return an error that is of LangChain's class as well; itself where LangChain has none for it."""
    found = None if isinstance(error, theirs.LangChainException) else kind_of(error)
    if found is None:
        return error
    restore, (own, arguments, attributes) = error.__reduce__()
    kind, again = found
    twin: ours.AbstractLLMError = restore(_both(own, kind, again), arguments, attributes)
    return twin


_made: dict[tuple[type, type, bool], type[Any]] = {}


def _both(own: type[ours.AbstractLLMError], other: type[theirs.ModelError], again: bool) -> type[Any]:
    """Return the class that is both; `again` is its `is_retryable`."""
    key = own, other, again
    if key not in _made:
        names = {"__module__": own.__module__, "__doc__": own.__doc__, "__reduce__": _reduced, "is_retryable": again}
        _made[key] = type(own.__name__, (own, other), {**names, "_own": own})
    return _made[key]


def _reduced(error: Any) -> tuple[Any, ...]:
    """A copy or a pickle holds the error alone: the class that is both is made anew in each process."""
    restore, (_, arguments, attributes) = ours.AbstractLLMError.__reduce__(error)
    return restore, (error._own, arguments, attributes)
