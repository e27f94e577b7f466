"""The number formats in which a user may ask for weights."""

from __future__ import annotations

from abstractllm.errors import InvalidParameterError

DTYPES = ("auto", "float32", "float16", "bfloat16")


def check_dtype(dtype: object) -> str:
    """Return the `dtype` setting. Raises InvalidParameterError."""
    if dtype not in DTYPES:
        raise InvalidParameterError("dtype", f"dtype={dtype!r} is not valid: use one of {', '.join(DTYPES)}.")
    return str(dtype)
