"""A session: what it remembers, what it answers with, and with which model."""

import asyncio

import pytest

from abstractllm import (
    Agent,
    Answer,
    FileProcessingError,
    GenerationError,
    InvalidParameterError,
    Message,
    Session,
    ToolContext,
    UnsupportedOperationError,
    UnsupportedProviderError,
    create_llm,
    register_provider,
)
from abstractllm.providers.echo import EchoProvider

from .models import Held, calling, scripted, told


@pytest.fixture(scope="module")
def mlx():
    with create_llm("mlx", max_tokens=60) as llm:
        yield llm


def get_weather(city: str) -> str:
    """Get the weather in a city.

    Args:
        city: Name of the city.
    """
    return f"hail and 12 degrees in {city}"


# What is remembered.


def test_the_model_is_shown_what_was_said():
    seen = []
    llm = create_llm("echo", replies=lambda request: seen.append(request.messages) or f"Answer {len(seen)}")
    session = Session(llm, system_prompt="Be brief.", messages=[{"role": "user", "content": "0"}])
    assert session.send("1") == "Answer 1"
    assert session.send("2") == "Answer 2"
    assert [[turn.text for turn in turns] for turns in seen] == [
        ["Be brief.", "0", "1"],
        ["Be brief.", "0", "1", "Answer 1", "2"],
    ]
    assert told(session) == ["0", "1", "Answer 1", "2", "Answer 2"]


def test_the_model_that_ships_remembers_a_name(mlx):
    session = Session(mlx)
    session.send("My name is Ana.")
    assert "Ana" in session.send("What is my name?")


async def test_the_model_that_ships_calls_tools(mlx):
    async with Session(mlx, tools=[get_weather]) as session:
        answer = await session.send_async("What is the weather in Paris?")
    assert [message.role for message in session.messages] == ["user", "assistant", "tool", "assistant"]
    assert session.messages[2].text == "hail and 12 degrees in Paris"
    assert "12" in answer
    assert answer.result.turns == 2


def test_tools_get_deps_and_files_are_read(tmp_path):
    def whose(context: ToolContext) -> str:
        return f"of {context.deps}"

    (tmp_path / "a.txt").write_text("inside")
    session = Session(scripted(calling("whose"), "Good."), tools=[whose])
    assert session.send("Look", files=[tmp_path / "a.txt"], deps="Ana") == "Good."
    assert "inside" in session.messages[0].text
    assert session.messages[2].text == "of Ana"


def test_an_answer_knows_its_result():
    answer = Session("echo").send("Hi there")
    assert isinstance(answer, Answer)
    assert answer.result.usage.completion_tokens == 2
    assert answer.result.stop == "end"


def test_clear():
    session = Session("echo")
    session.send("Hi")
    session.clear()
    assert session.messages == ()
    assert session.send("Again") == "Again"


def test_a_fork_goes_on_alone():
    session = Session("echo", system_prompt="Be brief.")
    session.send("Hi")
    other = session.fork()
    other.send("Ho")
    session.send("Ha")
    assert (told(session), told(other)) == (["Hi", "Hi", "Ha", "Ha"], ["Hi", "Hi", "Ho", "Ho"])
    assert other.id != session.id
    assert other.agent is session.agent


def test_what_fails_is_not_kept():
    session = Session(scripted("One.", ValueError("lost"), "Two."))
    session.send("1")
    with pytest.raises(GenerationError, match="lost"):
        session.send("no")
    assert told(session) == ["1", "One."]
    session.send("2")
    assert told(session) == ["1", "One.", "2", "Two."]


