"""Batches: every prompt gets its item, in order, with at most so many at once, however the batch ends."""

from __future__ import annotations

import asyncio
import io
import itertools
import signal
import sys
import threading

import pytest
from hypothesis import given, settings, strategies as st

from abstractllm import AbstractLLMInterface, BatchItem, BatchProgress, create_llm
from abstractllm.errors import AbstractLLMError, GenerationError, InvalidParameterError, ProviderAPIError
from abstractllm.progressline import ProgressLine, line
from abstractllm.providers.base import BaseProvider
from abstractllm.providers.echo import EchoProvider, Reply
from abstractllm.types import GenerateResponse, Message


def batch_of(face, llm, prompts, **arguments):
    """Run a batch through one of its two faces."""
    if face == "sync":
        return llm.generate_batch(prompts, **arguments)
    return asyncio.run(llm.generate_batch_async(prompts, **arguments))


FACES = pytest.mark.parametrize("face", ["sync", "async"])


class Tasks(BaseProvider):
    """Counts what runs at once, in tasks; answers with the prompt, or does what `script` says for it."""

    name = "tasks"
    parameters = frozenset({"max_tokens", "temperature"})

    def __init__(self, script=None):
        super().__init__()
        self.script = script
        self.running = self.most = self.cancelled = 0
        self.started = []

    async def _astream(self, request, call):
        text = request.messages[-1].text
        self.running += 1
        self.most = max(self.most, self.running)
        self.started.append(text)
        try:
            await (self.script(text) if self.script else asyncio.sleep(0))
            yield GenerateResponse(text, finish_reason="stop")
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


# Items.


@FACES
def test_items_are_in_order_whatever_ends_first(face):
    async def backwards(text):
        for _ in range(40 - int(text)):
            await asyncio.sleep(0)

    llm = Tasks(backwards)
    items = batch_of(face, llm, [str(number) for number in range(40)], concurrency=40)
    assert [item.index for item in items] == list(range(40))
    assert [item.unwrap().content for item in items] == [str(number) for number in range(40)]


@FACES
def test_an_error_is_its_items_alone(face):
    failure = ProviderAPIError("Broken.", status_code=500)
    llm = EchoProvider(replies=lambda request: Reply(error=failure) if request.messages[-1].text == "b" else "fine")
    first, second, third = batch_of(face, llm, ["a", "b", "c"])
    assert (first.response.content, third.response.content) == ("fine", "fine")
    assert first.error is third.error is second.response is None
    assert second.error is failure
    with pytest.raises(ProviderAPIError, match="Broken"):
        second.unwrap()


@FACES
def test_a_prompt_is_text_a_conversation_or_arguments(face):
    seen = []

    def script(request):
        seen.append(([(turn.role, turn.text) for turn in request.messages], request.max_tokens, request.temperature))
        return "ok"

    prompts = [
        "text",
        [Message("user", "one"), {"role": "assistant", "content": "two"}, {"role": "user", "content": "three"}],
        {"prompt": "own", "max_tokens": 9, "system_prompt": "Other."},
    ]
    llm = EchoProvider(replies=script)
    items = batch_of(face, llm, prompts, concurrency=1, system_prompt="Be.", max_tokens=5, temperature=0)
    assert all(item.error is None for item in items)
    assert seen == [
        ([("system", "Be."), ("user", "text")], 5, 0),
        ([("system", "Be."), ("user", "one"), ("assistant", "two"), ("user", "three")], 5, 0),
        ([("system", "Other."), ("user", "own")], 9, 0),
    ]


def test_prompts_may_share_a_conversation_and_files(tmp_path):
    (tmp_path / "note.txt").write_text("noted")
    said = []
    llm = EchoProvider(replies=lambda request: said.append([turn.text for turn in request.messages]) or "ok")
    earlier = [{"role": "user", "content": "Before"}, {"role": "assistant", "content": "Yes"}]
    items = llm.generate_batch(["x", "y"], concurrency=1, messages=earlier, files=[tmp_path / "note.txt"])
    assert [item.error for item in items] == [None, None]
    assert [turns[:2] for turns in said] == [["Before", "Yes"]] * 2
    assert all("noted" in turns[2] for turns in said)
    assert [turns[2][-1] for turns in said] == ["x", "y"]


