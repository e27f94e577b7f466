"""Streams as bytes: put together, cut anywhere, and decoded until they end or break off."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from abstractllm.errors import AbstractLLMError
from abstractllm.types import GenerateResponse
from abstractllm.wire.codec import StreamEncoder


class Decoder(Protocol):
    """What takes bytes in pieces."""

    def feed(self, data: bytes) -> Sequence[Any]: ...

    def end(self) -> Sequence[Any]: ...


Found = tuple[list[Any], AbstractLLMError | None]
"""What a decoder made of a stream, and the error that ended it, if one did."""


def decoded(decoder: Decoder, pieces: Iterable[bytes]) -> list[Any]:
    """Return all that a decoder makes of a stream. Raises what it raises."""
    found = [one for piece in pieces for one in decoder.feed(piece)]
    return [*found, *decoder.end()]


def until_error(decoder: Decoder, pieces: Iterable[bytes]) -> Found:
    """Return all that a decoder makes of a stream until it raises, and what it raises."""
    found: list[Any] = []
    try:
        for piece in pieces:
            found += decoder.feed(piece)
        found += decoder.end()
    except AbstractLLMError as error:
        return found, error
    return found, None


def at_every_cut(new: Callable[[], Decoder], data: bytes) -> Found:
    """Return what a stream decodes to, having seen that it is the same wherever its bytes are cut."""
    found, error = until_error(new(), [data])
    cuts = [[data[:place], data[place:]] for place in range(len(data) + 1)]
    for number, pieces in enumerate([[bytes([byte]) for byte in data], *cuts]):
        again, other = until_error(new(), pieces)
        assert again == found, f"cut {number}"
        assert (type(other), str(other)) == (type(error), str(error)), f"cut {number}"
    return found, error


def whole(new: Callable[[], Decoder], data: bytes) -> list[GenerateResponse]:
    """Return the deltas of a stream that is good, after checking that they are the same wherever it is cut."""
    deltas, error = at_every_cut(new, data)
    assert error is None
    assert nothing_empty(deltas)
    assert sum(delta.model is not None for delta in deltas) <= len({delta.choice for delta in deltas})
    return deltas


def nothing_empty(deltas: Iterable[GenerateResponse]) -> bool:
    """Whether every delta says something."""
    return all(delta != GenerateResponse() for delta in deltas)


def encoded(encoder: StreamEncoder, deltas: Iterable[GenerateResponse]) -> bytes:
    """Return the bytes of a whole stream."""
    return b"".join([*(encoder.encode(delta) for delta in deltas), encoder.end()])


def in_pieces(text: str, size: int) -> list[str]:
    """Return a text as pieces of at most `size` characters."""
    return [text[start : start + size] for start in range(0, len(text), size)]


def events(*datas: str, end: str = "\n") -> bytes:
    """Return server-sent events without names."""
    return "".join(f"data: {data}{end}{end}" for data in datas).encode()


def named_events(*datas: str) -> bytes:
    """Return server-sent events, named after the type that their data begins with."""
    named = [(data.split('"')[3], data) for data in datas]
    return b"".join(f"event: {name}\ndata: {data}\n\n".encode() for name, data in named)
