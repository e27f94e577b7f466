"""From one primitive to four faces: any answer, any end, from any thread or loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import sys
import threading

import pytest
from hypothesis import given, settings, strategies as st

from abstractllm.accumulator import join
from abstractllm.errors import (
    FileProcessingError,
    GenerationError,
    InvalidParameterError,
    QuotaExceededError,
    RequestTimeoutError,
    UnsupportedFeatureError,
    UnsupportedOperationError,
)
from abstractllm.providers.base import BaseProvider
from abstractllm.testing.faces import Face, ask, call
from abstractllm.types import GenerateResponse, Timeout, Usage

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")
END = GenerateResponse(finish_reason="stop", usage=Usage(1, 1))


class Scripted(BaseProvider):
    """Yields what it is given and raises what it is given; remembers how each run ended."""

    name = "scripted"
    settings = frozenset({"model", "script"})
    max_threads = 4

    def __init__(self, *script, **settings):
        super().__init__(**settings)
        self.script = script
        self.begun = 0
        self.closed = 0
        self.closed_in = set()
        self.events = []
        self.observers.append(self.events.append)

    def play(self, running):
        self.begun += 1
        try:
            for item in self.script:
                if isinstance(item, BaseException):
                    raise item.with_traceback(None)
                yield GenerateResponse(content=item) if isinstance(item, str) else item
        finally:
            self.closed += 1
            self.closed_in.add(threading.get_ident())

    @property
    def heard(self):
        return [event.kind for event in self.events]

    def settle(self):
        """Wait until every thread of this provider has ended."""
        self.close()
        for threads in self._threads.values():
            threads.join()


class Sync(Scripted):
    def _stream(self, request, running):
        yield from self.play(running)


class Async(Scripted):
    async def _astream(self, request, running):
        source = self.play(running)
        try:
            for delta in source:
                await asyncio.sleep(0)
                yield delta
        finally:
            source.close()


class Both(Sync, Async):
    pass


KINDS = [Sync, Async, Both]
kinds = pytest.mark.parametrize("kind", KINDS)
faces = pytest.mark.parametrize("face", list(Face))


@given(st.lists(st.text(), max_size=20), st.sampled_from(KINDS), st.sampled_from(Face), st.booleans())
@settings(max_examples=80, deadline=None)
def test_any_split_into_deltas_joins_to_the_same_answer(pieces, kind, face, limited):
    with kind(*pieces, END) as llm:
        answer = ask(llm, face, "Hi", timeout=1000 if limited else None)
        assert answer.whole.content == "".join(pieces)
        assert (answer.whole.finish_reason, answer.whole.usage) == ("stop", END.usage)
        if face.streams:
            assert [delta.content for delta in answer.deltas] == [*pieces, ""]
            assert answer.held == answer.whole == join(answer.deltas)
        assert (llm.begun, llm.heard) == (1, ["started", "finished"])
        llm.settle()
        assert llm.closed == 1


ERRORS = [KeyError("lost"), StopIteration("odd"), TimeoutError("own"), QuotaExceededError("spent"), OSError(5, "gone")]


@given(
    st.lists(st.text(min_size=1), max_size=6), st.sampled_from(ERRORS), st.sampled_from(KINDS), st.sampled_from(Face)
)
@settings(max_examples=80, deadline=None)
def test_an_exception_at_any_point_is_typed_and_holds_what_had_arrived(pieces, error, kind, face):
    with kind(*pieces, error) as llm:
        with pytest.raises((GenerationError, QuotaExceededError)) as caught:
            ask(llm, face, "Hi")
        if isinstance(error, QuotaExceededError):
            assert caught.value is error
        else:
            assert caught.value.response.content == "".join(pieces)
            assert caught.value.provider == "scripted"
            assert caught.value.__cause__ is error or caught.value.__cause__.__cause__ is error
        assert llm.heard == ["started", "failed"]
        assert llm.events[1].error is caught.value
        llm.settle()
        assert llm.closed == 1


@kinds
def test_breaking_off_at_the_last_delta_counts_as_finished(kind):
    with kind("a", END) as llm:
        for delta in llm.generate("Hi", stream=True):
            if delta.finish_reason:
                break
        gc.collect()
        assert llm.heard == ["started", "finished"]


@kinds
@pytest.mark.parametrize("read", range(22))
@pytest.mark.parametrize("timeout", [None, 1000])
def test_leaving_a_sync_stream_at_any_delta_closes_the_source(kind, read, timeout):
    with kind(*"abcdefghijklmnopqrstu", END) as llm:
        stream = llm.generate("Hi", stream=True, timeout=timeout)
        for _ in range(read):
            next(stream)
        stream.close()
        llm.settle()
        assert llm.closed == llm.begun == min(read, 1)
        if read:  # behind a buffer, the source may have ended before its reader left
            assert llm.heard in (["started", "cancelled"], ["started", "finished"])
        if read and kind is Sync and timeout is None:
            assert llm.heard == ["started", "cancelled"]


@kinds
@pytest.mark.parametrize("read", range(5))
async def test_leaving_an_async_stream_at_any_delta_closes_the_source(kind, read):
    llm = kind(*"abc", END)
    stream = llm.generate_async("Hi", stream=True)
    for _ in range(read):
        await anext(stream)
    await stream.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await asyncio.to_thread(llm.settle)
    assert llm.closed == llm.begun == min(read, 1)
    assert llm.heard == {0: [], 4: ["started", "finished"]}.get(read, ["started", "cancelled"])


@given(st.integers(0, 40), st.sampled_from(KINDS), st.sampled_from([Face.ASYNC, Face.ASYNC_STREAM]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_cancelling_at_any_await_closes_the_source_and_leaves_nothing(steps, kind, face, limited):
    llm = kind(*"abcdefgh", END)

    async def read():
        result = call(llm, face, "Hi", timeout=1000 if limited else None)
        if face is Face.ASYNC:
            return await result
        return [delta async for delta in result]

    async def main():
        task = asyncio.create_task(read())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())
    llm.settle()
    assert llm.closed == llm.begun
    assert not llm._calls
    assert llm.heard in ([], ["started", "cancelled"], ["started", "finished"])


@kinds
@faces
def test_nothing_begins_at_the_call_of_a_stream_or_coroutine(kind, face, recwarn):
    if face is Face.WHOLE:
        return
    llm = kind(END)
    result = call(llm, face, "Hi")
    assert (llm.begun, llm.events) == (0, [])
    if face is Face.ASYNC:
        result.close()
    del result
    gc.collect()
    assert len(recwarn) == 0


@kinds
@faces
def test_a_request_is_checked_at_the_call(kind, face):
    llm = kind(END)
    for error, prompt, params in [
        (InvalidParameterError, "Hi", {"no_such": 1}),
        (InvalidParameterError, "", {}),
        (UnsupportedFeatureError, "Hi", {"temperature": 1}),
        (UnsupportedFeatureError, "Hi", {"options": {"x": 1}}),
    ]:
        with pytest.raises(error):
            call(llm, face, prompt, **params)
    assert llm.begun == 0


@kinds
@faces
def test_an_answer_without_an_end_is_an_error(kind, face):
    with kind("cut") as llm, pytest.raises(GenerationError, match="finish_reason") as caught:
        ask(llm, face, "Hi")
    assert caught.value.response.content == "cut"


@faces
def test_any_iterable_of_deltas_will_do(face):
    class Listing(BaseProvider):
        def _stream(self, request, running):
            return [GenerateResponse(content="a"), END]

    with Listing() as llm:
        assert ask(llm, face, "Hi").whole.content == "a"


@faces
def test_a_provider_without_a_primitive_says_so(face):
    with BaseProvider() as llm, pytest.raises(GenerationError, match="NotImplementedError"):
        ask(llm, face, "Hi")


@kinds
@faces
def test_a_raising_observer_harms_nothing(kind, face):
    def broken(event):
        raise ZeroDivisionError

    with kind("a", END) as llm:
        llm.observers.insert(0, broken)
        assert ask(llm, face, "Hi").whole.content == "a"
        assert llm.heard == ["started", "finished"]


@kinds
@faces
def test_context_variables_reach_the_provider(kind, face):
    class Reading(kind):
        def play(self, running):
            yield GenerateResponse(content=VARIABLE.get())
            yield END

    def check():
        VARIABLE.set("seen")
        assert ask(llm, face, "Hi").whole.content == "seen"

    with Reading() as llm:
        contextvars.copy_context().run(check)


@kinds
def test_an_interrupt_in_the_provider_reaches_the_caller(kind):
    with kind("a", KeyboardInterrupt()) as llm:
        with pytest.raises(KeyboardInterrupt):
            llm.generate("Hi")
        assert llm.heard == ["started", "cancelled"]


@kinds
async def test_sync_calls_work_inside_a_running_loop(kind):
    llm = kind("a", END)
    assert llm.generate("Hi").content == "a"
    assert [delta.content for delta in llm.generate("Hi", stream=True)] == ["a", ""]
    await llm.aclose()


@kinds
def test_many_loops_in_many_threads_use_one_provider(kind):
    results = []

    async def several():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(llm.generate_async("Hi")) for _ in range(6)]
        return [task.result().content for task in tasks]

    with kind(*"abc", END) as llm:
        threads = [threading.Thread(target=lambda: results.append(asyncio.run(several()))) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [["abc"] * 6] * 5


async def test_more_streams_than_threads_all_finish():
    llm = Sync(*"abcdefghijklmnopqrstuvwxyz", END)
    answers = await asyncio.gather(*(llm.generate_async("Hi") for _ in range(30)))
    assert {answer.content for answer in answers} == {"abcdefghijklmnopqrstuvwxyz"}
    await llm.aclose()


# Limits.


class Waiting:
    """Gives `first` deltas, then waits until the answer is no longer wanted."""

    def __init__(self, first):
        super().__init__()
        self.first = first
        self.released = threading.Event()


class SyncWaiting(Waiting, BaseProvider):
    def _stream(self, request, running):
        for _ in range(self.first):
            yield GenerateResponse(content="x")
        running.on_cancel(self.released.set)
        self.released.wait()


class AsyncWaiting(Waiting, BaseProvider):
    async def _astream(self, request, running):
        try:
            for _ in range(self.first):
                yield GenerateResponse(content="x")
            await asyncio.Event().wait()
        finally:
            self.released.set()


@pytest.mark.parametrize("kind", [SyncWaiting, AsyncWaiting])
@faces
@pytest.mark.parametrize(
    ("timeout", "first", "limit"),
    [(Timeout(first_event=0.01), 0, "first_event"), (Timeout(idle=0.01), 1, "idle"), (0.01, 0, "total")],
)
def test_each_limit_ends_the_request_in_every_face(kind, face, timeout, first, limit):
    with kind(first) as llm:
        with pytest.raises(RequestTimeoutError) as caught:
            ask(llm, face, "Hi", timeout=timeout)
        assert caught.value.limit == limit
        llm.released.wait()


# Closing.


@kinds
@pytest.mark.parametrize("timeout", [None, 1000])
def test_closing_ends_a_sync_stream(kind, timeout):
    llm = kind(*"a" * 200, END)
    stream = llm.generate("Hi", stream=True, timeout=timeout)
    next(stream)
    llm.close()
    with pytest.raises(UnsupportedOperationError, match="closed"):
        list(stream)
    llm.settle()
    assert llm.closed == 1


@kinds
async def test_closing_ends_an_async_stream(kind):
    llm = kind(*"a" * 200, END)
    stream = await llm.generate_async("Hi", stream=True)
    await llm.aclose()
    with pytest.raises(UnsupportedOperationError, match="closed"):
        _ = [delta async for delta in stream]
    await asyncio.to_thread(llm.settle)
    assert llm.closed == 1


async def test_closing_ends_a_request_that_waits_for_a_thread():
    llm = SyncWaiting(0)
    llm.max_threads = 1
    tasks = [asyncio.create_task(llm.generate_async("Hi")) for _ in range(3)]
    await asyncio.sleep(0)
    await llm.aclose()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(outcome, UnsupportedOperationError)


@kinds
def test_a_stream_that_was_made_before_the_close_does_not_begin_after_it(kind):
    llm = kind(END)
    stream, later = llm.generate("Hi", stream=True), llm.generate_async("Hi", stream=True)
    llm.close()
    for read in (lambda: list(stream), lambda: asyncio.run(later)):
        with pytest.raises(UnsupportedOperationError, match="closed"):
            read()
    assert llm.begun == 0
    assert not llm._calls


@kinds
def test_no_thread_is_left_after_close(kind):
    llm = kind("a", END)
    asyncio.run(llm.generate_async("Hi"))
    llm.close()
    llm.settle()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("abstractllm-scripted")]


def test_closing_unloads():
    class Loaded(Sync):
        unloaded = 0

        def unload(self):
            self.unloaded += 1

    with Loaded(END) as llm:
        llm.generate("Hi")
    assert llm.unloaded == 1


CLOSED = "provider was closed while this request ran"


class ClosedWhile(BaseProvider):
    """Is closed while it works, and then fails with `error`."""

    settings = frozenset({"model", "error"})

    def fail(self):
        self.close()
        raise self.get_param("error").with_traceback(None)


class SyncClosed(ClosedWhile):
    def _stream(self, request, running):
        self.fail()
        yield END


class AsyncClosed(ClosedWhile):
    async def _astream(self, request, running):
        self.fail()
        yield END


@pytest.mark.parametrize("kind", [SyncClosed, AsyncClosed])
@faces
@pytest.mark.parametrize("timeout", [None, 1000])
@pytest.mark.parametrize(
    "error",
    [
        KeyError("lost"),
        QuotaExceededError("spent"),
        UnsupportedOperationError("The executor is shut down."),
        RequestTimeoutError("late", limit="total"),
        asyncio.CancelledError(),
        concurrent.futures.CancelledError(),
    ],
    ids=lambda error: type(error).__module__ + "." + type(error).__name__,
)
def test_whatever_breaks_in_a_provider_that_is_being_closed_means_that_it_was_closed(kind, face, timeout, error):
    llm = kind(error=error)
    heard = []
    llm.observers.append(heard.append)
    with pytest.raises(UnsupportedOperationError, match=CLOSED) as caught:
        ask(llm, face, "Hi", timeout=timeout)
    assert [event.kind for event in heard] == ["started", "failed"]
    assert heard[1].error is caught.value
    if not isinstance(error, asyncio.CancelledError):  # asyncio raises another one where it passes a task
        causes = [caught.value.__cause__, caught.value.__cause__.__cause__]
        assert error in causes


async def test_a_job_of_our_own_that_the_close_cancels_is_no_cancelled_task():
    class Preparing(BaseProvider):
        max_threads = 1

        async def _astream(self, request, running):
            await asyncio.get_running_loop().run_in_executor(self._executor(), gate.wait)
            yield END

    llm, gate = Preparing(), threading.Event()
    tasks = [asyncio.create_task(llm.generate_async("Hi")) for _ in range(3)]
    await asyncio.sleep(0)
    llm.close()
    gate.set()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(outcome, UnsupportedOperationError)
        assert CLOSED in str(outcome)


async def test_a_task_that_is_cancelled_stays_so_where_the_provider_is_closed_too():
    llm = AsyncWaiting(0)
    task = asyncio.create_task(llm.generate_async("Hi"))
    await asyncio.sleep(0)
    llm.close()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_more_held_streams_than_threads_do_not_wait_for_each_other():
    llm = Sync(*"a" * 100, END)
    async with asyncio.timeout(60):
        streams = [await llm.generate_async("Hi", stream=True) for _ in range(3 * llm.max_threads)]
        for stream in streams:
            assert len([delta async for delta in stream]) == 101
    await llm.aclose()


@faces
@pytest.mark.parametrize("fails", [False, True])
def test_an_iterator_with_a_close_is_closed_once(face, fails):
    class Items:
        def __init__(self):
            self.items = iter([GenerateResponse(content="a"), END])
            self.closed = 0

        def __iter__(self):
            return self

        def __next__(self):
            if fails:
                raise KeyError("lost")
            return next(self.items)

        def close(self):
            self.closed += 1

    class Iterating(BaseProvider):
        def _stream(self, request, running):
            made.append(Items())
            return made[0]

    llm, made = Iterating(), []
    if fails:
        with pytest.raises(GenerationError):
            ask(llm, face, "Hi")
    else:
        assert ask(llm, face, "Hi").whole.content == "a"
    assert made[0].closed == 1


FORKED_WHILE_LOCKED = """
import os, threading
from abstractllm.providers.base import BaseProvider
from abstractllm.types import GenerateResponse