@FACES
def test_what_is_no_prompt_is_that_items_error(face):
    bad = [7, None, "", [], {"prompt": "x", "stream": True}, {"prompt": "x", "heat": 1}, {1: 2}]
    items = batch_of(face, EchoProvider(), [*bad, "fine"])
    assert [type(item.error) for item in items[:-2]] == [InvalidParameterError] * 6
    assert isinstance(items[-2].error, TypeError)
    assert items[-1].unwrap().content == "fine"
    assert "prompts[0] is a int" in str(items[0].error)


@pytest.mark.parametrize(
    ("arguments", "parameter"),
    [
        ({"prompts": "one text"}, "prompts"),
        ({"prompts": {"prompt": "x"}}, "prompts"),
        ({"prompts": None}, "prompts"),
        ({"prompts": ["x"], "concurrency": 0}, "concurrency"),
        ({"prompts": ["x"], "concurrency": True}, "concurrency"),
        ({"prompts": ["x"], "concurrency": 2.0}, "concurrency"),
        ({"prompts": ["x"], "progress": "yes"}, "progress"),
        ({"prompts": ["x"], "stream": False}, "stream"),
    ],
)
def test_wrong_arguments_are_refused_at_the_call(arguments, parameter):
    llm = Tasks()
    for generate in (llm.generate_batch, llm.generate_batch_async):
        with pytest.raises(InvalidParameterError) as caught:
            generate(**arguments)
        assert caught.value.parameter == parameter
    assert llm.started == []


@FACES
def test_no_prompts_give_no_items(face):
    assert batch_of(face, Tasks(), []) == []
    assert batch_of(face, Tasks(), iter(())) == []


@settings(max_examples=25)
@given(
    outcomes=st.lists(st.booleans(), max_size=25),
    concurrency=st.integers(1, 9),
    face=st.sampled_from(["sync", "async"]),
)
def test_as_many_items_as_prompts_and_never_too_many_at_once(outcomes, concurrency, face):
    async def script(text):
        await asyncio.sleep(0)
        if not outcomes[int(text)]:
            raise ProviderAPIError(text)

    llm = Tasks(script)
    items = batch_of(face, llm, (str(number) for number in range(len(outcomes))), concurrency=concurrency)
    assert [item.error is None for item in items] == outcomes
    assert [item.index for item in items] == list(range(len(outcomes)))
    assert llm.most <= concurrency
    assert llm.running == 0


@FACES
def test_as_many_run_at_once_as_may(face):
    """Each answer waits until four are there, which only works if four are in flight."""
    four = threading.Barrier(4)

    def script(request):
        four.wait(timeout=60)
        return "met"

    items = batch_of(face, EchoProvider(replies=script), ["x"] * 8, concurrency=4)
    assert [item.unwrap().content for item in items] == ["met"] * 8


# Iterables.


@FACES
def test_prompts_are_drawn_as_there_is_room_in_the_callers_thread(face):
    llm = Tasks()
    drawn_in, ahead = set(), []

    def prompts():
        for number in range(20):
            drawn_in.add(threading.get_ident())
            ahead.append(number - (len(llm.started) - llm.running))
            yield str(number)

    assert len(batch_of(face, llm, prompts(), concurrency=3)) == 20
    assert drawn_in == {threading.get_ident()}
    assert max(ahead) <= 3


@FACES
def test_an_error_of_the_iterable_ends_the_batch(face):
    async def forever(text):
        await asyncio.Event().wait()

    def prompts():
        yield "a"
        yield "b"
        raise OSError("the file is gone")

    llm = Tasks(forever)
    with pytest.raises(OSError, match="the file is gone"):
        batch_of(face, llm, prompts())
    assert llm.running == 0
    assert llm.cancelled == len(llm.started)


def test_the_iterable_may_itself_ask_a_model():
    llm, other = Tasks(), Tasks()
    prompts = (other.generate(f"make {number}").content for number in range(3))
    assert [item.unwrap().content for item in llm.generate_batch(prompts)] == ["make 0", "make 1", "make 2"]


# Ends.


async def test_cancelling_ends_everything():
    held = asyncio.Event()

    async def hold(text):
        if len(llm.started) == 3:
            held.set()
        await asyncio.Event().wait()

    llm = Tasks(hold)
    batch = asyncio.create_task(llm.generate_batch_async(itertools.repeat("x"), concurrency=3))
    await held.wait()
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch
    assert llm.cancelled == 3
    assert llm.running == 0


