"""The exception tree: as it is drawn, what it can be caught as, and what its messages say."""

import copy
import inspect
import pickle
import re

import pytest
from hypothesis import given, strategies as st

from abstractllm import errors
from abstractllm.agent import Result
from abstractllm.errors import AbstractLLMError, InvalidParameterError, ToolArgumentError, did_you_mean, shown
from abstractllm.types import GenerateResponse, Usage


def drawn_parents():
    """Read the drawing: the name of each class and of the class it hangs from."""
    parents, path = {}, []
    for line in errors.__doc__.splitlines():
        found = re.match(r"    ((?:[│ ]   )*)(?:[├└]── )?([A-Z]\w+Error)\b", line)
        if found is None:
            continue
        depth = len(found[1]) // 4 + ("──" in line)
        path = [*path[:depth], found[2]]
        assert found[2] not in parents
        parents[found[2]] = path[depth - 1] if depth else None
    return parents


def defined_errors():
    return {
        name: one
        for name, one in vars(errors).items()
        if inspect.isclass(one) and issubclass(one, AbstractLLMError) and one.__module__ == errors.__name__
    }


def test_the_drawing_is_the_tree():
    real = {name: one.__bases__[0].__name__ for name, one in defined_errors().items()}
    real["AbstractLLMError"] = None
    assert drawn_parents() == real


def test_what_the_drawing_says_about_other_bases_is_true():
    notes = dict(re.findall(r"(\w+Error) .*\(also an? (\w+)\)", errors.__doc__))
    assert notes == {
        "MissingDependencyError": "ImportError",
        "InvalidRequestError": "ValueError",
        "RequestTimeoutError": "TimeoutError",
        "MemoryLimitError": "MemoryError",
    }
    for name, base in notes.items():
        assert issubclass(defined_errors()[name], getattr(__import__("builtins"), base))


def test_every_error_has_a_documented_exit_code():
    codes = {one.exit_code for one in defined_errors().values()}
    assert codes == {1, 2, 3, 4, 5, 6, 7, 8}
    assert all(one.__doc__ for one in defined_errors().values())


def test_the_provider_stands_before_the_message():
    error = AbstractLLMError("It broke.", provider="echo")
    assert (str(error), error.message, error.provider) == ("[echo] It broke.", "It broke.", "echo")
    assert str(AbstractLLMError("It broke.")) == "It broke."


def test_a_parameter_error_names_its_parameter():
    error = InvalidParameterError("top_p", "top_p is wrong.")
    assert error.parameter == "top_p"
    assert isinstance(error, ValueError)


def test_a_tool_argument_error_lists_its_problems_in_lines():
    error = ToolArgumentError("look_up", ["a: is missing", "b: is not a number"])
    assert error.tool == "look_up"
    assert str(error).splitlines()[1:] == ["- a: is missing", "- b: is not a number"]


def finished(text: str) -> Result:
    return Result(text, text, (), (), Usage(), 1, "end")


ARGUMENTS = {
    "parameter": st.text(),
    "context_window": st.integers(),
    "prompt_tokens": st.integers(),
    "path": st.text(),
    "tool": st.text(),
    "problems": st.lists(st.text()),
    "feature": st.text(),
    "searched": st.lists(st.text()),
    "status_code": st.none() | st.integers(),
    "request_id": st.none() | st.text(),
    "retry_after": st.none() | st.floats(allow_nan=False),
    "response": st.none() | st.builds(GenerateResponse, st.text()),
    "limit": st.text(),
    "result": st.none() | st.builds(finished, st.text()),
    "length": st.none() | st.integers(),
    "message": st.text(),
    "provider": st.none() | st.text(),
}


@st.composite
def any_error(draw):
    kind = draw(st.sampled_from(sorted(defined_errors().values(), key=lambda one: one.__name__)))
    names = [name for name in inspect.signature(kind.__init__).parameters if name != "self"]
    return kind(**{name: draw(ARGUMENTS[name]) for name in names})


@given(any_error())
def test_every_error_can_be_pickled_and_copied_whole(error):
    error.add_note("a note")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))


@pytest.mark.parametrize("kind", [errors.MemoryLimitError, type("Derived", (errors.MemoryLimitError,), {})])
def test_an_error_with_a_built_in_base_that_makes_itself_can_be_copied(kind):
    again = copy.copy(kind("too large", provider="mlx"))
    assert (type(again), str(again)) == (kind, "[mlx] too large")


def test_a_built_in_bases_own_attributes_survive_too():
    assert pickle.loads(pickle.dumps(errors.MissingDependencyError("Install it."))).msg == "Install it."


def test_install_command_names_our_distribution():
    assert errors.install_command("mlx") == 'pip install "abstractllm-mlx[mlx]"'


def test_did_you_mean():
    assert did_you_mean("temprature", ["temperature", "top_p"]) == " Did you mean 'temperature'?"
    assert did_you_mean("xyz", ["temperature", "top_p"]) == ""


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("value", [10**5000, nested(100_000)], ids=["huge integer", "deep list"])
def test_a_value_that_python_cannot_show_is_described(value):
    assert shown(value).endswith("too long to show")


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=4), max_leaves=8))
def test_a_shown_value_is_short(value):
    assert len(shown(value)) <= 80
