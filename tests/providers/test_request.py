"""From what a user passes to a checked request, and an instance's configuration from its sources."""

import pytest
from hypothesis import given, strategies as st

from abstractllm.errors import FileProcessingError, InvalidParameterError, UnsupportedFeatureError
from abstractllm.providers.echo import EchoProvider
from abstractllm.providers.request import build_request, instance_config
from abstractllm.types import GenerateRequest, Message, TextPart, Timeout, ToolDefinition

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def look_up(word: str):
    """Look up a word."""


def build(prompt=None, system_prompt=None, files=None, stream=False, tools=None, config=None, **params):
    return build_request(config or {}, prompt, system_prompt, files, stream, tools, params)


def roles(request):
    return [message.role for message in request.messages]


def refusal(*args, **kwargs):
    with pytest.raises(InvalidParameterError) as caught:
        build(*args, **kwargs)
    return caught.value.parameter


# Conversations.


def test_a_prompt_is_the_user_turn():
    assert build("Hi") == GenerateRequest((Message("user", "Hi"),))


def test_the_system_prompt_goes_first():
    assert build("Hi", "Be brief").messages == (Message("system", "Be brief"), Message("user", "Hi"))
    assert roles(build(None, "Be brief", messages=TURNS)) == ["system", "user", "assistant"]


def test_a_prompt_beside_messages_is_the_last_turn():
    request = build("And now?", messages=TURNS)
    assert [message.content for message in request.messages] == ["Hi", "Hello", "And now?"]


def test_the_system_prompt_of_the_configuration_gives_way():
    config = {"system_prompt": "Default"}
    assert build("Hi", config=config).messages[0].content == "Default"
    assert build("Hi", "Own", config=config).messages[0].content == "Own"
    assert roles(build("Hi", "", config=config)) == ["user"]
    own = [{"role": "system", "content": "Own"}]
    assert [message.content for message in build("Hi", messages=own, config=config).messages] == ["Own", "Hi"]


@pytest.mark.parametrize("prompt", [None, "", " \n", 3, b"Hi", ["Hi"]])
def test_a_prompt_must_be_a_text(prompt):
    assert refusal(prompt) == "prompt"


@pytest.mark.parametrize("prompt", ["", 3])
def test_a_prompt_beside_messages_must_be_a_text_too(prompt):
    assert refusal(prompt, messages=TURNS) == "prompt"


@pytest.mark.parametrize("system_prompt", [3, b"x", ["x"]])
def test_a_system_prompt_must_be_a_text(system_prompt):
    assert refusal("Hi", system_prompt) == "system_prompt"
    assert refusal("Hi", config={"system_prompt": system_prompt}) == "system_prompt"


@pytest.mark.parametrize("messages", [[], "Hi", {}, 3])
def test_messages_must_be_a_conversation(messages):
    assert refusal(messages=messages) == "messages"


EMPTY = ["", " \n", (), [], (TextPart(" "),), [{"type": "text", "text": ""}]]


@pytest.mark.parametrize("content", EMPTY)
def test_a_last_turn_that_is_empty_is_refused_as_an_empty_prompt_is(content):
    assert refusal(messages=[*TURNS, {"role": "user", "content": content}]) == "messages"
    assert refusal(messages=[Message("user", content)]) == "messages"


def test_an_empty_turn_elsewhere_is_taken():
    turns = [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}]
    assert roles(build(messages=turns)) == ["user", "assistant"]
    assert build("Hi", messages=turns).messages[-1].text == "Hi"


# Files.


@pytest.fixture
def notes(tmp_path):
    path = tmp_path / "notes.md"
    path.write_text("# Notes")
    return path


def test_files_come_before_the_text_of_the_last_turn(notes):
    *_, last = build("Sum up", files=[notes], messages=TURNS).messages
    assert last.role == "user"
    assert [part.name for part in last.content] == ["notes.md", None]
    assert last.content[1] == TextPart("Sum up")
    assert "# Notes" in last.text


def test_files_join_the_parts_of_a_turn(notes):
    turn = {"role": "user", "content": [{"type": "text", "text": "Sum up"}]}
    (message,) = build(files=[notes], messages=[turn]).messages
    assert [part.name for part in message.content] == ["notes.md", None]


def test_a_file_is_enough_for_an_empty_turn(notes):
    (message,) = build(files=[notes], messages=[{"role": "user", "content": ""}]).messages
    assert message.content[0].name == "notes.md"


def test_no_files_change_nothing():
    assert build("Hi", files=[]) == build("Hi", files=()) == build("Hi")


def test_files_need_a_user_turn(notes):
    assert refusal(files=[notes], messages=TURNS) == "files"


@pytest.mark.parametrize("files", ["", "notes.md", 3])
def test_files_must_be_a_list(files):
    assert refusal("Hi", files=files) == "files"


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileProcessingError):
        build("Hi", files=[tmp_path / "none.md"])


# Tools and parameters.


def test_tools_become_definitions():
    (tool,) = build("Hi", tools=[look_up]).tools
    assert isinstance(tool, ToolDefinition)
    assert (tool.name, tool.function) == ("look_up", look_up)
    assert build("Hi", tools=[]).tools == ()


@pytest.mark.parametrize("tools", ["", "look_up", {}, look_up, 0])
def test_tools_must_be_a_list(tools):
    assert refusal("Hi", tools=tools) == "tools"