def test_a_file_that_is_not_there_is_no_turn(tmp_path):
    session = Session("echo")
    with pytest.raises(FileProcessingError):
        session.send("Look", files=[tmp_path / "no.txt"])
    assert session.messages == ()
    assert session.send("Hi") == "Hi"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({}, "prompt"),
        ({"prompt": " "}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": "Hi", "llm": 5}, "llm"),
        ({"approvals": {"a": True}}, "prompt"),
    ],
)
def test_what_cannot_be_right_is_said_at_the_call(arguments, name):
    session = Session("echo")
    for send in (session.send, session.send_async, session.stream):
        with pytest.raises(InvalidParameterError) as caught:
            send(**arguments)
        assert caught.value.parameter == name


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"llm": 5}, "llm"),
        ({"llm": "echo", "id": ""}, "id"),
        ({"llm": "echo", "id": 5}, "id"),
        ({"llm": "echo", "tools": get_weather}, "tools"),
        ({"llm": "echo", "max_tokens": 0}, "trim"),
        ({"llm": "echo", "max_tokens": 5, "trim": 6}, "max_tokens"),
        ({"llm": "echo", "system_prompt": "a", "instructions": "b"}, "system_prompt"),
        ({"llm": Agent("echo"), "system_prompt": "a"}, "system_prompt"),
        ({"llm": Agent("echo"), "tools": [get_weather]}, "tools"),
        ({"llm": Agent("echo"), "tool_timeout": None}, "tool_timeout"),
        ({"llm": "echo", "messages": [5]}, "messages"),
    ],
)
def test_what_cannot_be_a_session(arguments, name):
    with pytest.raises(InvalidParameterError) as caught:
        Session(**arguments)
    assert caught.value.parameter == name


def test_an_agent_without_more_is_a_session():
    agent = Agent("echo", instructions="Be brief.")
    session = Session(agent, tools=[])
    assert session.agent is agent
    session.close()
    assert agent.run("Hi").text == "Hi"  # whoever made it closes it


def test_settings_are_the_agents():
    session = Session("echo", max_tokens=1000, tool_timeout=None, name="helper", temperature=0.5)
    assert session.agent.name == "helper"
    assert session.send("Hi") == "Hi"


# Replies.


async def test_a_reply_is_awaited_and_iterated_and_asked_once():
    session = Session(scripted("One two.", "Three."))
    reply = session.send_async("Go")
    assert [piece async for piece in reply] == ["One ", "two."]
    assert await reply == await reply == "One two."
    assert [piece async for piece in reply] == [piece async for piece in await reply] == ["One ", "two."]
    assert told(session) == ["Go", "One two."]
    assert await session.send_async("On") == "Three."


async def test_replies_are_gathered_and_made_tasks():
    session = Session("echo")
    task = asyncio.create_task(session.send_async("0"))
    await asyncio.sleep(0)
    assert await asyncio.gather(*(session.send_async(str(number)) for number in range(1, 5))) == ["1", "2", "3", "4"]
    assert await task == "0"
    assert told(session)[::2] == ["0", "1", "2", "3", "4"]


def test_a_blocking_stream():
    session = Session(scripted("One two.", "Three."))
    stream = session.send("Go", stream=True)
    assert session.messages == ()  # nothing starts before it is read
    assert list(stream) == list(stream) == ["One ", "two."]
    assert told(session) == ["Go", "One two."]


def test_events_of_a_turn():
    with Session(scripted("One two.")).stream("Go") as run:
        kinds = [type(event).__name__ for event in run]
    assert kinds == ["RunStarted", "TextDelta", "TextDelta", "TurnFinished", "RunFinished"]


def test_asyncio_run_takes_a_reply():
    assert asyncio.run(Session("echo").send_async("Hi")) == "Hi"


async def test_a_blocking_send_inside_a_running_loop():
    session = Session(scripted("One.", "Two.", "Three."))
    assert session.send("1") == "One."
    assert list(session.send("2", stream=True)) == ["Two."]
    assert [piece async for piece in session.send("3", stream=True)] == ["Three."]
    assert told(session) == ["1", "One.", "2", "Two.", "3", "Three."]


async def test_a_blocking_send_is_refused_where_it_would_wait_for_ever():
    held = Held()
    session = Session(held)
    task = asyncio.create_task(session.send_async("hold"))
    await asyncio.to_thread(held.speaks.wait, 10)
    for blocking in (lambda: session.send("Hi"), lambda: session.send("Hi", stream=True), session.clear):
        with pytest.raises(UnsupportedOperationError, match="send_async"):
            blocking()
    in_a_thread = asyncio.create_task(asyncio.to_thread(session.send, "Hi"))
    held.go.set()
    assert await task == await in_a_thread == "Well, then."
    held.close()


# Which model answers.


class Counted(EchoProvider):
    """An echo that counts its objects, those made and those open."""

    name = "counted"
    made = 0
    open = 0

    def __init__(self, config=None):
        super().__init__(config)
        type(self).made += 1
        type(self).open += 1

    def close(self):
        super().close()
        type(self).open -= 1


