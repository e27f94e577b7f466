"""Config strings, profiles, and which of all the sources of a parameter wins."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given, strategies as st

from abstractllm import create_llm
from abstractllm.errors import (
    AbstractLLMError,
    ConfigurationError,
    InvalidParameterError,
    UnsupportedFeatureError,
    UnsupportedProviderError,
)
from abstractllm.factory import ConfigString, parse_config_string
from abstractllm.profiles import config_folder, looks_secret, read_profiles
from abstractllm.providers.base import BaseProvider
from abstractllm.registry import register_provider
from abstractllm.types import GenerateResponse


class Mirror(BaseProvider):
    """Answers with the temperature of the request."""

    name = "mirror"
    parameters = frozenset({"temperature", "stop", "options"})
    settings = frozenset({"model", "api_key", "base_url"})
    options = frozenset({"num_ctx"})
    defaults = {"temperature": 0.1, "model": "glass"}

    def _stream(self, request, call):
        yield GenerateResponse(content=str(request.temperature), finish_reason="stop")


register_provider("mirror", Mirror, replace=True)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Run each test in a folder of its own, without configuration of any kind."""
    work, home = tmp_path / "work", tmp_path / "home"
    work.mkdir()
    home.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "xdg"))
    monkeypatch.delenv("ABSTRACTLLM_CONFIG", raising=False)
    return work


def write_config(text: str, file: Path = Path("abstractllm.toml")) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


# Config strings.


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("mlx", ConfigString("mlx")),
        ("mlx?", ConfigString("mlx")),
        ("mlx:org/Model-4bit", ConfigString("mlx", "org/Model-4bit")),
        ("ollama:llama3:8b?temperature=0.2", ConfigString("ollama", "llama3:8b", {"temperature": 0.2})),
        ("mlx:/a folder/my model?seed=7", ConfigString("mlx", "/a folder/my model", {"seed": 7})),
        ("mlx?stop=a:b", ConfigString("mlx", None, {"stop": "a:b"})),
        ("mlx:what?model?", ConfigString("mlx", "what?model")),
        ("mlx:50%25?seed=1", ConfigString("mlx", "50%25", {"seed": 1})),
        ("x?stop=%26%3D%3F%25+&seed=1", ConfigString("x", None, {"stop": "&=?%+", "seed": 1})),
        ("x?stop=a=b", ConfigString("x", None, {"stop": "a=b"})),
        ("x?base_url=http://host:1/v1", ConfigString("x", None, {"base_url": "http://host:1/v1"})),
        ("x?model=m", ConfigString("x", None, {"model": "m"})),
        ('x?options={"num_ctx":8}', ConfigString("x", None, {"options": {"num_ctx": 8}})),
        ("x?deterministic=true&max_tokens=5", ConfigString("x", None, {"deterministic": True, "max_tokens": 5})),
    ],
)
def test_config_strings(spec, expected):
    assert parse_config_string(spec) == expected


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "Name a provider"),
        ("  ", "Name a provider"),
        (None, "Name a provider"),
        (":model", "begin with a provider"),
        ("?seed=1", "begin with a provider"),
        (" mlx", "without white space"),
        ("mlx :model", "without white space"),
        ("mlx:", "the model after 'mlx:' is empty"),
        ("mlx: ", "the model after 'mlx:' is empty"),
        ("mlx: model", "white space around it"),
        ("mlx:model ?seed=1", "white space around it"),
        ("mlx?seed", "part 1 of its query is not of the form name=value"),
        ("mlx?seed=1&", "part 2 of its query"),
        ("mlx?=1", "part 1 of its query"),
        ("mlx? seed=1", "part 1 of its query"),
        ("mlx?seed=1&seed=1", "gives seed twice"),
        ("mlx:m?model=n", "gives the model twice"),
        ("mlx?stop=100%", "write it as %25"),
        ("mlx?stop=%ff", "not UTF-8"),
        ("mlx:m?stop=what?", "second '\\?'"),
    ],
)
def test_wrong_config_strings(spec, said):
    with pytest.raises(ConfigurationError, match=said):
        parse_config_string(spec)


