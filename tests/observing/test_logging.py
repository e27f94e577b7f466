"""Records of a log without keys, and the log of the package."""

from __future__ import annotations

import logging

import pytest

from abstractllm import InvalidParameterError, RedactingFilter, configure_logging, redact
from abstractllm.errors import AuthenticationError
from abstractllm.providers.http import Secret

KEY = "sk-abcDEF0123456789abcDEF0123456789"


@pytest.fixture
def lines():
    """A logger with the filter on its handler, and the lines that it has written."""
    written = []

    class Handler(logging.Handler):
        def emit(self, record):
            try:
                written.append((self.format(record), record))
            except TypeError:
                self.handleError(record)

        def handleError(self, record):
            written.append((f"mistake: {record.msg!r} {record.args!r}", record))

    handler = Handler()
    handler.addFilter(RedactingFilter())
    logger = logging.Logger("test.redaction")  # not one of the tree, where pytest's handlers would raise
    logger.addHandler(handler)
    return logger, written


class Holder:
    def __repr__(self):
        return f"Holder({KEY})"


class Broken:
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


@pytest.mark.parametrize(
    "arguments",
    [
        (f"key {KEY}",),
        ("key %s", KEY),
        ("api_key=%s", "hunter2hunter"),
        ("%s", {"api_key": KEY}),
        ("%(key)s and %(number)d", {"key": KEY, "number": 3}),
        ("%s %d", [KEY, (KEY,)], 3),
        ("%s", AuthenticationError(f"wrong key {KEY}", status_code=401)),
        ("%r", Holder()),
        (AuthenticationError(f"wrong key {KEY}", status_code=401),),
        ("%s", KEY.encode()),
    ],
)
def test_no_message_holds_a_key(lines, arguments):
    logger, written = lines
    logger.warning(*arguments)
    ((text, record),) = written
    assert KEY not in text
    assert "hunter2" not in text
    assert "(hidden)" in text
    assert KEY not in repr(record.__dict__)


def test_numbers_and_formats_work_as_before(lines):
    logger, written = lines
    logger.info("%s of %5.2f in %%(%d)", "a", 1.5, 3)
    logger.info("100%")
    logger.info("%d%%", 50)
    assert [text for text, _ in written] == ["a of  1.50 in %(3)", "100%", "50%"]


def test_texts_of_exceptions_and_stacks_are_clean(lines):
    logger, written = lines
    try:
        try:
            raise ValueError(f"first {KEY}")
        except ValueError as error:
            raise AuthenticationError("second", status_code=401) from error
    except AuthenticationError:
        logger.exception("it failed", stack_info=True)
    ((text, record),) = written
    assert "ValueError: first (hidden)" in text
    assert "AuthenticationError: second" in text
    assert "Stack (most recent call last)" in text
    assert KEY not in repr(record.__dict__)
    assert record.exc_info is None


def test_what_is_added_to_a_record_is_clean(lines):
    logger, written = lines
    more = {
        "api_key": "hunter2",
        "headers": {"x-api-key": b"hunter2", "accept": "json", "token": "hunter2hunter2hunter2"},
        "both": [KEY, {"deep": (KEY, 3)}],
        "holder": Holder(),
        "broken": Broken(),
        "plain": 12345678,
    }
    logger.info("x", extra=more)
    record = written[0][1]
    assert record.api_key == "(hidden)"
    assert record.headers == {"x-api-key": "(hidden)", "accept": "json", "token": "(hidden)"}
    assert record.both == ["(hidden)", {"deep": ("(hidden)", 3)}]
    assert (record.holder, record.broken, record.plain) == ("Holder((hidden))", more["broken"], 12345678)


def test_a_mistake_in_the_call_is_told_without_the_key(lines):
    logger, written = lines
    logger.info("%d", KEY)
    logger.info(f"{KEY} %s %s", {"password": "hunter2"})
    assert len(written) == 2
    for text, _ in written:
        assert text.startswith("mistake: ")
        assert KEY not in text
        assert "hunter2" not in text


def test_a_value_that_holds_itself_does_not_hang(lines):
    logger, written = lines
    circle = [KEY]
    circle.append(circle)
    logger.info("x", extra={"circle": circle})
    assert KEY not in repr(written[0][1].circle)


def test_a_key_of_a_provider_is_hidden_in_the_same_word():
    assert Secret(KEY).hide(f"got {KEY}") == redact(f"got {KEY}") == "got (hidden)"


# The package's own log.


@pytest.fixture
def own_log():
    logger = logging.getLogger("abstractllm")
    before = logger.level, logger.propagate, list(logger.handlers)
    yield logger
    logger.setLevel(before[0])
    logger.propagate = before[1]
    logger.handlers[:] = before[2]


def test_the_packages_log_goes_to_stderr_without_keys(own_log, capsys):
    root = list(logging.getLogger().handlers)
    configure_logging("debug")
    configure_logging(level=logging.INFO)
    logging.getLogger("abstractllm.child").info("got %s", KEY)
    own_log.debug("too quiet")
    logging.getLogger("other").warning("not ours")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.endswith("INFO abstractllm.child: got (hidden)\n")
    assert logging.getLogger().handlers == root


@pytest.mark.parametrize("level", ["loud", None, 1.5, []])
def test_a_level_that_does_not_exist_is_refused(own_log, level):
    before = list(own_log.handlers)
    with pytest.raises(InvalidParameterError, match="level"):
        configure_logging(level)
    assert own_log.handlers == before