@pytest.fixture
def counted():
    Counted.made = Counted.open = 0
    register_provider("counted", Counted, replace=True)


@pytest.mark.usefixtures("counted")
def test_another_model_answers_one_turn():
    other = scripted("Other.", "Still open.")
    with Session(scripted("Own.", "Own again."), system_prompt="Be brief.", tools=[get_weather]) as session:
        assert session.send("1") == "Own."
        assert session.send("2", llm=other) == "Other."
        assert session.send("3", llm="counted") == session.send("3", llm="counted") == "3"
        assert asyncio.run(session.send_async("4", llm="counted")) == "4"
        assert session.send("5") == "Own again."
        assert (Counted.made, Counted.open) == (1, 1)
    assert Counted.open == 0
    assert other.generate("Hi").content == "Still open."
    assert len(session.messages) == 12


@pytest.mark.usefixtures("counted")
async def test_models_made_here_are_closed_here():
    mine = Counted()
    async with Session("counted") as session, Session(mine) as other:
        await session.send_async("Hi", llm="counted?temperature=0.5")
        await other.send_async("Hi")
    assert (Counted.made, Counted.open) == (3, 1)
    assert mine.generate("Hi").content == "Hi"


@pytest.mark.usefixtures("counted")
async def test_threads_that_ask_at_once_make_a_model_once():
    session = Session("echo")
    ask = [asyncio.to_thread(session.send, "Hi", llm="counted") for _ in range(8)]
    assert await asyncio.gather(*ask) == ["Hi"] * 8
    assert Counted.made == 1


def test_another_agent_answers_one_turn():
    seen = []
    poet = Agent(create_llm("echo", replies=lambda request: seen.append(request) or "Rhyme."), instructions="Rhyme.")
    session = Session("echo", system_prompt="Be brief.")
    session.send("Hi")
    assert session.send("Go", llm=poet) == "Rhyme."
    assert [message.text for message in seen[0].messages] == ["Rhyme.", "Hi", "Hi", "Go"]
    assert told(session) == ["Hi", "Hi", "Go", "Rhyme."]


def test_a_model_that_cannot_be_made_is_no_turn():
    session = Session("echo")
    with pytest.raises(UnsupportedProviderError, match="nosuch"):
        session.send("Hi", llm="nosuch:x")
    assert session.send("Hi") == "Hi"


# What the model is shown.


def test_turns_go_when_there_are_too_many_tokens():
    """The echo counts words; the system prompt is among them, and stays."""
    seen = []
    llm = create_llm("echo", replies=lambda request: seen.append([turn.text for turn in request.messages]) or "a b")
    session = Session(llm, system_prompt="Be brief.", max_tokens=8)
    for prompt in ("one", "two", "three", "a b c d e f g h"):
        session.send(prompt)
    assert seen == [
        ["Be brief.", "one"],
        ["Be brief.", "one", "a b", "two"],
        ["Be brief.", "two", "a b", "three"],
        ["Be brief.", "a b c d e f g h"],
    ]
    assert len(session.messages) == 8


async def test_the_model_that_ships_counts_its_own_tokens(mlx):
    unlimited = Session(mlx, system_prompt="Be brief.", tools=[get_weather])
    most = mlx.count_tokens([Message("system", "Be brief."), Message("user", "Say hello to Ana.")], [get_weather]) + 30
    session = Session(mlx, system_prompt="Be brief.", max_tokens=most, tools=[get_weather])
    for prompt in ("Say hello to Ana.", "Say hello to Bob.", "Say hello to Eva."):
        answer = await session.send_async(prompt)
        longer = await unlimited.send_async(prompt)
    assert answer.result.usage.prompt_tokens <= most < longer.result.usage.prompt_tokens
    assert len(session.messages) == 6


def test_a_model_that_cannot_count_says_so_at_once():
    with pytest.raises(InvalidParameterError, match="Held cannot count tokens") as caught:
        Session(Held(), max_tokens=50)
    assert caught.value.parameter == "trim"
    counted = Session("echo", max_tokens=50)
    with pytest.raises(InvalidParameterError, match="Held cannot count tokens"):
        counted.send("Hi", llm=Held())
    assert counted.send("Hi") == "Hi"
    own = Session(Held(), trim=lambda messages: messages[-1:])
    assert own.send("Hi") == "Well, then."
