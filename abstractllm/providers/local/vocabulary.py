"""The tokens of one model as the grammar engine and the masks need them: bytes, ends, and sets of tokens as bits.

A set of tokens is an array of 32-bit words; token t is bit t % 32 of word t // 32, counted from the lowest.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from abstractllm.errors import UnsupportedFeatureError

BLANKS = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class Gate:
    """What may come before the constrained text: a stretch of free text that ends with `end`, such as reasoning.

    It begins with `start`, and may then be missing altogether; without a `start` the prompt has opened it.
    """

    end: str
    start: str = ""


class Vocabulary:
    """The tokens of a tokenizer, in rows of logits that are `width` wide. Takes up to seconds to make, and any thread.

    Raises UnsupportedFeatureError for a tokenizer that the grammar engine cannot read.
    """

    def __init__(self, wrapper: Any, stop_tokens: Iterable[int], width: int) -> None:
        from llguidance import LLTokenizer

        self.stop_tokens = frozenset(stop_tokens)
        backend = getattr(wrapper, "backend_tokenizer", None)
        if backend is None:
            raise _unreadable("it is not one of the fast ones")
        backend = copy.copy(backend)
        backend.no_padding()
        backend.no_truncation()
        self.size = 1 + max(backend.get_vocab(with_added_tokens=True).values())
        try:
            ends = sorted(self.stop_tokens)
            self.engine = LLTokenizer(backend.to_str(), n_vocab=max(width, self.size), eos_token=ends)
        except ValueError as error:
            raise _unreadable(str(error)) from error
        self.width = width
        self.words = -(-width // 32)
        self.fits = self.size <= width
        self._completions: dict[tuple[bytes, bytes], Any] = {}
        self._openings: dict[bytes, Any] = {}

    def prepare(self, gate: Gate) -> None:
        """Make the sets of tokens that a gate needs, which takes a moment where there are many."""
        start, end = gate.start.encode(), gate.end.encode()
        for size in range(len(end)):
            self.completions(end, end[:size])
        for size in range(len(start)):
            self.openings(start[size:])
        self._fixed_sets()

    def _fixed_sets(self) -> tuple[Any, ...]:
        return self.known, self.free, self.stops, self.blanks, self.has_plain_stops

    def bytes_of(self, token: int) -> bytes:
        """Return the bytes that a token stands for; those of its name for a special token."""
        found: bytes = self.engine.decode_bytes([token]) if token < self.size else b""
        return found

    @cached_property
    def _bytes(self) -> list[bytes]:
        return [self.bytes_of(token) for token in range(min(self.size, self.width))]

    @cached_property
    def known(self) -> Any:
        """All tokens that the tokenizer and the rows have."""
        return self._set(range(len(self._bytes)))

    @cached_property
    def free(self) -> Any:
        """All tokens but the stop tokens."""
        return self._set(token for token in range(len(self._bytes)) if token not in self.stop_tokens)

    @cached_property
    def stops(self) -> Any:
        """The stop tokens."""
        return self._set(token for token in self.stop_tokens if token < self.width)

    @cached_property
    def blanks(self) -> Any:
        """The tokens of nothing but blanks."""
        return self._set(token for token, text in enumerate(self._bytes) if is_blank(text))

    @cached_property
    def has_plain_stops(self) -> bool:
        """Whether some stop token is text as well, so that the engine takes it for either."""
        return any(token < self.size and not self.engine.is_special_token(token) for token in self.stop_tokens)

    def completions(self, marker: bytes, begun: bytes) -> Any:
        """Return the tokens that complete `marker` after its beginning `begun` and go on with more than blanks."""
        if (marker, begun) not in self._completions:
            possible = ((token, begun + text) for token, text in enumerate(self._bytes) if marker[-1:] in text)
            found = [token for token, text in possible if text.partition(marker)[2].strip(BLANKS)]
            self._completions[marker, begun] = self._set(found)
        return self._completions[marker, begun]

    def openings(self, rest: bytes) -> Any:
        """Return the tokens that are a beginning of `rest`, or all of it and more; but for the stop tokens."""
        if rest not in self._openings:
            texts = ((token, text) for token, text in enumerate(self._bytes) if token not in self.stop_tokens)
            self._openings[rest] = self._set(token for token, text in texts if goes_on(rest, text))
        return self._openings[rest]

    def _set(self, tokens: Iterable[int]) -> Any:
        import numpy as np

        bits: Any = np.zeros(self.words * 32, dtype=np.uint8)
        bits[list(tokens)] = 1
        return np.packbits(bits, bitorder="little").view("<u4").astype(np.uint32)


def is_blank(text: bytes) -> bool:
    """Whether a text is not empty, and nothing but blanks."""
    return bool(text) and not text.strip(BLANKS)


def goes_on(rest: bytes, text: bytes) -> bool:
    """Whether `text` may stand where `rest` is to come."""
    return bool(text) and (rest.startswith(text) or text.startswith(rest))


def begun_part(marker: bytes, text: bytes) -> bytes:
    """Return the longest end of `text` that is a beginning of `marker`, but not all of it."""
    return next((marker[:size] for size in range(len(marker) - 1, 0, -1) if text.endswith(marker[:size])), b"")


def _unreadable(reason: str) -> UnsupportedFeatureError:
    return UnsupportedFeatureError(
        "response_format",
        f"Answers of this model cannot be constrained: the grammar engine cannot read its tokenizer ({reason}).",
        provider="mlx",
    )