@pytest.mark.parametrize("choice", ["auto", "none", "required", "look_up"])
def test_a_choice_of_tools(choice):
    assert build("Hi", tools=[look_up], tool_choice=choice).tool_choice == choice


@pytest.mark.parametrize(("choice", "tools"), [("required", None), ("look_up", None), ("look_down", [look_up])])
def test_a_choice_that_no_tool_can_fulfil(choice, tools):
    assert refusal("Hi", tools=tools, tool_choice=choice) == "tool_choice"


def test_the_call_beats_the_configuration():
    config = {"temperature": 0.5, "max_tokens": 5, "model": "m"}
    request = build("Hi", config=config, temperature=0, max_tokens=None)
    assert (request.temperature, request.max_tokens) == (0.0, 5)


def test_options_are_merged():
    request = build("Hi", config={"options": {"a": 1, "b": 1}}, options={"b": 2})
    assert request.options == {"a": 1, "b": 2}


def test_parameters_get_their_normal_form():
    request = build("Hi", stop="END", timeout=3, logit_bias={"1": 2})
    assert (request.stop, request.timeout, request.logit_bias) == (("END",), Timeout(total=3.0), {1: 2.0})


@pytest.mark.parametrize(
    ("params", "parameter"),
    [
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temprature": 1}, "temprature"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"model": "other"}, "model"),
    ],
)
def test_bad_parameters(params, parameter):
    assert refusal("Hi", **params) == parameter


def test_top_logprobs_go_with_logprobs():
    assert build("Hi", logprobs=True, top_logprobs=2).top_logprobs == 2


@given(st.text(), st.none() | st.text(), st.booleans())
def test_any_text_is_kept_character_for_character(prompt, system_prompt, stream):
    if not prompt.strip():
        assert refusal(prompt) == "prompt"
        return
    request = build(prompt, system_prompt, stream=stream)
    assert request.messages[-1].text == prompt
    assert request.stream is stream
    assert roles(request) == (["system", "user"] if system_prompt else ["user"])


# Configuration.


def test_an_instance_takes_given_then_environment_then_defaults(monkeypatch):
    assert instance_config(EchoProvider, {})["model"] == "echo"
    monkeypatch.setenv("ABSTRACTLLM_ECHO_MODEL", "from-env")
    monkeypatch.setenv("ABSTRACTLLM_ECHO_TEMPERATURE", "0.5")
    assert instance_config(EchoProvider, {}) == {"model": "from-env", "temperature": 0.5}
    assert instance_config(EchoProvider, {"model": "given", "temperature": None}) == {
        "model": "given",
        "temperature": 0.5,
    }


def test_text_in_the_environment_stays_text(monkeypatch):
    monkeypatch.setenv("ABSTRACTLLM_ECHO_SYSTEM_PROMPT", "42")
    monkeypatch.setenv("ABSTRACTLLM_ECHO_STOP", "1")
    config = instance_config(EchoProvider, {})
    assert (config["system_prompt"], config["stop"]) == ("42", ("1",))


def test_a_bad_value_in_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv("ABSTRACTLLM_ECHO_TEMPERATURE", "hot")
    with pytest.raises(InvalidParameterError, match="temperature='hot'.*variable ABSTRACTLLM_ECHO_TEMPERATURE"):
        EchoProvider()
    with pytest.raises(InvalidParameterError, match="temperature='mild'") as caught:
        EchoProvider(temperature="mild")
    assert "ABSTRACTLLM" not in str(caught.value)


def test_a_parameter_that_the_provider_lacks_is_refused():
    with pytest.raises(UnsupportedFeatureError, match="'top_k'") as caught:
        instance_config(EchoProvider, {"top_k": 3})
    assert (caught.value.feature, caught.value.provider) == ("top_k", "echo")


def test_an_unknown_setting_is_refused_with_a_hint():
    with pytest.raises(InvalidParameterError, match="Did you mean 'replies'"):
        instance_config(EchoProvider, {"reply": 3})


def test_timeouts_and_options_are_for_every_provider():
    config = instance_config(Optional, {"timeout": 3, "options": {"a": 1}})
    assert (config["timeout"], config["options"]) == (Timeout(total=3.0), {"a": 1})


class Optional(EchoProvider):
    options = frozenset({"a"})


def test_an_option_that_the_provider_lacks_is_refused_at_construction_as_at_the_call():
    with pytest.raises(UnsupportedFeatureError, match="no option 'b'; its options are: a") as caught:
        Optional(options={"b": 1})
    with pytest.raises(UnsupportedFeatureError) as at_the_call:
        Optional().generate("Hi", options={"b": 1})
    assert str(caught.value) == str(at_the_call.value)
    assert caught.value.feature == at_the_call.value.feature == "options.b"


@pytest.mark.parametrize(
    ("name", "value"), [("system_prompt", 3), ("system_prompt", b"x"), ("model", 3), ("model", b"m"), ("model", ["m"])]
)
def test_a_setting_that_must_be_text_is_refused_at_construction(name, value):
    with pytest.raises(InvalidParameterError, match="must be a string") as caught:
        EchoProvider({name: value})
    assert caught.value.parameter == name


def test_a_path_is_taken_for_a_model(tmp_path):
    assert instance_config(EchoProvider, {"model": tmp_path})["model"] == str(tmp_path)
    assert EchoProvider(model=tmp_path).generate("Hi").model == str(tmp_path)
