"""Streams for tests: cut anywhere, and decoded with the error that they may end in."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from abstractllm.errors import AbstractLLMError
from abstractllm.types import GenerateResponse
from abstractllm.wire.codec import StreamDecoder


def events(*datas: str, end: str = "\n") -> bytes:
    """Return server-sent events without names."""
    return "".join(f"data: {data}{end}{end}" for data in datas).encode()


def decoded(decoder: StreamDecoder, pieces: Iterable[bytes]) -> tuple[list[GenerateResponse], AbstractLLMError | None]:
    """Return the deltas of a stream and the error that ended it, if one did."""
    found: list[GenerateResponse] = []
    try:
        for piece in pieces:
            found.extend(decoder.feed(piece))
        found.extend(decoder.end())
    except AbstractLLMError as error:
        return found, error
    return found, None


def everywhere(new: Callable[[], StreamDecoder], data: bytes) -> tuple[list[GenerateResponse], AbstractLLMError | None]:
    """Return what a stream decodes to, after checking that it is the same wherever its bytes are cut."""
    deltas, error = decoded(new(), [data])
    cuts = [[data[:place], data[place:]] for place in range(len(data) + 1)]
    for number, pieces in enumerate([[bytes([byte]) for byte in data], *cuts]):
        again, other = decoded(new(), pieces)
        assert again == deltas, f"cut {number}"
        assert (type(other), str(other)) == (type(error), str(error)), f"cut {number}"
    return deltas, error


def whole(new: Callable[[], StreamDecoder], data: bytes) -> list[GenerateResponse]:
    """Return the deltas of a stream that is good, after checking that they are the same wherever it is cut."""
    deltas, error = everywhere(new, data)
    assert error is None
    empty = GenerateResponse()
    assert all(delta != empty for delta in deltas)
    assert sum(delta.model is not None for delta in deltas) <= len({delta.choice for delta in deltas})
    return deltas
