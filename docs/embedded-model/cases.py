"""Evaluation cases: one conversation up to the answer that is judged, and the judgement.

All words, parameter names and values come from the half that training never sees; nothing here looks at the model.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from data.chat import no_tool_exchange, plain_system_prompt
from data.dialogue import call_turns, chat_with_tools, user
from data.exercises import exercise
from data.extract import extraction_turns
from data.facts import arithmetic, fact
from data.recall import obeying_turns, recall_turns
from data.tools import toolbox, unfit_question
from data.words import Words

Message = dict[str, Any]
PORTUGUESE = 0.15
CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)


@dataclass(frozen=True)
class Case:
    """A prompt and a test of the answer; ``expected`` is shown beside a wrong one."""

    skill: str
    messages: list[Message]
    tools: list[Message]
    expected: str
    right: Callable[[str], bool]


def parsed_calls(answer: str) -> list[Any] | None:
    """Name and arguments of every call in ``answer``; None where one is not JSON."""
    try:
        return [json.loads(text) for text in CALL.findall(answer)]
    except json.JSONDecodeError:
        return None


def identical(left: Any, right: Any) -> bool:
    """Equal JSON values; True is not 1, key order does not matter."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


def result_facts(content: str) -> list[str]:
    """What an answer must mention of a tool's result: every value, or the message of an error."""
    try:
        value = json.loads(content)
    except json.JSONDecodeError:
        if content.lower() in ("", "ok", "done", "success", "none"):
            return []
        return [re.sub(r"^[A-Za-z ]*(Error|error|failed|tool): ", "", content).rstrip(".!")]
    if content == "null" or value in ({"ok": True}, {"status": "ok"}):
        return []
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    flat = [item for entry in values for item in (entry if isinstance(entry, list) else [entry])]
    return [str(item) for item in flat if not isinstance(item, bool)]


def call_case(words: Words, portuguese: bool) -> Case:
    """Skill 1: the right calls, exactly; a third of the cases follow an earlier call."""
    box = toolbox(words, words.rng.randint(1, 5))
    messages: list[Message] = [{"role": "system", "content": plain_system_prompt(words)}] if words.chance(0.3) else []
    if words.chance(0.3):
        messages += call_turns(box, words, portuguese, double=False, finish=True)
    messages += call_turns(box, words, portuguese, double=words.chance(0.1), finish=False)
    wanted = [call["function"] for call in messages.pop()["tool_calls"]]

    def right(answer: str) -> bool:
        found = parsed_calls(answer)
        return found is not None and not CALL.sub("", answer).strip() and identical(found, wanted)

    return Case("1 call the right tool", messages, [tool.schema() for tool in box], json.dumps(wanted, ensure_ascii=False), right)


def silent_case(words: Words, portuguese: bool) -> Case:
    """Skill 2: an answer in words to small talk, a fact, or a question about the model, though tools are offered."""
    talk = chat_with_tools(words, portuguese, unfit=0.0)
    expected = talk.messages.pop()["content"]
    return Case("2 no call when none fits", talk.messages, talk.tools, expected, lambda answer: bool(answer.strip()) and "<tool_call>" not in answer)


def unfit_case(words: Words, portuguese: bool) -> Case:
    """Beyond skill 2: a request for something that no tool on offer does."""
    box = toolbox(words, words.rng.randint(1, 4))
    messages = [user(unfit_question(box, words, portuguese))]
    return Case("7 no call when asked for another tool", messages, [tool.schema() for tool in box], "I have no tool for that.", lambda answer: bool(answer.strip()) and "<tool_call>" not in answer)


def result_case(words: Words, portuguese: bool) -> Case:
    """Skill 3: every value of the result is in the answer, and no call."""
    box = toolbox(words, words.rng.randint(1, 4))
    messages: list[Message] = []
    if words.chance(0.3):
        messages += call_turns(box, words, portuguese, double=False, finish=True)
    messages += call_turns(box, words, portuguese, double=words.chance(0.1), finish=True)
    expected = messages.pop()["content"]
    last_call = max(i for i, message in enumerate(messages) if message.get("tool_calls"))
    facts = [fact for message in messages[last_call + 1 :] for fact in result_facts(message["content"])]

    def right(answer: str) -> bool:
        return "<tool_call>" not in answer and bool(answer.strip()) and all(text in answer for text in facts)

    return Case("3 answer from the result", messages, [tool.schema() for tool in box], expected, right)


def _exact(skill: str, messages: list[Message]) -> Case:
    expected = messages[-1]["content"]
    return Case(skill, messages[:-1], [], expected, lambda answer: answer.strip() == expected)


def memory_case(words: Words, portuguese: bool) -> Case:
    """Skill 4: the exact answer to a question about earlier turns, or under simple orders."""
    return _exact("4 remember and obey", obeying_turns(words, portuguese) if words.chance(0.35) else recall_turns(words, portuguese))


def json_case(words: Words, portuguese: bool) -> Case:
    """Skill 5: the expected object, with the keys in any order."""
    messages = extraction_turns(words, portuguese)
    wanted = json.loads(messages[-1]["content"])

    def right(answer: str) -> bool:
        try:
            return identical(json.loads(answer), wanted)
        except json.JSONDecodeError:
            return False

    return Case("5 fill JSON", messages[:-1], [], messages[-1]["content"], right)


def exercise_case(words: Words, portuguese: bool) -> Case:
    """Skill 6: sums, echoes, counting, lists and plain facts, exactly."""
    question, answer = words.pick((arithmetic, exercise, exercise, fact))(words, portuguese)
    messages = no_tool_exchange(words, portuguese) if words.chance(0.3) else []
    return _exact("6 sums, echo, facts", [*messages, {"role": "user", "content": question}, {"role": "assistant", "content": answer}])


MAKERS = (call_case, silent_case, result_case, memory_case, json_case, exercise_case, unfit_case)


def make_cases(limit: int, seed: int) -> list[Case]:
    """``limit`` cases of every skill; the same for the same ``seed``."""
    cases = []
    for maker in MAKERS:
        words = Words(Random(f"evaluation/{seed}/{maker.__name__}"), held_out=True)
        cases += [maker(words, words.chance(PORTUGUESE)) for _ in range(limit)]
    return cases
