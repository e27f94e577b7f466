"""Conversations that are kept: in memory, in a file, or many in one database."""

from __future__ import annotations

from abstractllm.session.files import (
    SavedConversation as SavedConversation,
    load_conversation as load_conversation,
    save_conversation as save_conversation,
)
from abstractllm.session.session import Session as Session
from abstractllm.session.store import (
    SessionInfo as SessionInfo,
    SessionStore as SessionStore,
    SQLiteStore as SQLiteStore,
)
