"""Conversations around tools: one or several questions over one list of tools, results, small talk in between."""

from dataclasses import dataclass, field
from typing import Any

from .chat import NO_TOOL, NO_TOOL_PT, no_tool_exchange, plain_system_prompt
from .facts import arithmetic
from .recall import recall_turns
from .results import make_result
from .tools import SUMS, Tool, again, ask, pair_question, toolbox, unfit_question
from .words import Words

Message = dict[str, Any]


@dataclass
class Conversation:
    """Messages as the OpenAI API has them, and the tools offered with them;"""

    messages: list[Message]
    tools: list[Message] = field(default_factory=list)


def user(content: str) -> Message:
    """A user's turn."""
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    """An answer in words."""
    return {"role": "assistant", "content": content}


def calling(calls: list[Message]) -> Message:
    """An answer that calls tools."""
    return {"role": "assistant", "content": "", "tool_calls": calls}


def two_questions(first: str, second: str, portuguese: bool, words: Words) -> str:
    """One message that asks for two things."""
    glue = words.pick((" E também: ", " E ", "\n") if portuguese else (" Also: ", " And ", "\n", " Then: ", " And also: "))
    first = first if first[-1:] in ".?!" else first + "."
    return first + glue + second


def call_turns(box: list[Tool], words: Words, portuguese: bool, double: bool, finish: bool) -> list[Message]:
    """A question, the call or two calls and, with ``finish``, results and answer."""
    called = words.rng.sample(box, 2 if double and len(box) > 1 and words.chance(0.8) else 1)
    if double and len(called) == 1:
        called *= 2
    pair = pair_question(called[0], words, portuguese) if words.chance(0.06) else None
    if pair:
        called, (question, calls) = [called[0]] * 2, pair
    else:
        questions, calls = [], []
        for tool in called:
            again(tool, words)
            questions.append(ask(tool, words, portuguese))
            calls.append(tool.call())
        question = questions[0] if len(questions) == 1 else two_questions(questions[0], questions[1], portuguese, words)
    messages = [user(question), calling(calls)]
    if finish:
        outcomes = [make_result(tool, words, portuguese) for tool in called]
        messages += [{"role": "tool", "content": content} for content, _ in outcomes]
        messages.append(assistant(" ".join(answer for _, answer in outcomes)))
    return messages


def tool_conversation(words: Words, portuguese: bool, sizes: tuple[int, ...] = (1, 2, 2, 3, 3, 4, 4, 5), turns: tuple[int, ...] = (1, 2, 3, 3, 4)) -> Conversation:
    """A conversation over one toolbox; after most calls come results, and sometimes a turn that needs no tool."""
    box = toolbox(words, words.pick(sizes), most=words.pick((2, 6, 6, 6)))
    messages: list[Message] = []
    system = plain_system_prompt(words)
    if words.chance(0.3):
        messages.append({"role": "system", "content": system})
    count = words.pick(turns)
    for i in range(count):
        if words.chance(0.14):
            messages += idle_turn(box, words, portuguese)
        elif words.chance(0.05):
            messages += recall_turns(words, portuguese)
        last = i == count - 1
        messages += call_turns(box, words, portuguese, double=words.chance(0.34), finish=not last or words.chance(0.4))
    if words.chance(0.2) and messages[-1]["role"] == "assistant" and not messages[-1].get("tool_calls"):
        messages += idle_turn(box, words, portuguese)
    return Conversation(messages, [tool.schema() for tool in box])


def idle_turn(box: list[Tool], words: Words, portuguese: bool, unfit: float = 0.35) -> list[Message]:
    """A turn for which no tool of ``box`` is needed or, with probability ``unfit``, none fits."""
    roll = words.rng.random()
    if roll < unfit:
        return [user(unfit_question(box, words, portuguese)), assistant(NO_TOOL_PT if portuguese else NO_TOOL)]
    sums = any(tool.family and tool.family.names.split()[0] in SUMS for tool in box)
    if roll < unfit + 0.12 and not sums:
        question, answer = arithmetic(words, portuguese)
        return [user(question), assistant(answer)]
    return no_tool_exchange(words, portuguese)


def chat_with_tools(words: Words, portuguese: bool, unfit: float = 0.35) -> Conversation:
    """Tools are offered, nothing asks for them."""
    box = toolbox(words, words.pick((1, 1, 2, 3)))
    messages: list[Message] = []
    if words.chance(0.3):
        messages.append({"role": "system", "content": plain_system_prompt(words)})
    for _ in range(words.pick((1, 2, 3))):
        messages += idle_turn(box, words, portuguese, unfit)
    return Conversation(messages, [tool.schema() for tool in box])
