"""Conversations that are kept."""

from __future__ import annotations

from abstractllm.session.session import Session as Session
