"""Constrained output: an `OutputFormat` -> which tokens may come next.

Follows an answer token by token; llguidance does so within the grammar. Knows tokens and masks, no model, no batch.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Protocol

from abstractllm.errors import GenerationError, InvalidParameterError
from abstractllm.providers.local.grammar import Kind, engine_grammar, first_line, refusal
from abstractllm.providers.local.vocabulary import Gate, Vocabulary, begun_part, goes_on, is_blank
from abstractllm.schema import OutputFormat

_KEPT = 128
"""Compiled grammars that one model keeps."""

_Key = tuple[Kind, str, bool]


class Tokenizer(Protocol):
    """What is needed of `ChatTokenizer`."""

    @property
    def wrapper(self) -> Any:
        """mlx-lm's tokenizer, or one that answers as it does."""

    @property
    def stop_tokens(self) -> set[int]:
        """Ids of the tokens that end an answer."""


class ConstraintCompiler:
    """Makes constraints for one model. Safe to use from any thread; keep it off the thread that computes.

    `width` is how many logits the model has for a token, which may be more than its tokenizer has tokens.
    """

    def __init__(self, tokenizer: Tokenizer, width: int) -> None:
        self._tokenizer = tokenizer
        self._width = width
        self._vocabulary: Vocabulary | None = None
        self._lock = threading.Lock()
        self._compiled: OrderedDict[_Key, _Compiled] = OrderedDict()

    @property
    def words(self) -> int:
        """Words in a row of the mask: `width` / 32, rounded up."""
        return -(-self._width // 32)

    def compile(self, output: OutputFormat | str, gate: Gate | None = None) -> Constraint:
        """Return the constraint of one answer, at its beginning. The second time a format comes, that is cheap.

        A text is a grammar in Lark's syntax that this package has written: it may use special tokens. With a `gate`
        free text may come first. Raises UnsupportedFeatureError, which names the keyword, for a JSON Schema that
        cannot be enforced, and InvalidParameterError for a bad regex or grammar or one that nothing fits.
        """
        key: _Key = ("tools", output, False) if isinstance(output, str) else (output.kind, output.text, output.typed)
        with self._lock:
            vocabulary = self._vocabulary = self._vocabulary or self._make_vocabulary()
            found = self._compiled.get(key)
        if gate is not None:
            vocabulary.prepare(gate)
        if found is None:
            found = _Compiled(vocabulary, engine_grammar(output), key[0])
        with self._lock:
            self._compiled[key] = found
            self._compiled.move_to_end(key)
            if len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
        return Constraint(found, gate)

    def _make_vocabulary(self) -> Vocabulary:
        return Vocabulary(self._tokenizer.wrapper, self._tokenizer.stop_tokens, self._width)


class _Compiled:
    """A grammar that is ready, and never moves on: constraints take copies of its beginning."""

    def __init__(self, vocabulary: Vocabulary, grammar: str, kind: Kind) -> None:
        from llguidance import LLMatcher

        self.vocabulary = vocabulary
        self._lock = threading.Lock()
        self._beginning = LLMatcher(vocabulary.engine, grammar, log_level=0)
        if self._beginning.is_error():
            raise refusal(kind, self._beginning.get_error())
        trial = self.begin()
        trial.compute_bitmask()
        if trial.is_error():
            raise InvalidParameterError("response_format", f"No text fits: {first_line(trial.get_error())}")

    def begin(self) -> Any:
        """Return a matcher at the beginning."""
        with self._lock:
            return self._beginning.deep_copy()


class Constraint:
    """What one answer may be, from where it stands. Not for use by two threads at once; copies are independent.

    Before the grammar there may be a gate: `_begun` is what of the marker that ends it has been written, and None when
    nothing is awaited. While `_opening`, what of the marker that begins it, is not None, the gate may still open.
    """

    __slots__ = ("_begun", "_compiled", "_ended", "_gate", "_matcher", "_may_be_blank", "_opening", "_vocabulary")

    def __init__(self, compiled: _Compiled, gate: Gate | None = None) -> None:
        self._compiled = compiled
        self._vocabulary = compiled.vocabulary
        self._gate = gate
        self._reset()

    def _reset(self) -> None:
        gate = self._gate
        self._matcher: Any = self._compiled.begin()
        self._begun: bytes | None = b"" if gate is not None and not gate.start else None
        self._opening: bytes | None = b"" if gate is not None and gate.start else None
        self._may_be_blank = False
        self._ended = False

    @property
    def finished(self) -> bool:
        """Whether nothing but the end may come."""
        return self._ended or (self.complete and self._matcher.is_stopped())

    @property
    def complete(self) -> bool:
        """Whether what has come is whole, so that it may end here."""
        return self._begun is None and self._matcher is not None and bool(self._matcher.is_accepting())

    def copy(self) -> Constraint:
        """Return a constraint at the same place that moves on by itself."""
        twin = object.__new__(Constraint)
        for name in self.__slots__:
            setattr(twin, name, getattr(self, name))
        twin._matcher = None if self._matcher is None else self._matcher.deep_copy()
        return twin

    def replay(self, tokens: Iterable[int]) -> None:
        """Go back to the beginning, and accept these tokens."""
        self._reset()
        for token in tokens:
            self.accept(token)

    def fill(self, mask: Any) -> None:
        """Write the tokens that may come next into a row of words, int32 or uint32, at least `words` long.

        Stop tokens are among them where the text may end, and they alone once it has. Words beyond are set to zero.
        Raises GenerationError when the grammar is too hard to follow.
        """
        row = mask.view("uint32")
        vocabulary = self._vocabulary
        row[vocabulary.words :] = 0
        row = row[: vocabulary.words]
        if self._ended:
            row[:] = vocabulary.stops
        elif self._begun is not None:
            row[:] = vocabulary.free & ~vocabulary.completions(self._end, self._begun)
        else:
            self._fill_with_grammar(row)
            if self._opening is not None:
                row |= vocabulary.openings(self._start[len(self._opening) :])
            if self._may_be_blank:
                row |= vocabulary.blanks

    def _fill_with_grammar(self, row: Any) -> None:
        if self._matcher is None:
            row[:] = 0
            return
        if self._vocabulary.fits and row.flags.c_contiguous:
            self._matcher.unsafe_compute_mask_ptr(row.ctypes.data, row.nbytes)
        else:
            row[:] = _words(self._matcher.compute_bitmask())[: len(row)] & self._vocabulary.known
        if self._matcher.is_error():
            raise _broken(f"the grammar is too hard to follow: {first_line(self._matcher.get_error())}")
        if self._vocabulary.has_plain_stops and not self._matcher.is_accepting():
            row &= ~self._vocabulary.stops

    @property
    def _end(self) -> bytes:
        assert self._gate is not None
        return self._gate.end.encode()

    @property
    def _start(self) -> bytes:
        assert self._gate is not None
        return self._gate.start.encode()

    def accept(self, token: int) -> None:
        """Move on by one token. Raises GenerationError for one that does not fit, and stays where it is.

        All that `fill` allows fit. Where the grammar leaves no choice, it allows only the way in which the tokenizer
        writes what has to come, and others fit too.
        """
        if token in self._vocabulary.stop_tokens:
            if not (self._ended or self.complete):
                raise _refused(token)
            self._ended = True
        elif self._ended:
            raise _refused(token)
        elif self._begun is not None:
            self._accept_free(self._vocabulary.bytes_of(token), token)
        elif self._opening is not None:
            self._accept_opening(token, self._opening)
        else:
            self._accept_constrained(token)

    def _accept_free(self, text: bytes, token: int) -> None:
        """Move on in free text, and see whether it ends."""
        assert self._begun is not None
        written = self._begun + text
        _, marker, rest = written.partition(self._end)
        if not marker:
            self._begun = begun_part(self._end, written)
        elif rest and not is_blank(rest):
            raise _refused(token)
        else:
            self._begun = None
            self._may_be_blank = not rest

    def _accept_opening(self, token: int, opening: bytes) -> None:
        """Move on where the gate may open: in its marker, in the grammar, or in both as long as both are possible."""
        text = self._vocabulary.bytes_of(token)
        rest = self._start[len(opening) :]
        opens = goes_on(rest, text)
        fits = self._matcher is not None and self._matcher.try_consume_tokens([token]) == 1
        if not (opens or fits):
            raise _refused(token)
        self._opening = opening + text if opens else None
        if not fits:
            self._matcher = None
        if opens and text.startswith(rest):
            self._opening, self._begun, self._matcher = None, b"", self._compiled.begin()
            self._accept_free(text[len(rest) :], token)

    def _accept_constrained(self, token: int) -> None:
        """Move on in the grammar; after the gate one blank token may come first, which models are used to write."""
        fits = self._matcher.try_consume_tokens([token]) == 1
        if not fits and not (self._may_be_blank and is_blank(self._vocabulary.bytes_of(token))):
            raise _refused(token)
        self._may_be_blank = False


def _words(mask: bytes) -> Any:
    import numpy as np

    return np.frombuffer(mask + bytes(-len(mask) % 4), dtype="<u4")


def _refused(token: int) -> GenerationError:
    return _broken(f"the constraint does not allow the token {token} here")


def _broken(reason: str) -> GenerationError:
    return GenerationError(f"The answer cannot be constrained: {reason}.", provider="mlx")
