"""Prompts from templates of all kinds, and what is read from the model's tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from abstractllm.accumulator import join
from abstractllm.errors import InvalidParameterError, ModelLoadingError, UnsupportedFeatureError, UnsupportedModelError
from abstractllm.providers.local.tokenizer import ChatTokenizer
from abstractllm.providers.mlx.backend import import_mlx
from abstractllm.providers.mlx.tokens import load_tokenizer
from abstractllm.types import GenerateRequest, Message, ToolCall, ToolDefinition

from ..mlx.conftest import write_tokenizer

import_mlx()

USER = Message("user", "Hi")
SYSTEM = Message("system", "Be brief.")
ADD = ToolDefinition("add", "Adds two numbers.", {"type": "object", "properties": {"a": {"type": "integer"}}})
TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
ANSWER = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
ALTERNATE = (
    "{% for m in messages %}{% if m.role != ['user', 'assistant'][loop.index0 % 2] %}"
    "{{ raise_exception('must alternate') }}{% endif %}{% endfor %}"
)


@pytest.fixture
def load(tmp_path: Path):
    """Loads the shipped tokenizer with another template and more tokens, which are special or not."""

    def load(template: str | None = None, **added: bool) -> ChatTokenizer:
        folder = write_tokenizer(tmp_path / "model")
        if template is not None:
            (folder / "chat_template.jinja").write_text(template)
        file = folder / "tokenizer.json"
        content = json.loads(file.read_text())
        first = 1 + max([*content["model"]["vocab"].values(), *(token["id"] for token in content["added_tokens"])])
        for number, (text, special) in enumerate(added.items(), first):
            flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
            content["added_tokens"].append({"id": number, "content": text, "special": special, **flags})
        file.write_text(json.dumps(content))
        return load_tokenizer(folder, None)

    return load


def read(tokenizer: ChatTokenizer, text: str, prompt: str = "", **request: object):
    """Read a text as the model's answer: content, reasoning and calls."""
    reader = tokenizer.reader(GenerateRequest((USER,), **request), prompt)
    deltas = [*map(reader.add, tokenizer.encode(text)), reader.flush()]
    found = join(delta for delta in deltas if delta)
    return found.content, found.reasoning, list(found.tool_calls)


def test_the_prompt_ends_where_the_answer_begins(load):
    assert load().render([SYSTEM, USER], []) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


NINE = (
    "{% for m in messages %}{% for c in m.tool_calls or [] %}{% if c.id | length != 9 %}"
    "{{ raise_exception('ids must have length 9') }}{% endif %}{{ c.id }} {% endfor %}{{ m.tool_call_id }}{% endfor %}"
)


def test_ids_of_calls_that_a_template_refuses_are_replaced(load):
    called = [USER, Message("assistant", "", tool_calls=(ToolCall("functions.add:0", "add"),))]
    said, told = load(NINE + ANSWER).render([*called, Message("tool", "7", tool_call_id="functions.add:0")], []).split()
    assert told.removesuffix("<|im_start|>assistant") == said
    assert len(said) == 9


def test_a_model_without_template(load, tmp_path):
    folder = write_tokenizer(tmp_path / "plain")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UnsupportedModelError, match="no chat template"):
        load_tokenizer(folder, None).render([USER], [])


@pytest.mark.parametrize(
    "break_it", [Path.unlink, lambda file: file.write_text("{"), lambda file: file.write_text("{}")]
)
def test_a_broken_tokenizer(break_it, tmp_path):
    folder = write_tokenizer(tmp_path / "broken")
    break_it(folder / "tokenizer.json")
    with pytest.raises(ModelLoadingError, match="Fetch the model again"):
        load_tokenizer(folder, None)


def test_a_template_that_takes_no_system_prompt(load):
    prompt = load(NO_SYSTEM + TURNS + ANSWER).render([SYSTEM, USER], [])
    assert prompt == "<|im_start|>user\nBe brief.\n\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_that_takes_no_two_turns_of_a_role(load):
    messages = [USER, Message("user", "You there?"), Message("assistant", "Yes"), USER]
    prompt = load(ALTERNATE + TURNS + ANSWER).render(messages, [])
    assert prompt.startswith("<|im_start|>user\nHi\n\nYou there?<|im_end|>\n<|im_start|>assistant\nYes")


def test_a_template_that_takes_neither(load):
    prompt = load(NO_SYSTEM + ALTERNATE + TURNS + ANSWER).render([SYSTEM, USER, USER], [])
    assert prompt.startswith("<|im_start|>user\nBe brief.\n\nHi\n\nHi<|im_end|>")


def test_a_template_that_takes_nothing(load):
    with pytest.raises(InvalidParameterError, match="only poems") as failure:
        load("{{ raise_exception('only poems') }}").render([USER], [])
    assert failure.value.parameter == "messages"


def test_tools_reach_the_prompt(load):
    prompt = load().render([USER], [ADD])
    assert '"name":"add"' in prompt
    assert "Adds two numbers." in prompt
    assert '"a":{"type":"integer"}' in prompt


