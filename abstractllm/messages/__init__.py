"""Conversations as dicts, both ways: `message_as_dict` and `to_messages`. No provider, no I/O."""

from __future__ import annotations

from abstractllm.messages.reading import to_messages
from abstractllm.messages.writing import message_as_dict

__all__ = ["message_as_dict", "to_messages"]
