"""Which conversations are seen when: copying first, then one tool, then everything."""

from .chat import chat_turns
from .copying import lookup, repetition
from .dialogue import Conversation, chat_with_tools, tool_conversation
from .exercises import exercise_turns
from .extract import extraction_turns
from .recall import memory_turns
from .words import Words

MILLION = 1_000_000
PORTUGUESE = 0.15


def copying_share(seen: int) -> float:
    """Share of pure copying after ``seen`` tokens: all at first, a little after 1.2 million."""
    return max(0.04, 1.0 - max(0.0, seen - 0.2 * MILLION) / MILLION)


def sample(words: Words, seen: int) -> Conversation:
    """One training conversation for the stage reached after ``seen`` tokens."""
    words.begin_conversation()
    if words.chance(copying_share(seen)):
        return Conversation(words.pick((repetition, lookup, lookup))(words))
    portuguese = words.chance(PORTUGUESE)
    if seen < 2 * MILLION:
        return tool_conversation(words, portuguese, sizes=(1,), turns=(1, 2, 3)) if words.chance(0.9) else Conversation(chat_turns(words, portuguese))
    if seen < 4 * MILLION:
        sizes: tuple[int, ...] = (1, 1, 2, 2, 3)
        return tool_conversation(words, portuguese, sizes) if words.chance(0.8) else Conversation(chat_turns(words, portuguese))
    roll = words.rng.random()
    if roll < 0.70:
        long = seen > 10 * MILLION and words.chance(0.02)
        return tool_conversation(words, portuguese, turns=(5, 6, 7)) if long else tool_conversation(words, portuguese)
    if roll < 0.77:
        return chat_with_tools(words, portuguese)
    maker = words.pick((chat_turns, chat_turns, memory_turns, memory_turns, extraction_turns, extraction_turns, extraction_turns, extraction_turns, exercise_turns, exercise_turns))
    return Conversation(maker(words, portuguese))
