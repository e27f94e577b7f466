"""The log-probabilities of chosen tokens under the raw model, before anything changes its scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from abstractllm.providers.local.logprobs import ScoredToken
from abstractllm.providers.mlx.drawing import ranked


@dataclass(frozen=True, slots=True)
class Scored:
    """Chosen tokens and their log-probabilities, for some rows: arrays that need not be computed yet.

    `tokens` and `logprobs` are (rows,), `top_tokens` and `top_logprobs` (rows, most alternatives that any row wants)
    or None; `wanted` is how many alternatives each row wants.
    """

    wanted: tuple[int, ...]
    tokens: Any
    logprobs: Any
    top_tokens: Any = None
    top_logprobs: Any = None

    @property
    def arrays(self) -> list[Any]:
        """What has to be computed before `read`."""
        return [array for array in (self.logprobs, self.top_tokens, self.top_logprobs) if array is not None]

    def read(self) -> list[ScoredToken]:
        """Return plain data, one per row; waits for the arrays."""
        chosen = zip(self.tokens.tolist(), self.logprobs.tolist(), self.wanted, strict=True)
        if self.top_tokens is None:
            return [ScoredToken(token, logprob) for token, logprob, _ in chosen]
        tops = zip(self.top_tokens.tolist(), self.top_logprobs.tolist(), strict=True)
        return [
            ScoredToken(token, logprob, tuple(zip(ids[:count], values[:count], strict=True)))
            for (token, logprob, count), (ids, values) in zip(chosen, tops, strict=True)
        ]


def scored(logits: Any, tokens: Any, wanted: Sequence[int]) -> Scored:
    """Return the log-probabilities of `tokens`, (rows,), and of as many of the likeliest as each row wants.

    `logits`, (rows, vocabulary), are those of the model.
    """
    import mlx.core as mx

    logits = logits.astype(mx.float32)
    total = mx.logsumexp(logits, axis=-1, keepdims=True)
    chosen = (mx.take_along_axis(logits, tokens[:, None], axis=-1) - total).squeeze(-1)
    most = min(max(wanted), logits.shape[-1])
    if not most:
        return Scored(tuple(wanted), tokens, chosen)
    top, _ = ranked(mx.max(logits, axis=-1, keepdims=True) - logits, most)
    return Scored(tuple(wanted), tokens, chosen, top, mx.take_along_axis(logits, top, axis=-1) - total)