def test_tools_that_nothing_can_read(load):
    with pytest.raises(UnsupportedFeatureError, match="tool calls"):
        load(TURNS + ANSWER).render([USER], [ADD])


def test_special_tokens_in_a_prompt_are_tokens(load):
    tokenizer = load()
    assert len(tokenizer.encode("<|im_start|><|im_end|>")) == 2


def test_the_tokens_that_end_an_answer(tmp_path):
    folder = write_tokenizer(tmp_path / "model")
    own = load_tokenizer(folder, None).stop_tokens
    assert len(own) == 1
    assert load_tokenizer(folder, [0, 7]).stop_tokens == own | {0, 7}
    assert load_tokenizer(folder, 7).stop_tokens == own | {7}


@pytest.mark.parametrize("text", ["Hello, wörld 👍🏽 日本語", "  two  spaces\n\n", "<b>1 < 2</b>"])
def test_text_is_read_as_it_was_written(load, text):
    assert read(load(), text) == (text, "", [])


def test_special_tokens_are_not_shown(load):
    assert read(load(), "a<|im_start|>b")[0] == "ab"


def test_calls_are_read_when_there_are_tools(load):
    text = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
    content, _, calls = read(load(), "So: " + text, tools=(ADD,))
    assert (content, [(call.name, call.arguments) for call in calls]) == ("So: ", [("add", {"a": 1})])
    assert read(load(), text) == (text, "", [])
    assert read(load(), text, tools=(ADD,), tool_choice="none") == (text, "", [])


def test_calls_of_the_shipped_models_family_come_in_pieces(load):
    tokenizer = load()
    reader = tokenizer.reader(GenerateRequest((USER,), tools=(ADD,)), "")
    tokens = tokenizer.encode('<tool_call>{"name":"add","arguments":{"a":12345678}}</tool_call>')
    pieces = [piece for delta in map(reader.add, tokens) if delta for piece in delta.tool_call_deltas]
    assert tokenizer.tool_format == "json_tools"
    assert (pieces[0].name, pieces[0].arguments) == ("add", "")
    assert len(pieces) > 3
    assert "".join(piece.arguments for piece in pieces) == '{"a":12345678}'


def test_special_tokens_in_a_call_are_for_its_parser(load):
    tokenizer = load("[TOOL_CALLS]" + TURNS + ANSWER, **{"[TOOL_CALLS]": True, "[ARGS]": True})
    content, _, (call,) = read(tokenizer, 'Hm[ARGS][TOOL_CALLS]add[ARGS]{"a": 1}', tools=(ADD,))
    assert (content, call.name, call.arguments) == ("Hm", "add", {"a": 1})


def test_reasoning_is_read_by_its_markers(load):
    tokenizer = load(**{"<think>": False, "</think>": False})
    assert read(tokenizer, "<think>\nhm</think>\n\nYes") == ("Yes", "\nhm", [])


def test_a_prompt_may_open_the_reasoning(load):
    tokenizer = load(TURNS + ANSWER + "<think>\n", **{"<think>": True, "</think>": True})
    prompt = tokenizer.render([USER], [])
    assert read(tokenizer, "hm</think>Yes", prompt) == ("Yes", "hm", [])


def test_a_prompt_may_open_and_close_the_reasoning(load):
    tokenizer = load(TURNS + ANSWER + "<think>\n\n</think>\n\n", **{"<think>": True, "</think>": True})
    assert read(tokenizer, "Yes", tokenizer.render([USER], [])) == ("Yes", "", [])


def test_tokens_beyond_the_vocabulary_have_no_text(load):
    reader = load().reader(GenerateRequest((USER,)), "")
    assert reader.add(10**6) is None


def test_other_tokenizers_are_read_through_a_window(load, tmp_path):
    folder = write_tokenizer(tmp_path / "model")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["decoder"] = {"type": "Sequence", "decoders": [content["decoder"]]}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    tokenizer = load_tokenizer(folder, None)
    assert read(tokenizer, "a<|im_start|> don 't 👍🏽 .", tools=(ADD,))[0] == "a don 't 👍🏽 ."


SPACED = """{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}{% for call in message.tool_calls or [] %}{% set tool_call = call.function %}<tool_call>
{"name": "{{ tool_call.name }}", "arguments": {{ tool_call.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if tools %}<tools></tools>{% endif %}<|im_start|>assistant
"""


def test_calls_are_forced_in_the_way_that_the_template_writes_them(tmp_path):
    folder = write_tokenizer(tmp_path / "model")
    own = load_tokenizer(folder, None).call_syntax
    assert (own.style, own.spaced, own.lines) == ("object", False, False)
    assert isinstance(own.start, int)
    assert isinstance(own.end, int)
    (folder / "chat_template.jinja").write_text(SPACED)
    other = load_tokenizer(folder, None).call_syntax
    assert (other.start, other.spaced, other.lines) == (own.start, True, True)
