"""Lists of models, with limits and without."""

import json

import pytest

from abstractllm.errors import AbstractLLMError, GenerationError
from abstractllm.wire.model_list import ListedModel, decode_models


def decoded(value):
    return decode_models(json.dumps(value).encode(), "someone")


def test_limits_stand_beside_the_name_or_inside():
    inner = {"context_length": 128000, "max_completion_tokens": 32000}
    found = decoded(
        {
            "object": "list",
            "data": [
                {"id": "a", "created": 7, "owned_by": "us", "context_length": 128000, "top_provider": inner},
                {"id": "b", "top_provider": inner},
                {"id": "c", "context_length": 9, "max_completion_tokens": 4},
                {"id": "d", "object": "model", "context_length": None, "top_provider": None},
            ],
        }
    )
    assert found == (
        ListedModel("a", 128000, 32000, 7, "us"),
        ListedModel("b", 128000, 32000),
        ListedModel("c", 9, 4),
        ListedModel("d"),
    )


def test_no_models_are_none():
    assert decoded({"data": []}) == ()


@pytest.mark.parametrize("value", [{}, [], "no", {"data": {}}, {"data": [{"id": 7}]}, {"data": [{}]}, {"data": ["a"]}])
def test_what_is_no_list_is_an_error(value):
    with pytest.raises(GenerationError) as caught:
        decoded(value)
    assert caught.value.provider == "someone"


def test_an_error_in_its_place_is_told():
    with pytest.raises(AbstractLLMError, match="Too many"):
        decoded({"error": {"message": "Too many models."}})