@pytest.mark.parametrize(
    "spec",
    [
        "mirror?api_key=sk-123",
        "mirror:m?seed=1&API-KEY=sk-123",
        "mirror?apikey=sk-123",
        "mirror?token=sk-123",
        "mirror?client_secret=sk-123",
        "mirror?password=sk-123",
        "mirror?api%5Fkey=sk-123",
        "mirror?sk-123",
        "mirror?api_key=sk-123?seed=1",
        "mirror?api_key=%sk-123",
        "mirror?api_key=a&b=sk-123&c",
    ],
)
def test_a_key_in_the_string_is_refused_and_not_repeated(spec):
    with pytest.raises(ConfigurationError) as caught:
        create_llm(spec)
    seen: BaseException | None = caught.value
    while seen is not None:
        assert "sk-123" not in str(seen)
        seen = seen.__cause__ or seen.__context__


@pytest.mark.parametrize("name", ["max_tokens", "max_token", "top_k", "keep_alive", "stop", "tokenizer", "seed"])
def test_what_is_no_secret(name):
    assert not looks_secret(name)


names = st.from_regex(r"[a-z][a-z0-9_-]{0,10}", fullmatch=True)
models = st.text(min_size=1).filter(lambda text: text == text.strip() and not ("?" in text and "=" in text))
values = st.one_of(
    st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.lists(st.text(), max_size=3), st.none()
)
parameters = st.dictionaries(names.filter(lambda name: not looks_secret(name)), values, max_size=4)


def render(provider, model, params):
    """Write a config string; the inverse of `parse_config_string`."""
    query = "&".join(f"{quote(name, safe='')}={quote(json.dumps(value), safe='')}" for name, value in params.items())
    return provider + (f":{model}" if model is not None else "") + f"?{query}"


TAKES_TEXT = {"model", "base_url", "system_prompt", "tool_choice", "reasoning", "stop"}


@given(names, st.none() | models, parameters)
@example("ollama", "llama3:8b", {"temperature": 0.2})
def test_what_is_written_is_read_back(provider, model, params):
    assume(not TAKES_TEXT & set(params))
    assert parse_config_string(render(provider, model, params)) == ConfigString(provider, model, params)


@given(names, st.text())
def test_text_is_read_back_as_it_is(provider, text):
    assert parse_config_string(f"{provider}?stop={quote(text, safe='')}").parameters == {"stop": text}


@given(st.text())
def test_any_string_is_read_or_refused(text):
    try:
        parsed = parse_config_string(text)
    except ConfigurationError:
        return
    assert text.startswith(parsed.provider)


# Providers.


def test_arguments_beat_the_string():
    llm = create_llm("mirror:steel?temperature=0.2&stop=x", model="glass", temperature=0.9, stop=None)
    assert llm.get_config()["model"] == "glass"
    assert llm.get_config()["temperature"] == 0.9
    assert llm.get_config()["stop"] == ("x",)


@pytest.mark.parametrize("model", ["", "  "])
def test_an_empty_model_is_refused(model):
    with pytest.raises(ConfigurationError, match="model is empty"):
        create_llm("mirror", model=model)


def test_wrong_parameters_are_refused_at_once():
    with pytest.raises(InvalidParameterError, match="temperature"):
        create_llm("mirror?temperatur=0.2")
    with pytest.raises(InvalidParameterError, match="temperature=-1"):
        create_llm("mirror", temperature=-1)
    with pytest.raises(UnsupportedFeatureError, match="top_k"):
        create_llm("mirror?top_k=3")


def test_an_unknown_name_gets_a_suggestion_from_providers_and_profiles():
    write_config('[profiles.careful]\nprovider = "mirror"\n')
    with pytest.raises(UnsupportedProviderError, match="Did you mean 'mirror'"):
        create_llm("miror")
    with pytest.raises(UnsupportedProviderError, match="Did you mean 'careful'.*Profiles: careful"):
        create_llm("carefull")


