"""Decodes one row with the help of a draft model: it proposes tokens, and one forward pass of the model checks them.

The model's own token is chosen at every position, from the model's own scores, with the row's random numbers for that
position; a proposal only spares a pass where it is the same. So the tokens are those that come without a draft model,
whatever the settings of the row, and sampled ones are exactly distributed (other methods accept proposals by chance:
Leviathan et al. 2023; shared random numbers: Daliri et al. 2024). Knows no text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from abstractllm.engine.rows import Row, Step, length
from abstractllm.providers.local.sampling import Sampling
from abstractllm.providers.mlx.adjusting import Masks
from abstractllm.providers.mlx.caches import RowCaches
from abstractllm.providers.mlx.choosing import BatchSampler, Chosen
from abstractllm.providers.mlx.decode import CLEAR_EVERY, Sampled, is_nan, not_a_number, start
from abstractllm.providers.mlx.masking import Masking
from abstractllm.providers.mlx.paired import PairedModel


class Proposed(Sampled, Protocol):
    """What this module needs of a request. It counts the tokens that were proposed, and those delivered of them."""

    proposed: int
    accepted: int


R = TypeVar("R", bound=Proposed)


@dataclass(frozen=True, slots=True)
class _Place:
    """One position of an answer, as a row of its own for the sampler: `generated` are the tokens before it."""

    sampling: Sampling
    prompt: list[int]
    generated: list[int]


class _Path:
    """What may come at the positions of a round, if each proposal before it is taken."""

    def __init__(self, masking: Masking, vocabulary: int) -> None:
        self.errors: dict[int, Exception] = {}  # by the number of the position
        self._masking = masking.copy() if masking.needed else None
        self._vocabulary = vocabulary
        self._bits: list[Any] = []

    def next(self, proposals: list[Any]) -> Masks | None:
        """Return the mask of the position after these proposals; waits for the last of them."""
        import mlx.core as mx

        if self._masking is None:
            return None
        last = proposals[-1].tolist() if proposals else []
        masks, errors = self._masking.begin(last, self._vocabulary).result()
        if errors:
            self.errors[len(self._bits)] = errors[0]
        self._bits.append(masks.bits)
        return Masks([0], mx.array(masks.bits))

    def all(self, proposals: list[Any]) -> Masks | None:
        """Return the masks of all positions up to the one after these proposals."""
        import mlx.core as mx

        if self._masking is None:
            return None
        if len(self._bits) == len(proposals):
            self.next(proposals)
        return Masks(range(len(self._bits)), mx.concatenate([mx.array(bits) for bits in self._bits]))


class SpeculativeBatch(Generic[R]):
    """A batch of at most one row, of a model paired with a draft model.

    A round computes one token or more; each `step` hands over one of them, so that a row can end or be dropped between
    any two. All of them but the last are proposals that were taken.
    """

    def __init__(self, model: PairedModel) -> None:
        self._model = model
        self._rounds = 0
        self._clear()

    def _clear(self) -> None:
        self.rows: list[R] = []
        self._caches: RowCaches | None = None
        self._held = 0  # tokens in the caches of the target
        self._drafted = 0  # and of the draft: never more
        self._sampling = Sampling()
        self._masking = Masking()
        self._ready: deque[Step[R]] = deque()
        self._spoilt = False

    def join(self, rows: list[R], caches: RowCaches) -> None:
        """Take in a row whose prompt is computed, all but the last token."""
        assert not self.rows
        assert len(rows) == 1
        self.rows = list(rows)
        self._caches = caches
        self._held = self._drafted = length(rows[0]) - 1
        self._sampling = _seeded(rows[0].sampling)
        self._masking.join(rows)

    def step(self) -> list[Step[R]]:
        """Return the next token of the row."""
        if not self._ready:
            self._ready.extend(self._round(self.rows[0]))
        step = self._ready.popleft()
        step.row.accepted += bool(self._ready)
        return [step]

    def _round(self, row: R) -> list[Step[R]]:
        """Return the tokens that come next: all from one pass of the target."""
        import mlx.core as mx

        path = _Path(self._masking, self._model.vocabulary)
        known = length(row)
        proposals = self._propose(row, path)
        inputs = mx.concatenate([_last(row, 1), *proposals])
        assert self._caches is not None
        logits = self._model.target(inputs[None], self._caches.layers)[0]
        start(logits, *proposals)
        masks = path.all(proposals)  # while the pass runs
        proposed: list[int] = [one.item() for one in proposals]
        chosen = self._choose(row, logits, proposed, masks)
        tokens: list[int] = chosen.tokens.tolist()
        taken = _in_common(tokens, proposed)
        row.proposed += len(proposals)
        self._held = known + len(proposals)
        self._drafted = known - 1 + len(proposals) if proposals else self._drafted
        self._give_back(known + taken)
        self._tidy()
        return self._steps(row, tokens[: taken + 1], chosen, logits, path)

    def _propose(self, row: R, path: _Path) -> list[Any]:
        """Return the tokens, (1,) each, that the draft chooses as the target would choose from its scores."""
        assert self._caches is not None
        most = min(self._model.most, row.max_tokens - len(row.generated) - 1)
        sampler = BatchSampler()
        sampler.join([_Place(replace(self._sampling, logprobs=None), row.prompt, row.generated)])
        inputs = _last(row, length(row) - self._drafted)
        proposals: list[Any] = []
        while len(proposals) < most:
            masks = path.next(proposals)
            if path.errors:
                break
            scores = self._model.draft(inputs[None], self._caches.layers)
            inputs = sampler.choose(scores, masks).tokens
            proposals.append(inputs)
        return proposals

    def _choose(self, row: R, logits: Any, proposed: list[int], masks: Masks | None) -> Chosen:
        """Return the target's tokens at all positions, each chosen as if the proposals before it were the answer."""
        said = [*row.generated, *proposed]
        first = len(row.generated)
        places = [_Place(self._sampling, row.prompt, said[:end]) for end in range(first, len(said) + 1)]
        sampler = BatchSampler()
        sampler.join(places)
        chosen = sampler.choose(logits, masks)
        start(*chosen.arrays)
        return chosen

    def _steps(self, row: R, tokens: list[int], chosen: Chosen, logits: Any, path: _Path) -> list[Step[R]]:
        """Return what to hand over, up to the first position at which something went wrong."""
        steps = []
        for place, token in enumerate(tokens):
            error = path.errors.get(place)
            if token == 0 and is_nan(logits, place):
                error = not_a_number()
                self._spoilt = True
            steps.append(Step(row, token, chosen.scored(place), error))
            if error is not None:
                break
            self._masking.advance(0, token)
        return steps

    def _give_back(self, kept: int) -> None:
        """Take all but so many tokens out of the caches."""
        assert self._caches is not None
        target, draft = self._held - kept, max(0, self._drafted - kept)
        self._model.cut(self._caches.layers, target, draft)
        self._held -= target
        self._drafted -= draft

    def _tidy(self) -> None:
        import mlx.core as mx

        self._rounds += 1
        if self._rounds % CLEAR_EVERY == 0:
            mx.clear_cache()

    def extract(self, row: R) -> tuple[list[Any], int] | None:
        """Return the plain caches of a row, and how many tokens they hold; None where it has none that are sound."""
        if self._spoilt or self._caches is None or all(one is not row for one in self.rows):
            return None
        layers = self._caches.extract(0)
        self._model.cut(layers, self._held - self._drafted, 0)
        return layers, self._drafted

    def drop(self, unwanted: Iterable[R]) -> None:
        """Forget the row and its caches, if it is among these."""
        if self.rows and any(one is self.rows[0] for one in unwanted):
            self._clear()


def _seeded(sampling: Sampling) -> Sampling:
    """Return settings in which draws have a seed: a draft that draws with the same random numbers is more often right.

    Where a row names none, it comes from MLX's own random state.
    """
    import mlx.core as mx

    if sampling.seed is not None or sampling.temperature <= 0:
        return sampling
    halves: Any = mx.random.randint(0, 2**31 - 1, (2,)).tolist()
    return replace(sampling, seed=(halves[0] << 31) | halves[1])


def _last(row: Row, count: int) -> Any:
    """Return the last tokens of a row, (count,)."""
    import mlx.core as mx

    tokens = [*row.prompt[-count:], *row.generated[-count:]][-count:]
    return mx.array(tokens, dtype=mx.uint32)


def _in_common(tokens: list[int], proposals: list[int]) -> int:
    """Return how many proposals are what the target chose."""
    return next((i for i, one in enumerate(proposals) if one != tokens[i]), len(proposals))
