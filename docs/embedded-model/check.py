"""Prove that training saw what users will send: ``python check.py``.

The template renders the same through transformers, texts survive the tokenizer, and mlx-lm parses our calls.
"""

from pathlib import Path
from random import Random

from data.mixture import MILLION, sample
from data.words import Words
from mlx_lm.tokenizer_utils import load
from tokenizer import chat_template
from tokenizers import Tokenizer

SHIPPED = Path(__file__).parents[2] / "abstractllm" / "embedded"


def main() -> None:
    """Compare 500 conversations; raises AssertionError at the first difference."""
    wrapped, ours = load(SHIPPED), Tokenizer.from_file(str(SHIPPED / "tokenizer.json"))
    template = chat_template(SHIPPED / "chat_template.jinja")
    words, calls = Words(Random(0)), 0
    for _ in range(500):
        talk = sample(words, 20 * MILLION)
        text = wrapped.apply_chat_template(talk.messages, tools=talk.tools or None, tokenize=False)
        assert text == template.render(messages=talk.messages, tools=talk.tools)
        tokens = ours.encode(text).ids
        assert tokens == wrapped.encode(text)
        assert ours.decode(tokens, skip_special_tokens=False) == text
        for message in talk.messages:
            for call in message.get("tool_calls", ()):
                rendered = wrapped.apply_chat_template([{"role": "assistant", "tool_calls": [call]}], tokenize=False)
                inside = rendered.partition("<tool_call>")[2].partition("</tool_call>")[0]
                assert wrapped.tool_parser(inside) == call["function"]
                calls += 1
    assert wrapped.has_tool_calling
    print(f"500 conversations and {calls} calls are the same everywhere")


if __name__ == "__main__":
    main()
