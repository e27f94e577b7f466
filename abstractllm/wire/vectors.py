"""Vectors and the texts that they are made of, as JSON has them. Knows no format and no request around them."""

from __future__ import annotations

import base64
import binascii
import math
import sys
from array import array
from collections.abc import Sequence

from abstractllm.errors import InvalidRequestError


def packed(vector: Sequence[float]) -> str:
    """Return a vector as base64 of its numbers in 32 bits each, the lowest byte first."""
    return base64.b64encode(_little_endian(array("f", vector)).tobytes()).decode("ascii")


def unpacked(text: str) -> list[float]:
    """Return the vector in base64; the inverse of `packed`, for numbers that have 32 bits.

    Raises ValueError for what is no base64, no whole numbers, or holds one that is not finite. JSON cannot say such a
    number, and in a store of vectors it would spoil every comparison without a word.
    """
    numbers = array("f")
    numbers.frombytes(binascii.a2b_base64(text, strict_mode=True))
    vector = _little_endian(numbers).tolist()
    if not math.isfinite(sum(vector)):  # of 32 bits each, they cannot overflow
        raise ValueError("a number in it is not finite")
    return vector


def _little_endian(numbers: array[float]) -> array[float]:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def read_texts(value: object) -> tuple[str, ...]:
    """Return the texts that a client wants vectors of: one, or a list of them. Raises InvalidRequestError."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list):
        raise InvalidRequestError("The request has no input; give it as a string or a list of strings.")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            kind = type(text).__name__
            raise InvalidRequestError(f"input[{number}] is of type {kind}; only texts are embedded, not their tokens.")
    return tuple(texts)


def read_dimensions(value: object) -> int | None:
    """Return how long a client wants the vectors to be. Raises InvalidRequestError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidRequestError("The dimensions are not valid: they must be a whole number from 1 on.")
    return value


def read_model(value: object) -> str | None:
    """Return the model that a client names. Raises InvalidRequestError."""
    if value is not None and not isinstance(value, str):
        raise InvalidRequestError("The model is not valid: it must be a string.")
    return value or None
