"""Decodes rows together: one forward pass and one token for each row per step. Knows no text.

How tokens are chosen from the logits is the business of `choosing`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar

from abstractllm.engine.rows import Row, Step, length
from abstractllm.errors import GenerationError
from abstractllm.providers.local.sampling import Sampling
from abstractllm.providers.mlx.adjusting import Masks
from abstractllm.providers.mlx.caches import RowCaches
from abstractllm.providers.mlx.choosing import BatchSampler, Chosen
from abstractllm.providers.mlx.masking import ConstrainedRow, Masking

EVALUATE_EVERY = 64
"""Steps between evaluations of the caches: what a step does not need would pile up (mlx-lm issue 1845)."""

CLEAR_EVERY = 512
"""Steps between which MLX's pool of free buffers is emptied."""


class Sampled(Row, ConstrainedRow, Protocol):
    """What this module needs of a request."""

    sampling: Sampling


R = TypeVar("R", bound=Sampled)


class DecodeBatch(Generic[R]):
    """Rows of one model. A step is launched before the tokens of the one before are read, so a GPU never waits."""

    def __init__(self, model: Any) -> None:
        self.rows: list[R] = []
        self._model = model
        self._caches: RowCaches | None = None
        self._inputs: Any = None  # (rows,): what the next forward pass takes
        self._unread = 0  # of how many rows, the first ones, the input is a new token; of the others it ends the prompt
        self._remaining: list[int] = []
        self._held: list[int] = []  # tokens in the caches of each row
        self._sampler = BatchSampler()
        self._chosen: Chosen | None = None  # of the first `_unread` rows
        self._masking = Masking()
        self._errors: dict[int, Exception] = {}  # of the first `_unread` rows, by their numbers
        self._scores: Any = None  # of the last pass, and the place in them of each of the first `_unread` rows
        self._places: list[int] = []
        self._spoilt: set[int] = set()  # rows, by `id`, whose caches must not be kept
        self._steps = 0

    def join(self, rows: list[R], caches: RowCaches) -> None:
        """Take in rows whose prompts are computed, all but the last token."""
        import mlx.core as mx

        self.rows += rows  # first of all, so that a failure below finds them here
        inputs = mx.array([(row.generated or row.prompt)[-1] for row in rows], dtype=mx.uint32)
        if self._caches is None:
            self._caches, self._inputs = caches, inputs
        else:
            self._caches.extend(caches)
            self._inputs = mx.concatenate([self._inputs, inputs])
            start(self._inputs)
        self._remaining += [row.max_tokens - len(row.generated) for row in rows]
        self._held += [length(row) - 1 for row in rows]
        self._sampler.join(rows)
        self._masking.join(rows)

    def step(self) -> list[Step[R]]:
        """Return the next token of each row that has one."""
        inputs, unread, chosen, errors = self._inputs, self._unread, self._chosen, self._errors
        scores, places = self._scores, self._places
        if unread < len(self.rows) or any(left > 1 for left in self._remaining):
            self._launch()
        tokens: list[int] = inputs.tolist()
        self._remaining[:unread] = [left - 1 for left in self._remaining[:unread]]
        if chosen is None:
            return []
        for i, token in enumerate(tokens[:unread]):
            if token == 0 and is_nan(scores, places[i]):
                errors[i] = not_a_number()
                self._spoilt.add(id(self.rows[i]))
        fresh = zip(self.rows[:unread], tokens, strict=False)
        return [Step(row, token, chosen.scored(i), errors.get(i)) for i, (row, token) in enumerate(fresh)]

    def _launch(self) -> None:
        """Start to compute the token that follows the input of each row."""
        import mlx.core as mx

        assert self._caches is not None
        logits = self._model(self._inputs[:, None], cache=self._caches.layers)[:, -1, :]
        self._chosen = self._sampler.choose(logits, self._masks(logits))
        self._scores, self._places = logits, list(range(len(self.rows)))
        self._inputs = self._chosen.tokens
        self._unread = len(self.rows)
        self._held = [held + 1 for held in self._held]
        start(*self._chosen.arrays)
        self._steps += 1
        if self._steps % EVALUATE_EVERY == 0:
            self._caches.evaluate()
        if self._steps % CLEAR_EVERY == 0:
            mx.clear_cache()

    def _masks(self, logits: Any) -> Masks | None:
        """Return what the constrained rows may have; filled while the forward pass runs."""
        import mlx.core as mx

        self._errors = {}
        if not self._masking.needed:
            return None
        tokens: list[int] = self._inputs.tolist()
        filling = self._masking.begin(tokens[: self._unread], logits.shape[-1])
        start(logits)
        masks, self._errors = filling.result()
        return Masks(masks.rows, mx.array(masks.bits))

    def extract(self, row: R) -> tuple[list[Any], int] | None:
        """Return the plain caches of a row, and how many tokens they hold; None where it has none that are sound."""
        if id(row) in self._spoilt:
            return None
        place = next((i for i, one in enumerate(self.rows) if one is row), None)
        if place is None or self._caches is None:
            return None
        return self._caches.extract(place), self._held[place]

    def drop(self, unwanted: Iterable[R]) -> None:
        """Forget rows, and free their places in the caches."""
        import mlx.core as mx

        left_out = {id(row) for row in unwanted}
        kept = [i for i, row in enumerate(self.rows) if id(row) not in left_out]
        if len(kept) == len(self.rows):
            return
        self._unread = sum(i < self._unread for i in kept)
        self.rows = [self.rows[i] for i in kept]
        self._remaining = [self._remaining[i] for i in kept]
        self._held = [self._held[i] for i in kept]
        self._spoilt -= left_out
        self._sampler.keep(kept)
        self._masking.keep(kept)
        self._errors = {new: self._errors[old] for new, old in enumerate(kept) if old in self._errors}
        if not kept or self._caches is None:
            self._caches = self._inputs = self._chosen = None
            return
        if self._chosen is not None:
            self._chosen = self._chosen.renumbered(kept)
        self._places = [self._places[i] for i in kept if i < len(self._places)]
        self._caches.keep(kept)
        self._inputs = self._inputs[mx.array(kept)]
        start(self._inputs)


def is_nan(scores: Any, row: int) -> bool:
    """Whether a row of scores has no numbers. The token with the highest of such is 0, so only then it is looked at."""
    found: float = scores[row, 0].item()
    return found != found


def not_a_number() -> GenerationError:
    return GenerationError("The model's scores are not numbers (NaN): its weights are damaged, or it overflowed.")


def start(*arrays: Any) -> None:
    """Have arrays computed while Python goes on. New inputs are: else they could be read only after the next pass."""
    import mlx.core as mx

    compute: Callable[..., None] = mx.async_eval
    compute(*arrays)