# Precedence.

CHAIN = {"default": 0.1, "environment": 0.2, "profile": 0.3, "string": 0.4, "argument": 0.5, "call": 0.6}


@pytest.mark.parametrize("top", CHAIN)
def test_the_nearest_source_wins(monkeypatch, top):
    """Set every source up to `top`; that one wins."""
    used = list(CHAIN)[: list(CHAIN).index(top) + 1]
    if "environment" in used:
        monkeypatch.setenv("ABSTRACTLLM_MIRROR_TEMPERATURE", str(CHAIN["environment"]))
    write_config(f'[profiles.p]\nprovider = "mirror"\n{"temperature = 0.3" if "profile" in used else ""}')
    arguments = {"temperature": CHAIN["argument"]} if "argument" in used else {}
    llm = create_llm("p?temperature=0.4" if "string" in used else "p", **arguments)
    params = {"temperature": CHAIN["call"]} if "call" in used else {}
    assert llm.generate("hello", **params).content == str(CHAIN[top])


def test_set_config_beats_what_the_instance_was_made_with():
    llm = create_llm("mirror?temperature=0.4")
    llm.set_config(temperature=0.45)
    assert llm.generate("hello").content == "0.45"
    assert llm.generate("hello", temperature=0.6).content == "0.6"


# Profiles.


def test_a_profile_with_provider_and_parameters():
    write_config(
        '[profiles.fast]\nprovider = "mirror"\nmodel = "steel"\ntemperature = 0.3\nstop = ["a"]\n'
        "[profiles.fast.options]\nnum_ctx = 8\n"
    )
    config = create_llm("fast").get_config()
    assert config == {"model": "steel", "temperature": 0.3, "stop": ("a",), "options": {"num_ctx": 8}}


def test_a_profile_with_a_config_string():
    write_config('[profiles.fast]\nuse = "mirror:a:b?temperature=0.2&stop=x"\ntemperature = 0.3\n')
    config = create_llm("fast").get_config()
    assert config == {"model": "a:b", "temperature": 0.3, "stop": ("x",)}


def test_a_string_and_arguments_beat_the_profile():
    write_config('[profiles.fast]\nprovider = "mirror"\nmodel = "steel"\ntemperature = 0.3\n')
    config = create_llm("fast:brass?stop=x", temperature=0.9).get_config()
    assert config == {"model": "brass", "temperature": 0.9, "stop": ("x",)}


def test_the_current_folder_wins_over_the_users_folder(tmp_path):
    write_config('[profiles.a]\nuse = "mirror:near"\n')
    write_config(
        '[profiles.a]\nuse = "mirror:far"\n[profiles.b]\nuse = "mirror:far"\n',
        tmp_path / "home" / "xdg" / "abstractllm" / "abstractllm.toml",
    )
    assert create_llm("a").get_param("model") == "near"
    assert create_llm("b").get_param("model") == "far"
    assert sorted(read_profiles()) == ["a", "b"]


def test_a_named_file_is_the_only_one(tmp_path, monkeypatch):
    write_config('[profiles.a]\nuse = "mirror:near"\n')
    named = write_config('[profiles.b]\nuse = "mirror:named"\n', tmp_path / "other" / "mine.toml")
    monkeypatch.setenv("ABSTRACTLLM_CONFIG", str(named))
    assert create_llm("b").get_param("model") == "named"
    with pytest.raises(UnsupportedProviderError):
        create_llm("a")
    monkeypatch.setenv("ABSTRACTLLM_CONFIG", str(tmp_path / "nowhere.toml"))
    with pytest.raises(ConfigurationError, match="ABSTRACTLLM_CONFIG names .*nowhere.toml"):
        create_llm("mirror")


