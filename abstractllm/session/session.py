"""A conversation that is kept: history, one turn at a time, saved and loaded. Knows no model's ways."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, overload

from abstractllm.agent import Agent, Answer, Reply, Result, Run
from abstractllm.agent.text import TextReader
from abstractllm.aio import portal
from abstractllm.errors import InvalidParameterError, SessionNotFoundError
from abstractllm.interface import AbstractLLMInterface, File, MessageLike, ToolLike
from abstractllm.messages import to_messages
from abstractllm.session.files import load_conversation, save_conversation
from abstractllm.session.store import SessionStore
from abstractllm.session.turn import Turn
from abstractllm.session.turnstile import Turnstile
from abstractllm.types import Message


class Session:
    """A conversation with a model or an agent, which remembers what was said.

    Turns go one after the other, in the order in which they were begun, whatever threads and event loops they come
    from. A turn that fails is not kept; of one that is cancelled, what had been said is.
    """

    def __init__(
        self,
        llm: AbstractLLMInterface | Agent[Any, Any] | str,
        *,
        system_prompt: str | None = None,
        tools: Iterable[ToolLike] = (),
        messages: Sequence[MessageLike] = (),
        max_tokens: int | None = None,
        store: SessionStore | None = None,
        id: str | None = None,
        **settings: Any,
    ) -> None:
        """Begin a conversation, or go on with one.

        `llm` is a model, a config string, or an agent; with a model, `system_prompt`, `tools` and `settings` make the
        agent, as `Agent` takes them. `messages` is what was said before. `max_tokens` is how many tokens of the
        conversation the model is shown, by its own count: the oldest turns are left out, and stay in the history.
        `store` keeps the turns under `id` as they come; a conversation that is there already is gone on with.

        Raises InvalidParameterError for what cannot be right, and SessionStoreError for a store that does not work.
        """
        self._owned = not isinstance(llm, Agent)
        self._agent = _agent(llm, system_prompt, tools, max_tokens, settings)
        self._others: dict[str, Agent[Any, Any]] = {}
        self._store = store
        self._turnstile = Turnstile()
        self.id = id or uuid.uuid4().hex
        self._messages = _begun(store, self.id, to_messages(messages) if messages else ())

    @property
    def agent(self) -> Agent[Any, Any]:
        """What answers here."""
        return self._agent

    @property
    def messages(self) -> tuple[Message, ...]:
        """What has been said, without the system prompt."""
        return self._messages

    @overload
    def send(
        self,
        prompt: str | None = None,
        *,
        stream: Literal[False] = False,
        llm: AbstractLLMInterface | str | None = None,
        files: Sequence[File] = (),
        deps: Any = None,
        approvals: Mapping[str, bool | str] | None = None,
    ) -> Answer: ...

    @overload
    def send(
        self,
        prompt: str | None = None,
        *,
        stream: Literal[True],
        llm: AbstractLLMInterface | str | None = None,
        files: Sequence[File] = (),
        deps: Any = None,
        approvals: Mapping[str, bool | str] | None = None,
    ) -> TextReader: ...

    def send(
        self,
        prompt: str | None = None,
        *,
        stream: bool = False,
        llm: AbstractLLMInterface | str | None = None,
        files: Sequence[File] = (),
        deps: Any = None,
        approvals: Mapping[str, bool | str] | None = None,
    ) -> Answer | TextReader:
        """Take a turn and return the answer, a string; with `stream`, its pieces as they are written.

        `llm` answers this turn instead of the session's own model. Without a prompt, a conversation that stopped at
        calls which wait for approval goes on, with `approvals` as `Agent.run` takes them.
        """
        run = self.stream(prompt, llm=llm, files=files, deps=deps, approvals=approvals)
        return run.text() if stream else Answer(portal().run(run.here))

    def send_async(
        self,
        prompt: str | None = None,
        *,
        llm: AbstractLLMInterface | str | None = None,
        files: Sequence[File] = (),
        deps: Any = None,
        approvals: Mapping[str, bool | str] | None = None,
    ) -> Reply:
        """Return the reply to a turn: `await` it for its text, `async for` it for the text as it is written."""
        return Reply(self.stream(prompt, llm=llm, files=files, deps=deps, approvals=approvals))

    def stream(
        self,
        prompt: str | None = None,
        *,
        llm: AbstractLLMInterface | str | None = None,
        files: Sequence[File] = (),
        deps: Any = None,
        approvals: Mapping[str, bool | str] | None = None,
    ) -> Run[Any]:
        """Return the run of a turn, for its events; it starts when it is read and the turns before it have ended."""
        turn = Turn(self._turnstile, self._past, self._keep, prompt, files, deps, approvals)
        return self._agent_for(llm).run_on(turn)

    def clear(self) -> None:
        """Forget what has been said, in the store too."""
        if self._store is not None:
            self._store.replace(self.id, ())
        self._messages = ()

    def save(self, path: str | Path) -> None:
        """Write the conversation to a JSON file, whole or not at all. Raises FileProcessingError."""
        save_conversation(path, self._messages, id=self.id)

    @classmethod
    def load(cls, path: str | Path, llm: AbstractLLMInterface | Agent[Any, Any] | str, **settings: Any) -> Session:
        """Return a session that goes on with a conversation that was saved. Raises FileProcessingError."""
        saved = load_conversation(path)
        given: dict[str, Any] = {"messages": saved.messages, "id": saved.metadata.get("id"), **settings}
        return cls(llm, **given)

    def close(self) -> None:
        """Close the models that were made here from config strings."""
        for agent in (self._agent, *self._others.values()) if self._owned else self._others.values():
            agent.close()

    async def aclose(self) -> None:
        """Do what `close` does, without blocking the event loop."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _agent_for(self, llm: AbstractLLMInterface | str | None) -> Agent[Any, Any]:
        if llm is None:
            return self._agent
        if not isinstance(llm, str):
            return self._agent.with_llm(llm)
        if llm not in self._others:
            self._others[llm] = self._agent.with_llm(llm)
        return self._others[llm]

    def _past(self) -> tuple[Message, ...]:
        return self._messages

    async def _keep(self, result: Result[Any]) -> None:
        """Put a turn into the history, and into the store first."""
        before = len(self._messages)
        if result.messages[:before] == self._messages:
            change, new = "append", result.messages[before:]
        else:  # earlier turns had calls without results, which have been given some
            change, new = "replace", result.messages
        if self._store is not None:
            await asyncio.to_thread(getattr(self._store, change), self.id, new, after=before)
        self._messages = result.messages


def _agent(
    llm: AbstractLLMInterface | Agent[Any, Any] | str,
    system_prompt: str | None,
    tools: Iterable[ToolLike],
    max_tokens: int | None,
    settings: Mapping[str, Any],
) -> Agent[Any, Any]:
    if not isinstance(llm, Agent):
        return Agent(llm, instructions=system_prompt, tools=tools, trim=max_tokens, **settings)
    given = {"system_prompt": system_prompt, "tools": tools, "max_tokens": max_tokens, **settings}
    for name, value in given.items():
        if value not in (None, ()):
            raise InvalidParameterError(name, f"The session has an agent already; give {name} to that Agent instead.")
    return llm


def _begun(store: SessionStore | None, id: str, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return the history to begin with, which is in the store then."""
    if store is None:
        return messages
    try:
        kept = store.messages(id)
    except SessionNotFoundError:
        store.create(id)
        store.append(id, messages)
        return messages
    if messages:
        raise InvalidParameterError("messages", f"The store has a conversation {id!r} already; leave messages out.")
    return kept
