"""Logs without keys: a filter for any handler, and a handler with it for this package's logger."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from abstractllm.errors import InvalidParameterError, shown
from abstractllm.observing.secrets import HIDDEN, is_secret, redact

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_DEEPEST = 8
"""Levels of lists and mappings that are looked into; what is deeper is taken as text."""

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


class RedactingFilter(logging.Filter):
    """Takes keys and passwords out of records, as `redact` finds them; it lets every record pass.

    The message is put together here, so that a key that came as an argument is found beside its name, and so is the
    text of an exception: the record has no `args` and no `exc_info` any more, but the same text. What was added with
    `extra=` is cleaned as well. Put it on handlers: a logger's filter does not see what other loggers hand up to it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Clean a record; always True."""
        try:
            record.msg, record.args = redact(record.getMessage()), None
        except Exception:  # the handler tells of the mistake in the call, and shows message and arguments with it
            record.msg, record.args = _clean(record.msg), _clean(record.args)
        if record.exc_info and not record.exc_text:
            record.exc_text = _formatter.formatException(record.exc_info)
        record.exc_info = None
        record.exc_text = record.exc_text and redact(record.exc_text)
        record.stack_info = record.stack_info and redact(record.stack_info)
        for name in record.__dict__.keys() - _STANDARD:
            setattr(record, name, _named(name, getattr(record, name)))
        return True


_formatter = logging.Formatter()


def _clean(value: Any, depth: int = 0) -> Any:
    """Return a value without secrets: itself where there are none, else one of its kind, or its text."""
    if isinstance(value, str):
        return redact(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if depth < _DEEPEST:
        if isinstance(value, Mapping):
            return {name: _named(name, one, depth) for name, one in value.items()}
        if type(value) in (list, tuple, set, frozenset):
            return type(value)(_clean(one, depth + 1) for one in value)
    texts = _texts(value)
    return value if all(redact(text) == text for text in texts) else redact(texts[0])


def _named(name: object, value: object, depth: int = 0) -> object:
    """Return what is given to a name, without secrets."""
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if isinstance(name, str) and isinstance(text, str) and is_secret(name, text):
        return HIDDEN
    return _clean(value, depth + 1)


def _texts(value: object) -> tuple[str, ...]:
    """Return what an object may look like in a log; logging must not fail because one cannot say what it is."""
    try:
        return str(value), repr(value)
    except Exception:
        return (object.__repr__(value),)


class _Handler(logging.StreamHandler[Any]):
    """The one handler of `configure_logging`, so that a second call finds it."""


def configure_logging(level: int | str = logging.INFO) -> logging.Handler:
    """Have this package's log written to stderr, from this level on and without keys; return the handler.

    It is about the logger "abstractllm" alone, whose records then go to no handler above it. Called again, it changes
    the level. Raises InvalidParameterError for a level that does not exist.
    """
    logger = logging.getLogger("abstractllm")
    try:
        logger.setLevel(level.upper() if isinstance(level, str) else level)
    except (TypeError, ValueError) as error:
        what = f"level={shown(level)} is no level of logging; use one such as 'DEBUG' or 'WARNING'."
        raise InvalidParameterError("level", what) from error
    for handler in [one for one in logger.handlers if isinstance(one, _Handler)]:
        logger.removeHandler(handler)
    handler = _Handler()
    handler.setFormatter(logging.Formatter(FORMAT))
    handler.addFilter(RedactingFilter())
    logger.addHandler(handler)
    logger.propagate = False
    return handler
