"""Conversations around tools: one or several questions over one list of tools, results, small talk in between."""

from dataclasses import dataclass, field
from typing import Any

from .chat import no_tool_exchange, plain_system_prompt
from .results import make_result
from .tools import Tool, again, ask, toolbox
from .words import Words

Message = dict[str, Any]


@dataclass
class Conversation:
    """Messages as the OpenAI API has them, and the tools offered with them; ``check`` is what evaluation looks for."""

    messages: list[Message]
    tools: list[Message] = field(default_factory=list)
    check: dict[str, Any] = field(default_factory=dict)


def user(content: str) -> Message:
    """A user's turn."""
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    """An answer in words."""
    return {"role": "assistant", "content": content}


def calls(*tools: Tool) -> Message:
    """An answer that calls tools."""
    return {"role": "assistant", "content": "", "tool_calls": [tool.call() for tool in tools]}


def two_questions(first: str, second: str, portuguese: bool, words: Words) -> str:
    """One message that asks for two things."""
    glue = words.pick((" E também: ", " E ", "\n") if portuguese else (" Also: ", " And ", "\n", " Then: ", " And also: "))
    first = first if first[-1:] in ".?!" else first + "."
    return first + glue + second


def call_turns(box: list[Tool], words: Words, portuguese: bool, double: bool, finish: bool) -> list[Message]:
    """A question, the call or two calls and, with ``finish``, results and answer."""
    chosen = words.pick(box)
    again(chosen, words)
    question = ask(chosen, words, portuguese)
    called = [chosen]
    if double and len(box) > 1:
        other = words.pick([tool for tool in box if tool is not chosen])
        again(other, words)
        question = two_questions(question, ask(other, words, portuguese), portuguese, words)
        called.append(other)
    messages = [user(question), calls(*called)]
    if finish:
        outcomes = [make_result(tool, words, portuguese) for tool in called]
        messages += [{"role": "tool", "content": content} for content, _ in outcomes]
        messages.append(assistant(" ".join(answer for _, answer in outcomes)))
    return messages


def tool_conversation(words: Words, portuguese: bool, sizes: tuple[int, ...] = (1, 2, 2, 3, 3, 4, 5), turns: tuple[int, ...] = (1, 2, 2, 3, 4)) -> Conversation:
    """A conversation over one toolbox; after most calls come results, and sometimes a turn that needs no tool."""
    box = toolbox(words, words.pick(sizes))
    messages: list[Message] = []
    system = plain_system_prompt(words)
    if words.chance(0.3):
        messages.append({"role": "system", "content": system})
    count = words.pick(turns)
    for i in range(count):
        if words.chance(0.22):
            messages += no_tool_exchange(words, portuguese)
        last = i == count - 1
        messages += call_turns(box, words, portuguese, double=words.chance(0.12), finish=not last or words.chance(0.6))
    if words.chance(0.2) and messages[-1]["role"] == "assistant" and not messages[-1].get("tool_calls"):
        messages += no_tool_exchange(words, portuguese)
    return Conversation(messages, [tool.schema() for tool in box])


def chat_with_tools(words: Words, portuguese: bool) -> Conversation:
    """Tools are offered, nothing asks for them."""
    box = toolbox(words, words.pick((1, 1, 2, 3)))
    messages: list[Message] = []
    if words.chance(0.3):
        messages.append({"role": "system", "content": plain_system_prompt(words)})
    for _ in range(words.pick((1, 2, 3))):
        messages += no_tool_exchange(words, portuguese)
    return Conversation(messages, [tool.schema() for tool in box])
