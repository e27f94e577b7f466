"""Which conversation the work of this context belongs to, for whoever observes it. Knows nothing of what it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

_current: ContextVar[str | None] = ContextVar("abstractllm_conversation", default=None)


@contextmanager
def conversation(id: str) -> Iterator[None]:
    """Have everything that begins inside belong to the conversation of this id; threads and tasks inherit it."""
    token = _current.set(id)
    try:
        yield
    finally:
        with suppress(ValueError):  # left in another context: the one it was set in is gone
            _current.reset(token)


def conversation_id() -> str | None:
    """Return the id of the conversation that this context belongs to, None where it belongs to none."""
    return _current.get()
