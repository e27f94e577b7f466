"""The byte-level BPE tokenizer, built so that copying is easy, and the rendering of conversations.

A word gives the same tokens wherever it stands: the space before it, quotes and digits are tokens of their own.
JSON punctuation between values is merged into runs such as ``":"``; those never touch a word.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2.sandbox
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TAGS = ("<tool_call>", "</tool_call>", "<tools>", "</tools>", "<tool_response>", "</tool_response>")

# Short words that keep the space before them: they carry no values, and prose gets a quarter shorter.
GLUE = "the of in to is and for with on you what it my are as at from by can your do that not de para que com um uma em"

PIECES = "|".join(
    [
        " (?:" + "|".join(GLUE.split()) + r")(?![\p{L}\p{N}_])",
        r'"?[{}\[\]",:]*":?[\[{]*"?',  # JSON punctuation around names and texts
        r"[{}\[\],:]+",
        r"\p{Lu}?[\p{Ll}\p{M}]+",
        r"\p{Lu}",
        r"[\p{Lo}\p{Lm}\p{Lt}\p{M}]+",
        r"\p{N}",
        r"\s",
        r".",
    ]
)


def new_tokenizer() -> Tokenizer:
    """An untrained tokenizer: any text round-trips exactly, nothing is normalised."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn merges from ``texts``; special tokens come first, so their ids are fixed."""
    tokenizer = new_tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[*SPECIAL, *TAGS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=16,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    restored = json.loads(tokenizer.to_str())
    for token in restored["added_tokens"]:
        token["special"] = token["content"] in SPECIAL
    return Tokenizer.from_str(json.dumps(restored))


def forget_rare(tokenizer: Tokenizer, texts: Iterable[str], least: int) -> Tokenizer:
    """Drop the merges of tokens that occur fewer than ``least`` times in ``texts``.

    Their words are then spelled in smaller pieces that training does see; all ids stay as they are.
    """
    counts: Counter[int] = Counter()
    for text in texts:
        counts.update(tokenizer.encode(text).ids)
    content = json.loads(tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    merges = [tuple(merge) for merge in content["model"]["merges"]]
    needed = {token for token, number in vocabulary.items() if counts[number] >= least}
    for left, right in reversed(merges):
        if left + right in needed:
            needed.update((left, right))
    content["model"]["merges"] = [list(merge) for merge in merges if merge[0] + merge[1] in needed]
    return Tokenizer.from_str(json.dumps(content))


def word_pieces(tokenizer: Tokenizer) -> list[str]:
    """The lower-case tokens of letters that the merges can reach."""
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    texts = {tokenizer.decode([tokenizer.token_to_id("".join(merge))]) for merge in merges}
    return sorted(text for text in texts if text.isalpha() and text.islower())


def tokenizer_config(context: int) -> dict[str, Any]:
    """The ``tokenizer_config.json`` beside ``tokenizer.json``."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "add_bos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
    }


def compact(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    """``value`` as JSON without white space, as the chat template writes it."""
    return json.dumps(value, ensure_ascii=ensure_ascii, separators=(",", ":"))


@cache
def chat_template(path: Path) -> jinja2.Template:
    """The compiled template; transformers' settings, so both render the same text."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = compact
    return environment.from_string(path.read_text(encoding="utf-8"))


def assistant_mask(tokens: Sequence[int], tokenizer: Tokenizer) -> list[bool]:
    """True for every token that the assistant writes, its end mark included."""
    start, end = tokenizer.token_to_id("<|im_start|>"), tokenizer.token_to_id("<|im_end|>")
    header = [start, *tokenizer.encode("assistant\n").ids]
    mask, inside = [False] * len(tokens), False
    for i, token in enumerate(tokens):
        mask[i] = inside
        if token == end:
            inside = False
        elif not inside and list(tokens[i + 1 - len(header) : i + 1]) == header:
            inside = True
    return mask
