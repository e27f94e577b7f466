"""Sessions that are saved: files, stores, other writers, stores that fail, and approvals that come much later."""

import asyncio
import json
import threading

import pytest

from abstractllm import (
    Agent,
    FileProcessingError,
    InvalidParameterError,
    Message,
    Session,
    SessionConflictError,
    SessionNotFoundError,
    SessionStoreError,
    SQLiteStore,
    UnsupportedOperationError,
    create_llm,
    tool,
)

from .models import calling, is_paired, scripted, told


class Odd(SQLiteStore):
    """A store that can be held up, and fail."""

    def __init__(self, path):
        super().__init__(path)
        self.writes, self.go = threading.Event(), threading.Event()
        self.go.set()
        self.error = None

    def append(self, id, messages, *, after=None):
        self.writes.set()
        assert self.go.wait(20)
        if self.error is not None:
            raise self.error
        return super().append(id, messages, after=after)


@pytest.fixture
def store(tmp_path):
    with Odd(tmp_path / "sessions.db") as store:
        yield store


# Files.


def test_a_file_holds_the_conversation_and_the_system_prompt(tmp_path):
    seen = []
    session = Session("echo", system_prompt="Be brief.")
    session.send("Olá")
    session.save(tmp_path / "a.json")
    llm = create_llm("echo", replies=lambda request: seen.extend(turn.text for turn in request.messages) or "So.")
    loaded = Session.load(tmp_path / "a.json", llm)
    assert (loaded.messages, loaded.id) == (session.messages, session.id)
    assert loaded.send("And?") == "So."
    assert seen == ["Be brief.", "Olá", "Olá", "And?"]
    assert Session.load(tmp_path / "a.json", "echo", system_prompt="Sing.", id="b").agent.instructions == "Sing."
    assert Session.load(tmp_path / "a.json", Agent("echo")).agent.instructions is None


def test_a_system_prompt_that_is_made_is_not_in_the_file(tmp_path):
    Session("echo", instructions=lambda deps: f"For {deps}.").save(tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())["system"] is None
    assert Session.load(tmp_path / "a.json", "echo").messages == ()


def test_a_file_of_the_command_line_is_read(tmp_path):
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    (tmp_path / "a.json").write_text(json.dumps({"model": "echo", "system": "Be brief.", "messages": turns}))
    session = Session.load(tmp_path / "a.json", "echo")
    assert (told(session), session.agent.instructions) == (["Hi", "Ho"], "Be brief.")


def test_a_file_of_upstreams_session_is_read(tmp_path):
    about = {"id": "m", "timestamp": "2025-05-01T10:00:00", "metadata": {}}
    turns = [{"role": "user", "content": "Hi", **about}, {"role": "assistant", "content": "Ho", "name": None, **about}]
    saved = {"id": "s", "created_at": "2025-05-01T10:00:00", "system_prompt": "Be brief.", "metadata": {}}
    (tmp_path / "a.json").write_text(json.dumps({**saved, "messages": turns}))
    session = Session.load(tmp_path / "a.json", "echo")
    assert (told(session), session.agent.instructions, session.id) == (["Hi", "Ho"], "Be brief.", "s")


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(FileProcessingError):
        Session.load(tmp_path / "no.json", "echo")
    (tmp_path / "a.json").write_text('{"messages": [], "id": 5}')
    with pytest.raises(InvalidParameterError, match="id"):
        Session.load(tmp_path / "a.json", "echo")


def test_a_file_goes_into_a_store(tmp_path, store):
    session = Session("echo")
    session.send("Hi")
    session.save(tmp_path / "a.json")
    loaded = Session.load(tmp_path / "a.json", "echo", store=store)
    loaded.send("Ho")
    assert store.messages(session.id) == loaded.messages
    with pytest.raises(InvalidParameterError, match="already"):
        Session.load(tmp_path / "a.json", "echo", store=store)


# Stores.


