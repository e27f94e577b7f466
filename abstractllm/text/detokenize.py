"""Token ids -> text, piece by piece, never cutting a character in two.

Works on any tokenizer that can name and decode its tokens; knows no engine.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol


class Detokenizer(Protocol):
    """Turns the tokens of one answer into text. The pieces join to the decoded whole."""

    def add(self, token: int) -> str:
        """Take the next token and return the text that is certain by now, perhaps none."""

    def flush(self) -> str:
        """Return the text that was held back, at the answer's end."""


@lru_cache(maxsize=1)
def _byte_of_character() -> dict[str, int]:
    """The printable stand-ins of byte-level BPE vocabularies, as in GPT-2's encoder.py (`bytes_to_unicode`)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    table = {chr(byte): byte for byte in printable}
    table.update({chr(256 + number): byte for number, byte in enumerate(others)})
    return table


def byte_level(piece: str) -> bytes:
    """Return the bytes of a vocabulary entry of a byte-level BPE tokenizer."""
    table = _byte_of_character()
    try:
        return bytes(table[character] for character in piece)
    except KeyError:  # an added token that stands in the vocabulary as plain text
        return piece.encode()


def piece_bytes(piece: str) -> bytes:
    """Return the bytes of a vocabulary entry of a SentencePiece tokenizer: U+2581 is a space, <0x0A> a byte."""
    if re.fullmatch("<0x[0-9A-F]{2}>", piece):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("\u2581", " ").encode()


class ByteDetokenizer:
    """For vocabularies whose tokens are bytes: `token_bytes` returns those of one token, `b""` for a hidden one."""

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: int) -> str:
        """Take the next token and return the text that is certain by now."""
        return self._decoder.decode(self._token_bytes(token))

    def flush(self) -> str:
        """Return a cut-off character as U+FFFD, if there is one."""
        return self._decoder.decode(b"", final=True)


class WindowDetokenizer:
    """For all other tokenizers: decodes a short window again at each token, and yields what it adds.

    `decode` turns token ids into text; the window starts at the last token whose text was certain, so that a
    decoder which treats the first token differently (SentencePiece drops its space) is not asked about it.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._start = 0
        self._certain = 0

    def add(self, token: int) -> str:
        """Take the next token and return the text that is certain by now."""
        self._tokens.append(token)
        before, text = self._window()
        if text.endswith("\ufffd") or len(text) <= len(before):
            return ""
        self._start, self._certain = self._certain, len(self._tokens)
        return text[len(before) :]

    def flush(self) -> str:
        """Return what was held back."""
        before, text = self._window()
        self._start = self._certain = len(self._tokens)
        return text[len(before) :]

    def _window(self) -> tuple[str, str]:
        before = self._decode(self._tokens[self._start : self._certain]) if self._certain > self._start else ""
        return before, self._decode(self._tokens[self._start :]) if self._tokens[self._start :] else ""
