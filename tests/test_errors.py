"""The exception tree: as it is drawn, what it can be caught as, and what its messages say."""

import inspect
import pickle
import re

import pytest
from hypothesis import given, strategies as st

from abstractllm import errors
from abstractllm.errors import AbstractLLMError, InvalidParameterError, ToolArgumentError, did_you_mean, shown


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


def test_a_plain_error_survives_pickling():
    error = pickle.loads(pickle.dumps(AbstractLLMError("It broke.")))
    assert str(error) == "It broke."


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
