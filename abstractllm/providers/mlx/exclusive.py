"""The settings that make a provider's requests run one after another: a draft model, quantised KV caches.

Plain data and its checks; no MLX. What they do is in `paired`, `speculative` and `quantised`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from abstractllm.errors import InvalidParameterError, shown

DRAFT_TOKENS = 3
"""Tokens that a draft model proposes at a time where nothing else is said."""

MOST_DRAFT_TOKENS = 32

KV_BITS = (4, 8)

KV_GROUP_SIZES = (32, 64, 128)
"""How many numbers may share a scale: what MLX's `quantize` knows."""


@dataclass(frozen=True, slots=True)
class Exclusive:
    """What a provider wants of its models beyond a batch; nothing where all is left out.

    `draft_model` is a folder or repository id, `draft_tokens` how many tokens it proposes at a time. `kv_bits` is 4 or
    8, None for caches in the model's own number format; `kv_group_size` None leaves the choice to `quantised`.
    """

    draft_model: str | None = None
    draft_tokens: int = DRAFT_TOKENS
    kv_bits: int | None = None
    kv_group_size: int | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Exclusive:
        """Return what a provider's configuration asks for. Raises InvalidParameterError.

        A setting that only says more about another one is refused without that one.
        """
        model, tokens = config.get("draft_model"), config.get("draft_tokens")
        bits, size = config.get("kv_bits"), config.get("kv_group_size")
        _check_partner("draft_tokens", tokens, "draft_model", model)
        _check_partner("kv_group_size", size, "kv_bits", bits)
        return cls(
            None if model is None else _checked_model(model),
            DRAFT_TOKENS if tokens is None else _checked_count(tokens),
            None if bits is None else _one_of("kv_bits", bits, KV_BITS),
            None if size is None else _one_of("kv_group_size", size, KV_GROUP_SIZES),
        )


def _check_partner(name: str, value: object, partner: str, other: object) -> None:
    if value is not None and other is None:
        raise InvalidParameterError(name, f"{name}={shown(value)} means nothing without {partner}; set that too.")


def _checked_model(model: object) -> str:
    name = os.fspath(model) if isinstance(model, os.PathLike) else model
    if not isinstance(name, str) or not name:
        raise InvalidParameterError(
            "draft_model", f"draft_model={shown(model)} is not valid: it must be a folder or a repository id."
        )
    return name


def _checked_count(count: object) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_DRAFT_TOKENS:
        raise InvalidParameterError(
            "draft_tokens",
            f"draft_tokens={shown(count)} is not valid: it must be a number from 1 to {MOST_DRAFT_TOKENS}.",
        )
    return count


def _one_of(name: str, value: object, allowed: Sequence[int]) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
        listed = ", ".join(map(str, allowed))
        raise InvalidParameterError(name, f"{name}={shown(value)} is not valid: use one of {listed}.")
    return value
