"""The answers to one request, token by token: what the model's thread computes, and what the request's own reads.

One request computes alone, with caches of its own, so nobody's company changes its answer.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from functools import partial
from typing import Any

from abstractllm.aio import End
from abstractllm.errors import MemoryLimitError, UnsupportedModelError, UnsupportedOperationError
from abstractllm.providers.call import Call
from abstractllm.providers.huggingface.backend import NAME
from abstractllm.providers.huggingface.choosing import Chooser, Chosen
from abstractllm.providers.huggingface.models import LoadedModel, Turns
from abstractllm.providers.local.answer import Answer, Prepared
from abstractllm.types import GenerateResponse

CHUNK = 512
"""Tokens of a prompt that are computed in one turn."""


class Decoder:
    """A text on its way through a network: what is computed by now, and the scores of the token that comes next.

    Belongs to the model's thread.
    """

    def __init__(self, network: Any) -> None:
        self.logits: Any = None
        self._network = network
        self._cache: Any = None
        named = inspect.signature(network.forward).parameters
        self._options = {"logits_to_keep": 1} if "logits_to_keep" in named else {}

    @property
    def chunk(self) -> int | None:
        """How many tokens of a prompt to feed at a time; None for networks that take one whole or token by token.

        Those keep states instead of keys and values, and begin them anew with every longer piece.
        """
        return None if getattr(self._network, "_is_stateful", False) else CHUNK

    def feed(self, tokens: Sequence[int]) -> None:
        """Go on with these tokens. Raises UnsupportedModelError, or MemoryLimitError on a GPU that is too small."""
        import torch

        inputs = torch.tensor([list(tokens)], device=self._network.device)
        try:
            with torch.inference_mode():
                output = self._network(input_ids=inputs, past_key_values=self._cache, use_cache=True, **self._options)
        except torch.OutOfMemoryError as error:
            raise MemoryLimitError(
                "The GPU has too little memory for this prompt and answer beside what it holds. Shorten them, run fewer"
                " requests at a time, or use a smaller model.",
                provider=NAME,
            ) from error
        self._cache = getattr(output, "past_key_values", None)
        if self._cache is None:
            kind = type(self._network).__name__
            raise UnsupportedModelError(f"{kind} keeps no past_key_values; use another model.", provider=NAME)
        self.logits = output.logits[0, -1]

    def copy(self) -> Decoder:
        """Return a decoder at the same place that goes on by itself."""
        import torch

        twin = copy.copy(self)
        with torch.inference_mode():
            twin._cache = copy.deepcopy(self._cache)
        return twin


class _Outbox:
    """Keeps the deltas of answers until they are handed over."""

    def __init__(self) -> None:
        self._deltas: list[GenerateResponse] = []

    def put(self, item: GenerateResponse | End) -> None:
        """Keep a delta. An answer's end says nothing new."""
        if isinstance(item, GenerateResponse):
            self._deltas.append(item)

    def take(self) -> list[GenerateResponse]:
        """Return what has been put since the last time."""
        taken, self._deltas = self._deltas, []
        return taken


class _Row:
    """One answer: its deltas, the network's state, the choice of tokens, and the form that holds them."""

    def __init__(self, answer: Answer, decoder: Decoder, model: LoadedModel) -> None:
        self._answer = answer
        self._decoder = decoder
        self._stop_tokens = model.tokenizer.stop_tokens
        self._words = model.constraints.words
        self._chooser = Chooser(answer.sampling, answer.prompt)
        self._constraint = None if answer.constraint is None else answer.constraint.copy()

    def advance(self, turns: Turns) -> bool:
        """Bring the answer forward by one token; True when it has ended."""
        mask = self._mask()
        chosen = turns.take(lambda: self._next(mask))
        answer = self._answer
        if chosen.token in self._stop_tokens:
            answer.end("stop")
            return True
        if self._constraint is not None:
            self._constraint.accept(chosen.token)
        answer.generated.append(chosen.token)
        full = answer.token(chosen.token, chosen.scored)
        if full or len(answer.generated) >= answer.max_tokens:
            answer.end("stop" if full else "length")
            return True
        return False

    def _mask(self) -> Any:
        """Return the tokens that may come, as words of bits; None where all may."""
        if self._constraint is None:
            return None
        import numpy as np

        mask: Any = np.zeros(self._words, dtype=np.uint32)
        self._constraint.fill(mask)
        return mask

    def _next(self, mask: Any) -> Chosen:
        """Compute the scores after the newest token, and choose. Runs in the model's thread."""
        if self._answer.generated:
            self._decoder.feed(self._answer.generated[-1:])
        return self._chooser.choose(self._decoder.logits, mask)


def answer_all(model: LoadedModel, prepared: Sequence[Prepared], call: Call) -> Iterator[GenerateResponse]:
    """Yield the deltas of all answers to one request, which share their prompt. Ends early when they are not wanted."""
    outbox = _Outbox()
    turns = Turns(model, call)
    answers = [Answer(one, call, outbox) for one in prepared]
    try:
        decoders = _begin(model, answers, turns)
        rows = [_Row(answer, decoder, model) for answer, decoder in zip(answers, decoders, strict=True)]
        while rows and not call.cancelled:
            for row in list(rows):
                if row.advance(turns):
                    rows.remove(row)
                yield from outbox.take()
    except CancelledError:
        if not call.cancelled:  # it was the thread's end that took the turn away
            raise UnsupportedOperationError("The interpreter is shutting down.", provider=NAME) from None


def _begin(model: LoadedModel, answers: Sequence[Answer], turns: Turns) -> list[Decoder]:
    """Compute the prompt, and return a decoder at its end for each answer."""
    decoder = Decoder(model.network)
    prompt = answers[0].prompt
    step = decoder.chunk or len(prompt)
    for start in range(0, len(prompt), step):
        turns.take(partial(_compute, decoder, answers, start, step))
    return [decoder, *(turns.take(decoder.copy) for _ in answers[1:])]


def _compute(decoder: Decoder, answers: Sequence[Answer], start: int, step: int) -> None:
    """Compute a piece of the prompt. Runs in the model's thread."""
    prompt = answers[0].prompt
    for answer in answers:
        answer.progress(start, len(prompt))
    decoder.feed(prompt[start : start + step])
    for answer in answers:
        answer.progress(min(start + step, len(prompt)), len(prompt))
