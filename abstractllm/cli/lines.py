"""What a user types in a chat: lines from a terminal, with editing and history, or from a pipe; and turns of lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from abstractllm.cli.failures import print_note
from abstractllm.errors import InvalidParameterError, InvalidRequestError

HISTORY_LENGTH = 1000
QUOTES = '"""'

ReadLine = Callable[[str], str | None]
"""Takes the prompt to show, returns a line without its end, or None at the end of input."""


def is_interactive() -> bool:
    """Whether a person sits at both ends."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


def read_terminal_line(prompt: str) -> str | None:
    """Read a line from a terminal; see `ReadLine`."""
    try:
        return input(prompt)
    except EOFError:
        print()
        return None


def read_piped_line(prompt: str) -> str | None:
    """Read a line from a pipe, without showing the prompt. Raises InvalidRequestError for a line that is not UTF-8."""
    data = b"" if sys.stdin is None else sys.stdin.buffer.readline()
    if not data:
        return None
    try:
        return data.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InvalidParameterError("prompt", "This line is not UTF-8 text and was left out.") from error


def read_turn(read_line: ReadLine) -> str | None:
    r"""Return what the user says next, or None at the end of input.

    A line that ends with `\` goes on in the next one; a text that begins with `\"""` goes on until `\"""`. Raises
    InvalidRequestError for a text that does not end.
    """
    line = read_line("> ")
    if line is None:
        return None
    if line.lstrip().startswith(QUOTES):
        return _quoted(line.lstrip().removeprefix(QUOTES), read_line)
    lines = []
    while line is not None and line.endswith("\\"):
        lines.append(line.removesuffix("\\"))
        line = read_line("... ")
    return "\n".join([*lines, line or ""])


def _quoted(line: str, read_line: ReadLine) -> str:
    lines = []
    while not line.rstrip().endswith(QUOTES):
        lines.append(line)
        following = read_line("... ")
        if following is None:
            raise InvalidRequestError(f"The input ended before the closing {QUOTES}; the text was not sent.")
        line = following
    return "\n".join([*lines, line.rstrip().removesuffix(QUOTES)]).strip("\n")


def history_path() -> Path:
    """Return the file that keeps what was typed, in the user's folder for states of programs."""
    if os.name == "nt":
        folder = Path(os.environ.get("LOCALAPPDATA", "~\\AppData\\Local"))
    elif sys.platform == "darwin":
        folder = Path("~/Library/Application Support")
    else:
        folder = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state")
    return folder.expanduser() / "abstractllm" / "chat_history"


@contextmanager
def history(path: Path) -> Iterator[None]:
    """Edit lines with the history in `path` and save it at the end; without the readline module, do nothing."""
    try:
        import readline
    except ImportError:
        yield
        return
    readline.set_history_length(HISTORY_LENGTH)
    try:
        if path.exists():
            readline.read_history_file(path)
    except OSError as error:
        print_note(f"the history in {path} cannot be read ({error.strerror}); it starts anew")
    try:
        yield
    finally:
        _save_history(path, readline.write_history_file)


def _save_history(path: Path, write: Callable[[Path], None]) -> None:
    """Write the history so that only its user can read it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        write(path)
    except OSError as error:
        print_note(f"the history cannot be saved to {path} ({error.strerror}); --no-history keeps none")