def test_another_object_goes_on(store):
    first = Session("echo", store=store, id="ana")
    first.send("Hi")
    second = Session("echo", store=store, id="ana")
    assert second.messages == first.messages
    second.send("Ho")
    assert told(Session("echo", store=store, id="ana")) == ["Hi", "Hi", "Ho", "Ho"]
    assert [info.id for info in store.list()] == ["ana"]


def test_messages_begin_a_session_that_is_new_or_empty(store):
    turns = [Message("user", "Hi"), Message("assistant", "Ho")]
    store.create("empty")
    for id in ("new", "empty"):
        Session("echo", store=store, id=id, messages=turns)
        assert store.messages(id) == tuple(turns)
        with pytest.raises(InvalidParameterError, match="already"):
            Session("echo", store=store, id=id, messages=turns)


def test_two_that_begin_at_once_both_do(store):
    class Late(Odd):
        def messages(self, id, *, start=0):
            try:
                return super().messages(id, start=start)
            except SessionNotFoundError:
                store.create(id)  # another writer, at the worst moment
                raise

    with Late(store._database.path) as late:
        session = Session("echo", store=late, id="ana")
        session.send("Hi")
    assert len(store.messages("ana")) == 2


def test_clear_and_fork_are_in_the_store(store):
    session = Session("echo", store=store, id="ana")
    session.send("Hi")
    other = session.fork(id="bob")
    session.clear()
    other.send("Ho")
    assert store.messages("ana") == ()
    assert store.messages("bob") == other.messages
    assert told(other) == ["Hi", "Hi", "Ho", "Ho"]


async def test_after_a_conflict_a_session_reloads_and_goes_on(store):
    mine, other = (Session("echo", store=store, id="ana") for _ in range(2))
    await other.send_async("Ho")
    for _ in range(2):
        with pytest.raises(SessionConflictError) as caught:
            await mine.send_async("Hi")
        assert (mine.messages, store.messages("ana")) == ((), other.messages)
        assert (caught.value.length, caught.value.result.text) == (2, "Hi")
    mine.reload()
    assert await mine.send_async("Hi") == "Hi"
    assert told(mine) == ["Ho", "Ho", "Hi", "Hi"]
    assert store.messages("ana") == mine.messages


def test_there_is_nothing_to_reload_without_a_store():
    with pytest.raises(UnsupportedOperationError, match="no store"):
        Session("echo").reload()


def test_a_store_that_fails_after_the_answer(store):
    session = Session("echo", store=store, id="ana")
    session.send("Hi")
    store.error = SessionStoreError("The disk is full.")
    for send in (session.send, lambda prompt: asyncio.run(session.send_async(prompt))):
        with pytest.raises(SessionStoreError, match="full") as caught:
            send("Ho")
        assert caught.value.result.text == "Ho"
    read = []
    with pytest.raises(SessionStoreError, match="full"):
        read.extend(session.send("Ho", stream=True))
    assert (read, told(session)) == ([], ["Hi", "Hi"]) or read == ["Ho"]
    store.error = None
    assert session.send("Ha") == "Ha"
    assert session.messages == store.messages("ana") == Session("echo", store=store, id="ana").messages
    assert told(session) == ["Hi", "Hi", "Ha", "Ha"]


def test_what_is_no_store_error_is_raised_too(store):
    session = Session("echo", store=store)
    store.error = OSError("gone")
    with pytest.raises(OSError, match="gone"):
        session.send("Hi")
    assert session.messages == ()


@pytest.mark.parametrize("times", [1, 3])
async def test_cancelled_while_the_store_writes_the_turn_is_whole(store, times):
    session = Session("echo", store=store, id="ana")
    store.go.clear()
    reply = session.send_async("Hi")
    task = asyncio.ensure_future(reply.run.wait())
    assert await asyncio.to_thread(store.writes.wait, 10)
    for _ in range(times):
        task.cancel()
        reply.cancel()
        await asyncio.sleep(0)
    store.go.set()
    assert await reply == "Hi"  # it had its end
    await asyncio.wait([task], timeout=10)
    assert session.messages == store.messages("ana")
    assert told(session) == ["Hi", "Hi"]
    assert await session.send_async("Ho") == "Ho"
    assert session.messages == store.messages("ana")