def test_where_the_users_folder_is():
    home = Path.home()
    assert config_folder("linux", {}) == home / ".config" / "abstractllm"
    assert config_folder("linux", {"XDG_CONFIG_HOME": "/xdg"}) == Path("/xdg/abstractllm")
    assert config_folder("darwin", {"XDG_CONFIG_HOME": "/xdg"}) == home / "Library/Application Support/abstractllm"
    assert config_folder("win32", {"APPDATA": "/roaming"}) == Path("/roaming/abstractllm")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[profiles.p", "cannot be read as TOML"),
        ("[profile.p]\nprovider='mirror'", "has 'profile' at its top"),
        ("profiles = 3", "'profiles' as a value"),
        ("[profiles]\np = 3", "'p'.*write a table"),
        ("[profiles.p]\nmodel = 'm'", "'p'.*needs one of provider"),
        ("[profiles.p]\nprovider='mirror'\nuse='mirror'", "'p'.*needs one of provider"),
        ("[profiles.p]\nprovider=3", "'p'.*provider must be text"),
        ("[profiles.p]\nprovider=''", "'p'.*provider must be text"),
        ("[profiles.p]\nprovider='mirror:m'", "'p'.*provider is a name alone"),
        ("[profiles.p]\nprovider='mirror'\nmodel=''", "'p'.*model must be text"),
        ("[profiles.p]\nprovider='miror'", "'p'.*Did you mean 'mirror'"),
        ("[profiles.p]\nuse='p'", "'p'.*No provider is named 'p'"),
        ("[profiles.p]\nuse='mirror:'", "'p'.*model after 'mirror:' is empty"),
        ("[profiles.p]\nuse='mirror?api_key=sk-123'", "'p'.*must not stand in a config string"),
        ("[profiles.p]\nprovider='mirror'\ntemperatur=1", "'p'.*Did you mean 'temperature'"),
        ("[profiles.p]\nprovider='mirror'\ntemperature=-1", "'p'.*temperature=-1 is not valid"),
        ("[profiles.p]\nprovider='mirror'\napi_key='sk-123'", "'p'.*api_key_env ="),
        ("[profiles.p]\nprovider='mirror'\napi_key_env=3", "'p'.*the name of an environment variable"),
        ("[profiles.p]\nprovider='mirror'\napi_key_env='NO_SUCH_KEY'", "'p'.*'NO_SUCH_KEY', which is not set"),
    ],
)
def test_a_wrong_profile_names_its_file(text, said):
    file = write_config(text)
    with pytest.raises(ConfigurationError, match=f"(?s){said}") as caught:
        create_llm("p")
    assert str(file.resolve()) in str(caught.value)
    assert "sk-123" not in str(caught.value)


def test_a_wrong_argument_is_not_the_profiles_mistake():
    write_config('[profiles.p]\nprovider = "mirror"\ntemperature = -1\n')
    with pytest.raises(InvalidParameterError):
        create_llm("p", temperature=-2)


def test_a_wrong_profile_harms_no_other():
    write_config('[profiles.wrong]\nmodel = "m"\n[profiles.right]\nprovider = "mirror"\n')
    assert create_llm("right").get_param("model") == "glass"
    assert create_llm("mirror").get_param("model") == "glass"
    with pytest.raises(ConfigurationError, match="'wrong'"):
        read_profiles()


def test_a_profile_named_like_a_provider_is_an_error():
    file = write_config('[profiles.mirror]\nprovider = "echo"\n')
    with pytest.raises(ConfigurationError, match="rename the profile") as caught:
        create_llm("mirror")
    assert str(file.resolve()) in str(caught.value)


def test_a_profile_takes_its_key_from_the_environment(monkeypatch):
    write_config('[profiles.p]\nprovider = "mirror"\napi_key_env = "MY_KEY"\n')
    assert create_llm("p", api_key="given").get_param("api_key") == "given"
    monkeypatch.setenv("MY_KEY", "sk-123")
    llm = create_llm("p")
    assert llm.get_param("api_key") == "sk-123"
    assert "api_key_env" not in llm.get_config()


def test_every_failure_is_one_of_ours():
    for spec in ("nobody", "mirror:", "mirror?x=1", "mirror?temperature=-1", "mirror?api_key=1", "mirror?top_k=2"):
        with pytest.raises(AbstractLLMError):
            create_llm(spec)
