"""Learn the vocabulary from generated conversations: ``python build_tokenizer.py --out tokenizer.json``.

Only for a new model: weights belong to the tokenizer they were trained with.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from random import Random

import data.words
from data.mixture import MILLION, sample
from data.words import Words
from tokenizer import chat_template, forget_rare, train_tokenizer

SHIPPED = Path(__file__).parents[2] / "abstractllm" / "embedded"


def conversations(count: int, template: Path, seed: str) -> Iterator[str]:
    """Rendered conversations of the last stage of training."""
    words, render = Words(Random(seed)), chat_template(template).render
    for _ in range(count):
        talk = sample(words, 20 * MILLION)
        yield render(messages=talk.messages, tools=talk.tools)


def word_lists() -> str:
    """All words of the lists, so that common ones become tokens."""
    lists = [value for name, value in vars(data.words).items() if name.isupper() and isinstance(value, tuple)]
    return " ".join(word for words in lists for word in words if isinstance(word, str) and name_like(word))


def name_like(word: str) -> bool:
    """Whether an entry is a word and not an alphabet."""
    return len(word) < 20


def main() -> None:
    """Train, drop what is too rare to be learnt, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--template", type=Path, default=SHIPPED / "chat_template.jinja")
    parser.add_argument("--vocabulary", type=int, default=2048)
    options = parser.parse_args()
    texts = [*conversations(6000, options.template, "learn"), *[word_lists()] * 15]
    tokenizer = train_tokenizer(texts, options.vocabulary)
    forget_rare(tokenizer, conversations(9000, options.template, "count"), least=12).save(str(options.out))


if __name__ == "__main__":
    main()