async def test_a_loop_that_ends_while_the_store_writes(store):
    session = Session("echo", store=store, id="ana")
    store.go.clear()

    async def main():
        task = asyncio.create_task(session.send_async("Hi"))
        assert await asyncio.to_thread(store.writes.wait, 10)
        task.get_loop().call_later(0.05, store.go.set)

    await asyncio.to_thread(asyncio.run, main())
    assert session.messages == store.messages("ana")
    assert await session.send_async("Ho") == "Ho"


def test_a_turn_waits_for_the_store_in_nobodys_way(store):
    """While a turn is being written, the event loop goes on."""
    session = Session("echo", store=store)
    store.go.clear()

    async def main():
        task = asyncio.create_task(session.send_async("Hi"))
        while not store.writes.is_set():
            await asyncio.sleep(0)
        store.go.set()
        return await task

    assert asyncio.run(main()) == "Hi"


# Approval.


@tool(approval=True)
def remove() -> str:
    """Remove it."""
    return "removed"


def look() -> str:
    return "it is there"


def test_an_approval_after_save_and_load(tmp_path):
    session = Session(scripted(calling("look", "remove", content="May I?")), tools=[look, remove])
    answer = session.send("Clean up")
    assert (answer, answer.result.stop) == ("May I?", "approval")
    assert answer.result.pending == session.pending
    session.save(tmp_path / "a.json")
    for approval, result in ((True, "removed"), ("Keep it.", "Keep it."), (False, "did not allow")):
        later = Session.load(tmp_path / "a.json", scripted("Fine.", "Bye."), tools=[look, remove])
        assert [call.name for call in later.pending] == ["remove"]
        assert later.send(approvals={"remove": approval}) == "Fine."
        assert result in later.messages[3].text
        assert later.pending == ()
        assert later.send("Thanks") == "Bye."
        assert is_paired(later.messages)


@pytest.mark.parametrize("names", [("look", "remove"), ("remove", "look"), ("remove",)])
def test_going_on_without_an_approval_is_none(store, names):
    session = Session(scripted(calling(*names), "Well.", "Bye."), tools=[look, remove], store=store, id="ana")
    session.send("Clean up")
    assert session.send("Never mind") == "Well."
    assert [one.text[:12] for one in session.messages if one.tool_call_id == "remove"] == ["Not executed"]
    assert is_paired(session.messages)
    assert session.messages == store.messages("ana")
    session.send("Bye")
    assert session.messages == store.messages("ana")


@pytest.mark.parametrize("names", [("look", "remove"), ("remove", "look")])
def test_a_call_without_a_result_is_no_reason_to_overwrite_others(store, names):
    session = Session(scripted(calling(*names), "Well."), tools=[look, remove], store=store, id="ana")
    session.send("Clean up")
    other = Session("echo", store=store, id="ana")
    other.send("Hi")
    with pytest.raises(SessionConflictError):
        session.send("Never mind")
    assert store.messages("ana") == other.messages


LATER = """
import sys
from abstractllm import Session, SQLiteStore, create_llm, tool

@tool(approval=True)
def remove() -> str:
    return "removed"

with SQLiteStore(sys.argv[1]) as store:
    session = Session(create_llm("echo", replies=["Done."]), tools=[remove], store=store, id="ana")
    [call] = session.pending
    print(session.send(approvals={call.id: True}))
"""


def test_an_approval_in_another_process(store, run_python):
    session = Session(scripted(calling("remove"), "Bye."), tools=[remove], store=store, id="ana")
    session.send("Clean up")
    assert run_python(LATER, str(store._database.path)) == "Done.\n"
    with pytest.raises(SessionConflictError):
        session.send(approvals={"remove": True})
    session.reload()
    assert told(session) == ["Clean up", "", "removed", "Done."]
    assert session.pending == ()
