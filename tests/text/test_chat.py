"""The shapes in which templates get conversations."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given, strategies as st

from abstractllm.text.chat import merged_turns, template_messages, template_tools, without_system
from abstractllm.types import Message, TextPart, ToolCall, ToolDefinition

CONVERSATIONS = st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant", "tool"]), st.text("ab\n")))


def test_a_turn_is_a_role_and_its_text():
    assert template_messages([Message("user", "Hi")]) == [{"role": "user", "content": "Hi"}]


def test_parts_become_one_text():
    message = Message("user", (TextPart("one"), TextPart("two", "b.txt")))
    assert template_messages([message]) == [{"role": "user", "content": "one\n\ntwo"}]


def test_calls_keep_their_arguments_as_objects():
    (entry,) = template_messages([Message("assistant", "", tool_calls=(ToolCall("c1", "add", {"a": 1}),))])
    assert entry["tool_calls"] == [{"type": "function", "id": "c1", "function": {"name": "add", "arguments": {"a": 1}}}]


def test_an_invalid_call_shows_the_model_what_it_wrote():
    (entry,) = template_messages([Message("assistant", "", tool_calls=(ToolCall("c1", "add", {}, invalid="{a"),))])
    assert entry["tool_calls"][0]["function"]["arguments"] == "{a"


def test_a_result_names_its_call():
    (entry,) = template_messages([Message("tool", "3", name="add", tool_call_id="c1")])
    assert entry == {"role": "tool", "content": "3", "name": "add", "tool_call_id": "c1"}


def test_reasoning_goes_where_templates_look_for_it():
    (entry,) = template_messages([Message("assistant", "4", reasoning="2 and 2")])
    assert entry["reasoning_content"] == "2 and 2"


def test_tools_are_json():
    tool = ToolDefinition("add", "Adds.", {"type": "object", "properties": {}}, function=print)
    assert json.loads(json.dumps(template_tools([tool]))) == [
        {
            "type": "function",
            "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}},
        }
    ]


def test_system_prompts_go_before_the_first_user_turn():
    messages = [Message("system", "Be brief."), Message("user", "Hi", name="Ann"), Message("system", "In French.")]
    assert without_system(messages) == (Message("user", "Be brief.\n\nIn French.\n\nHi", name="Ann"),)


def test_system_prompts_become_a_user_turn_where_no_user_begins():
    messages = [Message("system", "Be brief."), Message("assistant", "Hello!")]
    assert without_system(messages) == (Message("user", "Be brief."), Message("assistant", "Hello!"))


def test_a_conversation_without_system_prompt_stays():
    messages = (Message("user", "Hi"), Message("assistant", "Hello"))
    assert without_system(messages) == messages


def test_neighbours_of_one_role_are_joined():
    messages = [Message("user", "a"), Message("user", "b"), Message("assistant", "c"), Message("user", "d")]
    assert [(turn.role, turn.content) for turn in merged_turns(messages)] == [
        ("user", "a\n\nb"),
        ("assistant", "c"),
        ("user", "d"),
    ]


def test_calls_and_results_are_never_joined():
    call = Message("assistant", "", tool_calls=(ToolCall("c1", "add"),))
    messages = (Message("assistant", "So:"), call, Message("tool", "1"), Message("tool", "2"))
    assert merged_turns(messages) == messages


@given(CONVERSATIONS)
def test_no_text_is_lost(messages):
    for shape in (merged_turns(messages), without_system(messages), merged_turns(without_system(messages))):
        assert sorted("".join(turn.text for turn in shape).replace("\n", "")) == sorted(
            "".join(turn.text for turn in messages).replace("\n", "")
        )


@given(CONVERSATIONS)
def test_plain_shapes_have_no_system_prompt_that_says_something_and_no_two_turns_of_a_role(messages):
    shape = merged_turns(without_system(messages))
    assert all(turn.role != "system" for turn in shape)
    pairs = pairwise(shape)
    assert all(one.role != other.role or one.role == "tool" for one, other in pairs)