class Endless(BaseProvider):
    locked, gate = threading.Event(), threading.Event()

    def _configure(self, config):
        if config.get("model") == "slow":
            self.locked.set()
            self.gate.wait()

    def _stream(self, request, call):
        call.on_cancel(lambda: print("woken", flush=True))
        while True:
            yield GenerateResponse(content="x")

llm = Endless()
held = llm.generate("Hi", stream=True)
next(held)
other = threading.Thread(target=lambda: llm.set_config(model="slow"))
other.start()
llm.locked.wait()
child = os.fork()
if not child:
    llm.close()
    try:
        next(held)
    except RuntimeError as error:
        print("closed" in str(error), flush=True)
    os._exit(0)
os.waitpid(child, 0)
llm.gate.set()
other.join()
llm.close()
"""


def test_closing_in_a_forked_child_waits_for_no_lock_and_wakes_nobody(run_python):
    assert run_python(FORKED_WHILE_LOCKED).split() == ["True", "woken"]


# Configuration, and what a kind says without an instance.


class Choosy(Sync):
    """Accepts some models only."""

    seen = ()

    def _configure(self, config):
        if config.get("model") == "bad":
            raise InvalidParameterError("model", "model='bad' is not valid.")
        self.seen = (*self.seen, (dict(config), self.get_config() if self.seen else None))


def test_a_provider_takes_over_and_refuses_configurations():
    llm = Choosy(END, model="a", timeout=5)
    llm.set_config(model="b")
    with pytest.raises(InvalidParameterError, match="'bad'"):
        llm.set_config(model="bad", timeout=6)
    assert llm.get_config() == {"model": "b", "timeout": Timeout(total=5)}
    assert llm.seen == (
        ({"model": "a", "timeout": Timeout(total=5)}, None),
        ({"model": "b", "timeout": Timeout(total=5)}, {"model": "a", "timeout": Timeout(total=5)}),
    )
    with pytest.raises(InvalidParameterError, match="'bad'"):
        Choosy(END, model="bad")


def test_a_refused_value_from_the_environment_is_told_with_its_variable(monkeypatch):
    monkeypatch.setenv("ABSTRACTLLM_SCRIPTED_MODEL", "bad")
    with pytest.raises(InvalidParameterError, match="variable ABSTRACTLLM_SCRIPTED_MODEL") as caught:
        Choosy(END)
    assert caught.value.parameter == "model"
    assert Choosy(END, model="good").get_param("model") == "good"


def test_no_change_of_the_configuration_is_lost():
    class Wide(Sync):
        settings = frozenset(f"s{number}" for number in range(8))

        def _configure(self, config):
            if set(config) == {"s0"}:
                inside.set()
                gate.wait()

    inside, gate = threading.Event(), threading.Event()
    llm = Wide(END)
    threads = [threading.Thread(target=llm.set_config, kwargs={name: 1}) for name in sorted(Wide.settings)]
    threads[0].start()
    inside.wait()
    for thread in threads[1:]:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join()
    assert llm.get_config() == dict.fromkeys(Wide.settings, 1)


def test_configuration_is_checked_and_can_be_changed():
    llm = Sync(END, timeout=5)
    assert llm.get_param("timeout") == Timeout(total=5)
    llm.set_config(model="other")
    assert llm.get_config()["model"] == "other"
    with pytest.raises(InvalidParameterError, match="temprature"):
        llm.set_config(temprature=1)
    with pytest.raises(UnsupportedFeatureError):
        Sync(END, temperature=1)


def test_a_kind_without_models_says_so():
    for ask_kind in (BaseProvider.list_models, lambda: Sync.pull_model("x"), lambda: Sync.remove_model("x")):
        with pytest.raises(UnsupportedFeatureError, match="models"):
            ask_kind()
    assert BaseProvider.diagnose() == []


class Attentive(Scripted):
    """Remembers what it was asked."""

    name = "attentive"

    def _stream(self, request, call):
        self.asked = request.messages[-1].text
        yield from self.play(call)


READERS: dict[str, int] = {}


def note_reader(event, arguments):
    if event == "open" and str(arguments[0]).endswith("list-to-read.txt"):
        READERS[str(arguments[0])] = threading.get_ident()


sys.addaudithook(note_reader)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_event_loop_reads_no_files(tmp_path, stream):
    file = tmp_path / "list-to-read.txt"
    file.write_text("milk")
    llm = Attentive("fine", END)
    answer = await llm.generate_async("What?", files=[file], stream=stream)
    if stream:
        assert [delta.content async for delta in answer] == ["fine", ""]

    assert "milk" in llm.asked
    assert llm.asked.endswith("What?")
    assert READERS.pop(str(file)) != threading.get_ident()


async def test_files_that_cannot_be_read_raise_when_the_work_starts(tmp_path):
    llm = Attentive("fine", END)
    pending = llm.generate_async("What?", files=[tmp_path / "none.txt"])
    with pytest.raises(FileProcessingError):
        await pending
    with pytest.raises(InvalidParameterError):
        llm.generate_async("What?", files="none.txt")
    with pytest.raises(InvalidParameterError):
        llm.generate_async("What?", files=[tmp_path / "none.txt"], temperature=-1)
    assert (await llm.generate_async("What?")).content == "fine"


@pytest.fixture
def slow_disk(monkeypatch):
    """A provider whose only thread for files is kept busy, and the event that lets it go."""
    monkeypatch.setattr("abstractllm.providers.base._READERS", 1)
    llm, let_go = Attentive("fine", END), threading.Event()
    llm._readers().submit(let_go.wait, 30)
    yield llm, let_go
    let_go.set()


async def test_a_slow_disk_holds_up_nobody_else(tmp_path, slow_disk):
    (tmp_path / "a.txt").write_text("milk")
    llm, let_go = slow_disk
    waiting = [asyncio.ensure_future(llm.generate_async("What?", files=[tmp_path / "a.txt"])) for _ in range(20)]
    assert (await llm.generate_async("Hi")).content == "fine"
    let_go.set()
    assert {answer.content for answer in await asyncio.gather(*waiting)} == {"fine"}


async def test_a_deadline_counts_the_reading_of_files(tmp_path, slow_disk):
    (tmp_path / "a.txt").write_text("milk")
    llm, _ = slow_disk
    with pytest.raises(RequestTimeoutError):
        await llm.generate_async("What?", files=[tmp_path / "a.txt"], timeout=0.2)
    assert llm.heard == []


async def test_closing_while_files_wait_to_be_read_is_no_cancellation(tmp_path, slow_disk):
    (tmp_path / "a.txt").write_text("milk")
    llm, let_go = slow_disk
    waiting = asyncio.ensure_future(llm.generate_async("What?", files=[tmp_path / "a.txt"]))
    while not llm._calls:
        await asyncio.sleep(0)
    await llm.aclose()
    let_go.set()
    with pytest.raises(UnsupportedOperationError):
        await waiting


class NoMilk(Attentive):
    def _check(self, request):
        if "milk" in request.messages[-1].text:
            raise UnsupportedFeatureError("files", "This provider takes no milk.")


async def test_what_a_file_makes_impossible_is_refused_before_the_request_starts(tmp_path):
    (tmp_path / "a.txt").write_text("milk")
    llm = NoMilk("fine", END)
    for files in ([tmp_path / "a.txt"], [tmp_path / "none.txt"]):
        with pytest.raises((UnsupportedFeatureError, FileProcessingError)):
            await llm.generate_async("What?", files=files)
    assert llm.heard == []


async def test_observers_see_the_request_with_its_files(tmp_path):
    (tmp_path / "a.txt").write_text("milk")
    llm = Attentive("fine", END)
    await llm.generate_async("What?", files=[tmp_path / "a.txt"])

    assert llm.heard == ["started", "finished"]
    assert all("milk" in event.request.messages[-1].text for event in llm.events)


class InLine(BaseProvider):
    """Stands in a line until the gate is open, though its first word comes at once."""

    name = "in line"

    def __init__(self):
        super().__init__()
        self.place = 3
        self.gate = threading.Event()

    def _stream(self, request, running):
        running.in_line(lambda: self.place)
        yield GenerateResponse("a")
        self.gate.wait()
        yield END


class InLineAsync(InLine):
    async def _astream(self, request, running):
        running.in_line(lambda: self.place)
        yield GenerateResponse("a")
        await asyncio.to_thread(self.gate.wait)
        yield END


@pytest.mark.parametrize("kind", [InLine, InLineAsync])
@pytest.mark.parametrize("timeout", [None, 60])
async def test_a_stream_tells_its_place_in_the_line_while_the_request_runs(kind, timeout):
    llm = kind()
    blocking = llm.generate("Hi", stream=True, timeout=timeout)
    streams = [blocking, llm.generate_async("Hi", stream=True, timeout=timeout)]
    found = [[stream.queue_position for stream in streams]]
    next(blocking)
    await streams[1]
    for llm.place in (3, 2, None):
        found.append([stream.queue_position for stream in streams])
    llm.place = 1
    llm.gate.set()
    list(blocking)
    assert [delta.content async for delta in streams[1]] == ["a", ""]
    found.append([stream.queue_position for stream in streams])
    assert found == [[None] * 2, [3] * 2, [2] * 2, [None] * 2, [None] * 2]


def test_a_stream_that_nobody_runs_in_a_line_has_no_place():
    with Sync("a", END) as llm, llm.generate("Hi", stream=True) as stream:
        assert stream.queue_position is None


class InOneStep(BaseProvider):
    """Says which way it was asked."""

    name = "in-one-step"

    async def _astream(self, request, running):
        yield GenerateResponse("deltas", finish_reason="stop", usage=Usage(1, 1))

    def _answer(self, request, running):
        return None if request.priority else self.whole()

    async def whole(self):
        return GenerateResponse("one step", finish_reason="stop", usage=Usage(1, 1))


class Rewritten(InOneStep):
    async def _astream(self, request, running):
        yield GenerateResponse("rewritten", finish_reason="stop", usage=Usage(1, 1))


async def test_a_whole_answer_comes_in_one_step_where_nothing_needs_its_deltas():
    llm = InOneStep()
    seen = []
    llm.observers.append(lambda event: seen.append(event.kind))
    assert (await llm.generate_async("Hi")).content == "one step"
    assert seen == ["started", "finished"]
    assert (await llm.generate_async("Hi", timeout=60)).content == "deltas"
    assert [delta.content async for delta in llm.generate_async("Hi", stream=True)] == ["deltas"]


async def test_a_provider_may_have_no_answer_in_one_step():
    class Sometimes(InOneStep):
        parameters = frozenset({"priority"})

    assert (await Sometimes().generate_async("Hi", priority=1)).content == "deltas"


async def test_who_writes_the_deltas_anew_inherits_no_answer_in_one_step():
    assert (await Rewritten().generate_async("Hi")).content == "rewritten"