def test_an_interrupt_ends_everything():
    async def hold(text):
        if len(llm.started) == 3:
            signal.pthread_kill(main, signal.SIGINT)
        await asyncio.Event().wait()

    main = threading.main_thread().ident
    llm = Tasks(hold)
    with pytest.raises(KeyboardInterrupt):
        llm.generate_batch(itertools.repeat("x"), concurrency=3)
    assert llm.cancelled == 3
    assert llm.running == 0


@FACES
@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), ZeroDivisionError()], ids=repr)
def test_whatever_a_plugin_raises_is_its_items_error(face, error):
    class Plugin(AbstractLLMInterface):
        def generate(self, prompt=None, **params):
            raise NotImplementedError

        async def generate_async(self, prompt=None, **params):
            await asyncio.sleep(0)
            if prompt == "bad":
                raise error
            return GenerateResponse(prompt, finish_reason="stop")

    bad, good = batch_of(face, Plugin(), ["bad", "good"])
    assert good.unwrap().content == "good"
    if isinstance(error, asyncio.CancelledError):
        assert isinstance(bad.error, GenerationError)
    else:
        assert bad.error is error


def test_a_closed_provider_gives_items_with_errors():
    llm = Tasks()
    llm.close()
    (item,) = llm.generate_batch(["x"])
    assert isinstance(item.error, AbstractLLMError)


async def test_the_sync_face_works_inside_a_running_loop():
    assert len(Tasks().generate_batch(["a", "b"])) == 2


# Progress.


@FACES
def test_a_function_hears_of_each_item_in_the_callers_thread(face):
    failure = ProviderAPIError("no")
    heard, threads = [], set()

    def hear(progress):
        heard.append(progress)
        threads.add(threading.get_ident())

    llm = EchoProvider(replies=["a", Reply(error=failure), "c"])
    items = batch_of(face, llm, ["1", "2", "3"], concurrency=1, progress=hear)
    assert heard == [
        BatchProgress(items[0], 1, 0, 3),
        BatchProgress(items[1], 2, 1, 3),
        BatchProgress(items[2], 3, 1, 3),
    ]
    assert threads == {threading.get_ident()}
    assert items[1] == BatchItem(1, error=failure)


@FACES
def test_the_total_is_unknown_where_prompts_have_no_length(face):
    totals = []
    batch_of(face, Tasks(), iter(["a"]), progress=lambda progress: totals.append(progress.total))
    assert totals == [None]


@FACES
def test_an_error_of_the_function_ends_the_batch(face):
    llm = Tasks()
    with pytest.raises(ZeroDivisionError):
        batch_of(face, llm, itertools.repeat("x"), progress=lambda progress: 1 / 0)
    assert llm.running == 0


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_line_is_drawn_on_a_terminal_and_ends(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    Tasks().generate_batch(["x"] * 3, progress=True)
    assert sys.stderr.getvalue().startswith("\r[")
    assert sys.stderr.getvalue().endswith("] 3/3\n")


def test_no_line_where_there_is_no_terminal_or_none_was_asked_for(capsys, monkeypatch):
    Tasks().generate_batch(["x"], progress=True)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys, "stderr", Terminal())
    Tasks().generate_batch(["x"])
    assert sys.stderr.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", None)  # a program without a console
    assert len(Tasks().generate_batch(["x"], progress=True)) == 1


def test_what_the_line_says():
    assert line(0, 0, 4) == f"[{'.' * 30}] 0/4"
    assert line(2, 1, 4) == f"[{'#' * 15}{'.' * 15}] 2/4, 1 failed"
    assert line(4, 0, 4) == f"[{'#' * 30}] 4/4"
    assert line(7, 2, None) == "7 done, 2 failed"
    ProgressLine(0).end()


# A model.


def test_requests_of_a_batch_share_the_models_batch():
    """The model's thread is held until all four requests have started, which they can only do together."""
    pytest.importorskip("mlx.core")
    from abstractllm.providers.mlx.worker import mlx_thread

    all_started, started = threading.Event(), []

    def observe(event):
        if event.kind == "started":
            started.append(event.request.messages[-1].text)
            if len(started) == 4:
                all_started.set()

    prompts = [f"Say the number {number}." for number in range(4)]
    with create_llm("mlx", max_tokens=6, temperature=0, deterministic=True) as llm:
        alone = [llm.generate(prompt).content for prompt in prompts]
        llm.observers.append(observe)
        held = mlx_thread().run(lambda: all_started.wait(timeout=60))
        items = llm.generate_batch(prompts, concurrency=4)
        assert held.result(), "they did not run together"
    assert [item.unwrap().content for item in items] == alone
