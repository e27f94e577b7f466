"""The state of a chat: the model, its tools, the system prompt, the session, and what is attached to the next turn."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from abstractllm.agent import Agent
from abstractllm.cli.failures import print_note
from abstractllm.cli.options import ModelChoice
from abstractllm.cli.output import AnswerWriter, one_line
from abstractllm.cli.running import Stopped, approver, ending_text, run_to_end
from abstractllm.cli.watching import RunView
from abstractllm.errors import SessionConflictError, SessionNotFoundError
from abstractllm.files import read_files
from abstractllm.history import paired
from abstractllm.interface import AbstractLLMInterface
from abstractllm.observing.metrics import Metrics
from abstractllm.session import Session, SessionStore
from abstractllm.session.files import load_conversation, save_conversation
from abstractllm.tools import Tool
from abstractllm.types import Message

_TITLE = 60
"""Characters of the first prompt that a stored conversation is known by."""


class Conversation:
    """A conversation with a model that can be changed on the way. With a `store` it is kept there, under `id`."""

    def __init__(
        self,
        choice: ModelChoice,
        tools: Sequence[Tool] = (),
        *,
        store: SessionStore | None = None,
        id: str | None = None,
    ) -> None:
        self.choice = choice
        self.tools = tuple(tools)
        self.attached: list[str] = []
        self.metrics = Metrics()
        self.id = id or uuid.uuid4().hex
        self._store = store
        self._is_new = store is not None and not _is_kept(store, self.id)
        self.system = choice.system or self._kept_system()
        for path in choice.files:
            self.attach(path)
        self._llm = self._created(choice)
        self._session = self._begun(())

    @property
    def messages(self) -> tuple[Message, ...]:
        """What has been said, without the system prompt; every call in it has its result."""
        return paired(self._session.messages)

    def attach(self, path: str) -> None:
        """Attach a file to the next turn, with which it is read. Raises FileProcessingError for one that cannot be."""
        read_files([path])
        self.attached.append(path)

    def instruct(self, system: str | None) -> None:
        """Go on with another system prompt, or with none."""
        self.system = system
        self._session = self._begun(self._session.messages)

    def switch(self, spec: str) -> None:
        """Go on with another model; the present one stays when that fails."""
        choice = replace(self.choice, spec=spec)
        llm = self._created(choice)
        self._llm.close()
        self.choice, self._llm = choice, llm
        self._session = self._begun(self._session.messages)

    def clear(self) -> None:
        """Forget the turns and the attached files; model and system prompt stay."""
        self._session.clear()
        self.attached.clear()

    def ask(self, text: str) -> None:
        """Ask, show the answer with the calls that lead to it, and keep the turn.

        A turn that fails is taken back whole, with its files. One that is stopped by Ctrl-C is kept as far as it came.
        """
        files, self.attached = self.attached, []
        session = self._session
        run = session.stream(text, files=files)
        try:
            result = run_to_end(run, lambda stopped, approvals: session.stream(approvals=approvals), RunView())
        except Stopped:
            return
        except SessionConflictError:
            self._session = self._begun(())  # what another one wrote is there now, for the next turn
            raise
        finally:
            self._describe(text)
        if result.stop == "limit":
            print_note("the turn came to the limit of answers or calls in one turn; say what to do, and it goes on")
        ending = ending_text(result)
        if ending is not None:
            writer = AnswerWriter()
            writer.write(ending)
            writer.end()

    def save(self, path: str) -> None:
        """Write the conversation as JSON; its `messages` can be passed to `generate`. Raises FileProcessingError."""
        save_conversation(path, self.messages, model=self.choice.spec, system=self.system)

    def load(self, path: str) -> str | None:
        """Go on with a saved conversation and its system prompt, with the present model; return the one it was with.

        Raises FileProcessingError; the present conversation stays then.
        """
        saved = load_conversation(Path(path))
        model, system = saved.metadata.get("model"), saved.metadata.get("system")
        if "system" in saved.metadata:
            self.system = system if isinstance(system, str) else None
        if self._store is not None:
            self._store.replace(self.id, saved.messages)
        self._session = self._begun(saved.messages)
        return model if isinstance(model, str) else None

    def close(self) -> None:
        """Close the model; a conversation in which nothing was said leaves nothing in the store."""
        self._llm.close()
        if self._store is not None and self._is_new and not self._session.messages:
            self._store.delete(self.id)

    def _created(self, choice: ModelChoice) -> AbstractLLMInterface:
        """Return a model whose requests are counted."""
        llm = choice.create_for_runs()
        observers = getattr(llm, "observers", None)
        if isinstance(observers, list):
            observers.append(self.metrics)
        return llm

    def _begun(self, messages: Sequence[Message]) -> Session:
        """Return a session that goes on with what was said, which a store has already."""
        agent = Agent(
            self._llm,
            tools=self.tools,
            instructions=self.system,
            approve=approver(),
            observers=[self.metrics],
            name="chat",
        )
        if self._store is None:
            return Session(agent, messages=messages)
        session = Session(agent, store=self._store, id=self.id)
        self._store.set_metadata(self.id, model=self.choice.spec, system_prompt=self.system)
        return session

    def _kept_system(self) -> str | None:
        if self._store is None or self._is_new:
            return None
        kept = self._store.metadata(self.id).get("system_prompt")
        return kept if isinstance(kept, str) else None

    def _describe(self, text: str) -> None:
        """Give a stored conversation its title, where it has none and something was said."""
        if self._store is None or not self._session.messages or "title" in self._store.metadata(self.id):
            return
        self._store.set_metadata(self.id, title=one_line(text)[:_TITLE])


def _is_kept(store: SessionStore, id: str) -> bool:
    try:
        store.info(id)
    except SessionNotFoundError:
        return False
    return True
