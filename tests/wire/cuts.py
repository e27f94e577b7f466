"""Streams as bytes, decoded however they are cut."""

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


def decoded(decoder: Decoder, pieces: Iterable[bytes]) -> list[Any]:
    """Return all that a decoder makes of a stream."""
    found = [one for piece in pieces for one in decoder.feed(piece)]
    return [*found, *decoder.end()]


def until_error(decoder: Decoder, pieces: Iterable[bytes]) -> tuple[list[Any], str | None]:
    """Return all that a decoder makes of a stream until it raises, and what it raises."""
    found: list[Any] = []
    try:
        for piece in pieces:
            found += decoder.feed(piece)
        found += decoder.end()
    except AbstractLLMError as error:
        return found, f"{type(error).__name__}: {error}"
    return found, None


def check_every_cut(decoder: Callable[[], Decoder], data: bytes) -> tuple[list[Any], str | None]:
    """Return what a stream decodes to, having seen that it is the same wherever its bytes are cut."""
    whole = until_error(decoder(), [data])
    assert until_error(decoder(), [bytes([byte]) for byte in data]) == whole
    for place in range(len(data) + 1):
        assert until_error(decoder(), [data[:place], data[place:]]) == whole, place
    return whole


def encoded(encoder: StreamEncoder, deltas: Iterable[GenerateResponse]) -> bytes:
    """Return the bytes of a whole stream."""
    return b"".join([*(encoder.encode(delta) for delta in deltas), encoder.end()])


def in_pieces(text: str, size: int) -> list[str]:
    """Return a text as pieces of at most `size` characters."""
    return [text[start : start + size] for start in range(0, len(text), size)]


def nothing_empty(deltas: Iterable[GenerateResponse]) -> bool:
    """Whether every delta says something."""
    return all(delta != GenerateResponse() for delta in deltas)


def events(*bodies: str) -> bytes:
    """Return server-sent events, named after the type that their data begins with."""
    named = [(body.split('"')[3], body) for body in bodies]
    return b"".join(f"event: {name}\ndata: {body}\n\n".encode() for name, body in named)
