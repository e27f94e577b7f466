"""A conversation that is kept: history, one turn at a time, saved and loaded. Knows no model's ways."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, overload

from abstractllm.agent import Agent, Answer, Reply, Result, Run
from abstractllm.agent.text import TextReader
from abstractllm.aio import to_the_end
from abstractllm.errors import (
    InvalidParameterError,
    SessionConflictError,
    SessionNotFoundError,
    SessionStoreError,
    UnsupportedOperationError,
    shown,
)
from abstractllm.history import unanswered
from abstractllm.interface import AbstractLLMInterface, File, MessageLike, ToolLike
from abstractllm.messages import to_messages
from abstractllm.portal import portal
from abstractllm.session.files import load_conversation, save_conversation
from abstractllm.session.store import SessionStore
from abstractllm.session.turn import Turn
from abstractllm.session.turnstile import Turnstile
from abstractllm.threads import ForkSafeLock
from abstractllm.types import Message, ToolCall

LLM = AbstractLLMInterface | Agent[Any, Any] | str
"""What answers: a model, an agent, or a config string for a model."""


class Session:
    """A conversation with a model or an agent, which remembers what was said.

    Turns go one after the other, in the order in which they were begun, whatever threads and event loops they come
    from. A turn that fails is not kept; of one that is cancelled, what had been said is.
    """

    def __init__(
        self,
        llm: LLM,
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
        self._lock = ForkSafeLock()
        self._store = store
        self._turnstile = Turnstile()
        self.id = uuid.uuid4().hex if id is None else _checked_id(id)
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
        llm: LLM | None = None,
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
        llm: LLM | None = None,
        files: Sequence[File] = (),
        deps: Any = None,
        approvals: Mapping[str, bool | str] | None = None,
    ) -> TextReader: ...

    def send(
        self,
        prompt: str | None = None,
        *,
        stream: bool = False,
        llm: LLM | None = None,
        files: Sequence[File] = (),
        deps: Any = None,
        approvals: Mapping[str, bool | str] | None = None,
    ) -> Answer | TextReader:
        """Take a turn and return the answer, a string; with `stream`, its pieces as they are written.

        `llm`, a model, a config string or an agent, answers this turn instead of the session's own; what is made of a
        string is made once, and closed with the session. Without a prompt, a conversation that stopped at calls which
        wait for approval goes on, with `approvals` as `Agent.run` takes them.

        Raises UnsupportedOperationError in async code where a turn goes on in the same event loop, for which the
        calling thread would wait for ever.
        """
        self._turnstile.check_may_block()
        run = self.stream(prompt, llm=llm, files=files, deps=deps, approvals=approvals)
        return run.text() if stream else Answer(portal().run(run.here))

    def send_async(
        self,
        prompt: str | None = None,
        *,
        llm: LLM | None = None,
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
        llm: LLM | None = None,
        files: Sequence[File] = (),
        deps: Any = None,
        approvals: Mapping[str, bool | str] | None = None,
    ) -> Run[Any]:
        """Return the run of a turn, for its events; it starts when it is read and the turns before it have ended."""
        turn = Turn(self.id, self._turnstile, self._past, self._keep, prompt, files, deps, approvals)
        return self._agent_for(llm).run_on(turn)

    @property
    def pending(self) -> tuple[ToolCall, ...]:
        """The calls that wait for approval; `send(approvals=...)` goes on with them."""
        return unanswered(self._messages)

    def clear(self) -> None:
        """Forget what has been said, in the store too, when the turns before have ended."""
        self._between_turns(self._clear)

    def reload(self) -> None:
        """Take the conversation as it is in the store, when the turns before have ended.

        So a session goes on after a SessionConflictError, which says that another writer was faster. Raises
        SessionStoreError, and UnsupportedOperationError for a session without a store.
        """
        if self._store is None:
            raise UnsupportedOperationError("This session has no store to read again; `load` reads a file.")
        self._between_turns(self._reload)

    def fork(self, *, id: str | None = None) -> Session:
        """Return another conversation that begins with what has been said here, in the same store under its own `id`.

        It has the same agent, whose models are closed with this session.
        """
        return Session(self._agent, messages=self._messages, store=self._store, id=id)

    def save(self, path: str | Path) -> None:
        """Write the conversation to a JSON file, whole or not at all, with the system prompt where that is a text.

        Raises FileProcessingError.
        """
        given = self._agent.instructions
        save_conversation(path, self._messages, id=self.id, system=given if isinstance(given, str) else None)

    @classmethod
    def load(cls, path: str | Path, llm: LLM, **settings: Any) -> Session:
        """Return a session that goes on with a conversation that was saved, or that the command line saved.

        `settings` are further arguments for `Session`. The system prompt in the file holds where there is no
        `system_prompt=`, and no agent that has its own. Of what upstream's Session saved, the results of tools are
        not read. Raises FileProcessingError.
        """
        saved = load_conversation(path)
        given: dict[str, Any] = {"messages": saved.messages, "id": saved.metadata.get("id")}
        if not isinstance(llm, Agent):
            given["system_prompt"] = saved.metadata.get("system", saved.metadata.get("system_prompt"))
        return cls(llm, **{**given, **settings})

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

    def _agent_for(self, llm: LLM | None) -> Agent[Any, Any]:
        if llm is None:
            return self._agent
        _check_llm(llm)
        if isinstance(llm, Agent):
            return llm
        if not isinstance(llm, str):
            return self._agent.with_llm(llm)
        with self._lock:
            if llm not in self._others:
                self._others[llm] = self._agent.with_llm(llm)
            return self._others[llm]

    def _past(self) -> tuple[Message, ...]:
        return self._messages

    async def _keep(self, result: Result[Any]) -> None:
        """Put a turn into the history, and into the store first."""
        if self._store is None:
            self._messages = result.messages
        else:
            await to_the_end(lambda: self._write(result))

    def _write(self, result: Result[Any]) -> None:
        assert self._store is not None
        before = len(self._messages)
        try:
            if result.messages[:before] == self._messages:
                self._store.append(self.id, result.messages[before:], after=before)
            else:  # earlier turns had calls without results, which have been given some
                self._store.replace(self.id, result.messages, after=before)
        except SessionStoreError as error:
            error.result = result
            raise
        self._messages = result.messages

    def _between_turns(self, change: Callable[[], None]) -> None:
        self._turnstile.check_may_block()
        portal().run(lambda: self._changed(change))

    async def _changed(self, change: Callable[[], None]) -> None:
        ticket = await self._turnstile.enter()
        try:
            await to_the_end(change)
        finally:
            self._turnstile.leave(ticket)

    def _clear(self) -> None:
        if self._store is not None:
            self._store.replace(self.id, ())
        self._messages = ()

    def _reload(self) -> None:
        assert self._store is not None
        self._messages = self._store.messages(self.id)


def _agent(
    llm: LLM, system_prompt: str | None, tools: Iterable[ToolLike], max_tokens: int | None, settings: Mapping[str, Any]
) -> Agent[Any, Any]:
    _check_llm(llm)
    offered = None if isinstance(tools, (list, tuple)) and not tools else tools
    own = {"system_prompt": system_prompt, "tools": offered, "max_tokens": max_tokens}
    given = {**{name: value for name, value in own.items() if value is not None}, **settings}
    if isinstance(llm, Agent):
        for name in given:
            raise InvalidParameterError(name, f"The session has an agent already; give {name} to that Agent instead.")
        return llm
    for name, other in _NAMES.items():
        if name in given and other in given:
            raise InvalidParameterError(name, f"{name} and {other} say the same of a session; give one of them.")
    return Agent(llm, **{_NAMES.get(name, name): value for name, value in given.items()})


_NAMES = {"system_prompt": "instructions", "max_tokens": "trim"}
"""Arguments of a session that an agent knows by another name."""


def _check_llm(llm: object) -> None:
    if not isinstance(llm, (AbstractLLMInterface, Agent, str)):
        raise InvalidParameterError(
            "llm", f"llm={shown(llm)} is not valid: it must be a model, an agent, or a config string such as 'mlx'."
        )


def _checked_id(id: str) -> str:
    if isinstance(id, str) and id:
        return id
    raise InvalidParameterError("id", f"id={shown(id)} is not valid: it must be a text that is not empty.")


def _begun(store: SessionStore | None, id: str, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return the history to begin with, which is in the store then."""
    if store is None:
        return messages
    kept = _kept(store, id)
    if not messages:
        return kept
    if kept:
        raise InvalidParameterError(
            "messages", f"The store has a conversation {id!r} already; leave messages out, or choose another id."
        )
    store.append(id, messages, after=0)
    return messages


def _kept(store: SessionStore, id: str) -> tuple[Message, ...]:
    """Return the messages of a session, which is made if it is not there."""
    try:
        return store.messages(id)
    except SessionNotFoundError:
        with suppress(SessionConflictError):  # another one made it just now
            store.create(id)
        return store.messages(id)
