"""Streamed text against the whole text, for every kind of tokenizer."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from abstractllm import embedded
from abstractllm.text.detokenize import ByteDetokenizer, Detokenizer, WindowDetokenizer, byte_level, piece_bytes

WORDS = [
    "the",
    "weather",
    "is",
    "ing",
    "ünder",
    "日本",
    "日",
    "👍",
    "👍🏽",
    "é",
    "don",
    "'",
    "t",
    "a",
    "b",
    "1",
    ".",
    ",",
]
TEXTS = st.lists(st.sampled_from([*WORDS, " ", "  ", "\n"]) | st.text(max_size=3), max_size=15).map("".join)
REPLACEMENT = "\ufffd"


def shipped() -> Tokenizer:
    """The byte-level BPE of the model that ships."""
    return Tokenizer.from_file(str(embedded.PATH / "tokenizer.json"))


def byte_tokens() -> Tokenizer:
    """A byte-level BPE without merges, so that every byte is a token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({piece: number for number, piece in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def pieces_and_bytes() -> dict[str, int]:
    """A SentencePiece vocabulary: bytes, a few characters and words, with and without a space before them."""
    pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    pieces += ["▁", "▁▁", "▁▁▁▁", *"abcdefghijklmnopqrstuvwxyz.,'日", *(f"▁{word}" for word in WORDS), *WORDS]
    return {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}


def sentencepiece(decoder: object, normalizer: object = None, pre: object = None) -> Tokenizer:
    """A tokenizer as SentencePiece models get them, which spells what it does not know in bytes."""
    vocabulary = [(piece, -1.0 if len(piece) > 1 else -2.0) for piece in pieces_and_bytes()]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre:
        tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoder
    return tokenizer


def llama() -> Tokenizer:
    """As in Llama 2: the first space is one that the normalizer has added."""
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return sentencepiece(decoders.Sequence(steps), normalizer)


def gemma() -> Tokenizer:
    """As in Gemma: no space is added."""
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    return sentencepiece(decoders.Sequence(steps), normalizers.Replace(" ", "▁"))


def metaspace() -> Tokenizer:
    """As in T5 and its kin, with bytes for the unknown."""
    decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="always")])
    return sentencepiece(decoder, pre=pre_tokenizers.Metaspace(prepend_scheme="always"))


def wordpiece() -> Tokenizer:
    """As in BERT: words lose the spaces between them, and the decoder tidies them up."""
    letters = "abcdefghijklmnopqrstuvwxyz1.,'"
    pieces = ["[UNK]", *letters, *(f"##{letter}" for letter in letters), "the", "don", "##ing", "weather"]
    tokenizer = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


BYTES = {make.__name__: make() for make in (shipped, byte_tokens)}
WINDOWS = {make.__name__: make() for make in (llama, gemma, metaspace, wordpiece)}
ALL = {**BYTES, **WINDOWS}
SPELLING = [name for name in ALL if name != "wordpiece"]
"""Those that spell an unknown character in bytes."""


def window(tokenizer: Tokenizer) -> WindowDetokenizer:
    return WindowDetokenizer(lambda tokens: tokenizer.decode(list(tokens), skip_special_tokens=False))


def make(name: str) -> Detokenizer:
    """The detokenizer that fits."""
    tokenizer = ALL[name]
    if name in WINDOWS:
        return window(tokenizer)
    return ByteDetokenizer(lambda token: byte_level(tokenizer.id_to_token(token)))


def stream(detokenizer: Detokenizer, tokens: list[int]) -> list[str]:
    return [*map(detokenizer.add, tokens), detokenizer.flush()]


@pytest.mark.parametrize("name", ALL)
@given(text=TEXTS)
def test_the_pieces_of_any_text_join_to_the_whole(name, text):
    tokens = ALL[name].encode(text).ids
    pieces = stream(make(name), tokens)
    assert "".join(pieces) == ALL[name].decode(tokens, skip_special_tokens=False)
    if REPLACEMENT not in text:
        assert REPLACEMENT not in "".join(pieces)


@pytest.mark.parametrize("name", BYTES)
@given(text=TEXTS)
def test_the_window_suits_byte_level_tokenizers_too(name, text):
    tokens = BYTES[name].encode(text).ids
    assert "".join(stream(window(BYTES[name]), tokens)) == text


@pytest.mark.parametrize("name", BYTES)
@given(data=st.data())
def test_any_tokens_at_all_join_to_the_whole(name, data):
    tokens = data.draw(st.lists(st.integers(0, BYTES[name].get_vocab_size() - 1), max_size=30))
    assert "".join(stream(make(name), tokens)) == BYTES[name].decode(tokens, skip_special_tokens=False)


@pytest.mark.parametrize("name", WINDOWS)
@given(data=st.data())
def test_a_window_takes_any_tokens_at_all(name, data):
    tokens = data.draw(st.lists(st.integers(0, WINDOWS[name].get_vocab_size() - 1), max_size=30))
    stream(make(name), tokens)


@pytest.mark.parametrize("name", SPELLING)
@given(text=TEXTS, size=st.integers(0, 60))
def test_an_answer_cut_off_in_a_character_says_so_at_its_end_only(name, text, size):
    tokens = ALL[name].encode(text).ids
    *pieces, last = stream(make(name), tokens[:size])
    shown = "".join(pieces)
    whole = ALL[name].decode(tokens, skip_special_tokens=False)
    assert whole.startswith((shown + last).rstrip(REPLACEMENT))
    if REPLACEMENT not in text:
        assert REPLACEMENT not in shown


@pytest.mark.parametrize("name", SPELLING)
def test_a_cut_off_character_is_shown_as_one(name):
    tokens = ALL[name].encode("ok 🦆").ids
    detokenizer = make(name)
    assert "".join(map(detokenizer.add, tokens[:-1])) == "ok "
    assert detokenizer.flush().startswith(REPLACEMENT)
    assert detokenizer.flush() == ""


@pytest.mark.parametrize("name", ALL)
def test_whole_characters_come_at_once(name):
    detokenizer = make(name)
    tokens = ALL[name].encode("a b").ids
    pieces = [piece for piece in map(detokenizer.add, tokens) if piece]
    assert "".join(pieces) == "a b"
    assert detokenizer.flush() == ""


def test_a_token_without_text_changes_nothing():
    known: dict[int, bytes] = {0: b"\xe6", 1: b"", 2: b"\x97\xa5"}
    detokenizer = ByteDetokenizer(known.__getitem__)
    assert [detokenizer.add(token) for token in (0, 1, 2)] == ["", "", "日"]


def test_byte_level_pieces_are_bytes_and_others_are_text():
    assert byte_level("Ġthe") == b" the"
    assert byte_level("æĹ¥") == "日".encode()
    assert byte_level("a b日") == "a b日".encode()


def test_every_byte_has_a_stand_in():
    assert sorted(map(byte_level, pre_tokenizers.ByteLevel.alphabet())) == [bytes([byte]) for byte in range(256)]


def test_sentencepiece_pieces_have_spaces_and_bytes():
    assert piece_bytes("\u2581the\u2581") == b" the "
    assert piece_bytes("<0xE2>") == b"\xe2"
    assert piece_bytes("<0xE2>>") == b"<0xE2>>"
