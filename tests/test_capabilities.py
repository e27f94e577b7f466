"""The check of a request against what a provider can do."""

import pytest
from hypothesis import given, strategies as st

from abstractllm.capabilities import ModelCapability, check_request
from abstractllm.errors import UnsupportedFeatureError
from abstractllm.parameters import CHECKS
from abstractllm.types import (
    DocumentPart,
    GenerateRequest,
    ImagePart,
    Message,
    TextPart,
    Timeout,
    ToolDefinition,
)

TOOL = ToolDefinition("look_up", "", {"type": "object", "properties": {}})
ASKING = {
    "max_tokens": 5,
    "temperature": 0.0,
    "top_p": 0.5,
    "top_k": 3,
    "min_p": 0.0,
    "seed": 0,
    "stop": ("x",),
    "n": 2,
    "logprobs": True,
    "top_logprobs": 0,
    "logit_bias": {1: 1.0},
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
    "tool_choice": "none",
    "response_format": dict,
    "reasoning": "none",
    "priority": 1,
    "deterministic": True,
}


def request(*parts, **values):
    content = parts or "Hello"
    return GenerateRequest((Message("user", content),), **values)


def check(one, capabilities=None, supported=(), options=()):
    check_request(one, capabilities or {}, supported=frozenset(supported), options=frozenset(options), provider="echo")


def refusal(*args, **kwargs):
    with pytest.raises(UnsupportedFeatureError) as caught:
        check(*args, **kwargs)
    assert caught.value.provider == "echo"
    return caught.value.feature


def test_a_plain_request_needs_nothing():
    check(request())


def test_every_parameter_is_covered_here():
    assert set(ASKING) == set(CHECKS) - {"retries", "timeout", "options"}


@pytest.mark.parametrize("name", ASKING)
def test_a_parameter_is_refused_unless_the_provider_carries_it_out(name):
    asking = request(**{name: ASKING[name]})
    assert refusal(asking, supported=set(ASKING) - {name}) == name
    check(asking, supported={name})


def test_values_that_ask_for_nothing_are_never_refused():
    check(request(n=1, logprobs=False, stop=(), priority=0, deterministic=False, options={}))


def test_every_provider_has_timeouts():
    check(request(timeout=Timeout(total=1)))


def test_an_unknown_option_is_refused_with_the_known_ones():
    with pytest.raises(UnsupportedFeatureError, match="its options are: keep_alive, num_ctx"):
        check(request(options={"numctx": 1}), options=("num_ctx", "keep_alive"))
    check(request(options={"num_ctx": 1}), options=("num_ctx",))


CASES = [
    (ModelCapability.TOOL_USE, "tools", request(tools=(TOOL,))),
    (ModelCapability.STREAMING, "stream", request(stream=True)),
    (ModelCapability.VISION, "vision", request(TextPart("see"), ImagePart(b"x", "image/png", "cat.png"))),
    (ModelCapability.DOCUMENTS, "documents", request(DocumentPart(b"x", "application/pdf", "a.pdf"))),
    (ModelCapability.SYSTEM_PROMPT, "system_prompt", GenerateRequest((Message("system", "Be"), Message("user", "Hi")))),
]


@pytest.mark.parametrize(("capability", "feature", "asking"), CASES)
def test_only_a_clear_no_refuses(capability, feature, asking):
    assert refusal(asking, {capability: False}) == feature
    check(asking, {capability: None})
    check(asking, {capability: True})
    check(asking, {})


def test_a_refused_file_is_named():
    with pytest.raises(UnsupportedFeatureError, match=r"cat\.png"):
        check(request(ImagePart(b"x", "image/png", "cat.png")), {ModelCapability.VISION: False})


def test_members_are_their_strings():
    assert ModelCapability.VISION == "supports_vision"
    assert {"supports_vision": True}[ModelCapability.VISION]
    assert str(ModelCapability.VISION) == f"{ModelCapability.VISION}" == "supports_vision"


@given(st.dictionaries(st.sampled_from(sorted(ASKING)), st.just(None)), st.sets(st.sampled_from(sorted(ASKING))))
def test_a_request_passes_exactly_when_all_it_asks_for_is_there(chosen, supported):
    asking = request(**{name: ASKING[name] for name in chosen})
    missing = set(chosen) - supported
    if missing:
        assert refusal(asking, supported=supported) in missing
    else:
        check(asking, supported=supported)
