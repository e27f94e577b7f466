"""What a user passes -> a checked `GenerateRequest`, and an instance's configuration from all its sources."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from abstractllm.capabilities import ALWAYS_SUPPORTED, check_options
from abstractllm.errors import InvalidParameterError, UnsupportedFeatureError, shown
from abstractllm.messages import to_messages
from abstractllm.parameters import CHECKS, check_parameters, from_text
from abstractllm.types import GenerateRequest, Message, Part, TextPart, ToolDefinition

if TYPE_CHECKING:
    from abstractllm.interface import File, ToolLike
    from abstractllm.providers.base import BaseProvider
    from abstractllm.schema import OutputFormat


def instance_config(provider: type[BaseProvider], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a provider's configuration: what is given, else the environment, else the provider's defaults.

    The environment variable of a name is `ABSTRACTLLM_<PROVIDER>_<NAME>`. Raises InvalidParameterError for an
    unknown name or a bad value, UnsupportedFeatureError for a parameter or option that the provider does not carry out.
    """
    accepted = provider.settings | {"system_prompt"}
    named = {name: value for name, value in given.items() if value is not None}
    merged = {**provider.defaults, **_environment(provider, accepted), **named}
    checked = check_parameters(merged, also=accepted)
    for name in checked:
        if name not in accepted and name not in provider.parameters | ALWAYS_SUPPORTED | {"options"}:
            raise UnsupportedFeatureError(
                name, f"This provider does not support the parameter {name!r}; leave it out.", provider=provider.name
            )
    check_options(checked.get("options", {}), declared=provider.options, provider=provider.name)
    return checked | _checked_texts(checked)


def _checked_texts(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that must be text wherever they stand; a path is taken for a model."""
    texts = {name: config[name] for name in ("system_prompt", "model", "embedding_model") if name in config}
    if isinstance(texts.get("model"), os.PathLike):
        texts["model"] = os.fspath(texts["model"])
    for name, value in texts.items():
        if not isinstance(value, str):
            expected = "a string or a path" if name == "model" else "a string"
            raise InvalidParameterError(name, f"{name}={shown(value)} is not valid: it must be {expected}.")
    return texts


@contextmanager
def naming_variable(provider: type[BaseProvider], given: Mapping[str, Any]) -> Iterator[None]:
    """Name the environment variable in an InvalidParameterError about a value that comes from there."""
    try:
        yield
    except InvalidParameterError as error:
        variable = _variable(provider, error.parameter)
        if given.get(error.parameter) is not None or variable not in os.environ:
            raise
        message = f"{error.message} The value comes from the environment variable {variable}."
        raise InvalidParameterError(error.parameter, message, provider=error.provider) from error


def _variable(provider: type[BaseProvider], name: str) -> str:
    return f"ABSTRACTLLM_{provider.name}_{name}".upper().replace("-", "_")


def _environment(provider: type[BaseProvider], accepted: frozenset[str]) -> dict[str, Any]:
    names = accepted | provider.parameters | ALWAYS_SUPPORTED
    variables = {name: _variable(provider, name) for name in names}
    return {
        name: from_text(name, os.environ[variable]) for name, variable in variables.items() if variable in os.environ
    }


def build_request(
    config: Mapping[str, Any],
    prompt: str | None,
    system_prompt: str | None,
    files: Sequence[File] | None,
    stream: bool,
    tools: Sequence[ToolLike] | None,
    params: Mapping[str, Any],
    *,
    unread: bool = False,
) -> GenerateRequest:
    """Return the request that a call means, with `config` for what the call does not say.

    Raises InvalidParameterError or FileProcessingError; nothing has been done by then but reading the files. With
    `unread`, not even that: the request is complete after `with_files_read`.
    """
    if not isinstance(stream, bool):
        raise InvalidParameterError("stream", f"stream={shown(stream)} is not valid: it must be True or False.")
    values = {name: value for name, value in config.items() if name in CHECKS}
    values |= check_parameters(params, also=("messages",))
    values["options"] = {**config.get("options", {}), **values.get("options", {})}
    if "response_format" in values:
        values["response_format"] = _output_format(values["response_format"])
    conversation = values.pop("messages", None)
    definitions = _definitions(tools)
    if values.get("tool_choice") == "any" and all(tool.name != "any" for tool in definitions):
        values["tool_choice"] = "required"  # the word of Anthropic, Mistral and LangChain for it
    _check_combination(values, definitions)
    return GenerateRequest(
        messages=_conversation(conversation, prompt, system_prompt, config.get("system_prompt"), files, unread),
        tools=definitions,
        stream=stream,
        model=config.get("model"),
        **values,
    )


def _conversation(
    conversation: object,
    prompt: str | None,
    system_prompt: str | None,
    default_system_prompt: str | None,
    files: Sequence[File] | None,
    unread: bool,
) -> tuple[Message, ...]:
    """Put the conversation together: system prompt, earlier turns, the user's turn with its files."""
    messages = () if conversation is None else to_messages(conversation)
    if prompt is not None or not messages:
        messages = (*messages, Message("user", _prompt(prompt)))
    if files is not None:
        messages = _with_files(messages, _unread_parts(files) if unread else _read_parts(files))
    if messages[-1].role == "user" and _says_nothing(messages[-1].content):
        raise InvalidParameterError("messages", "The last turn is the user's and empty; give it the text to answer.")
    if system_prompt is None and default_system_prompt and all(message.role != "system" for message in messages):
        system_prompt = default_system_prompt
    if system_prompt is not None and not isinstance(system_prompt, str):
        kind = type(system_prompt).__name__
        raise InvalidParameterError("system_prompt", f"The system_prompt is of type {kind}; it must be a string.")
    if system_prompt:
        messages = (Message("system", system_prompt), *messages)
    return messages


def _says_nothing(content: str | tuple[Part, ...]) -> bool:
    if isinstance(content, str):
        return not content.strip()
    return all(isinstance(part, TextPart) and not part.name and not part.text.strip() for part in content)


def _prompt(prompt: object) -> str:
    if not isinstance(prompt, str):
        kind = "missing" if prompt is None else f"a {type(prompt).__name__}"
        raise InvalidParameterError("prompt", f"The prompt is {kind}; pass a string, or a conversation as messages=.")
    if not prompt.strip():
        raise InvalidParameterError("prompt", "The prompt is empty; pass the text to answer.")
    return prompt


def _read_parts(files: Sequence[File]) -> tuple[Part, ...]:
    from abstractllm.files import read_files

    return read_files(files)


def _unread_parts(files: Sequence[File]) -> tuple[Part, ...]:
    return tuple(TextPart("", str(file)) for file in files)


def listed(files: Sequence[File] | None) -> list[File]:
    """Return the paths of files, without a look at the disk. Raises InvalidParameterError."""
    if files is None:
        return []
    from abstractllm.files import file_paths

    return list(file_paths(files))


def with_files_read(request: GenerateRequest, files: Sequence[File]) -> GenerateRequest:
    """Return a request that was built with these files `unread`, complete. Raises FileProcessingError."""
    *before, last = request.messages
    assert isinstance(last.content, tuple)
    parts = (*_read_parts(files), *last.content[len(files) :])
    return replace(request, messages=(*before, replace(last, content=parts)))


def _with_files(messages: tuple[Message, ...], parts: tuple[Part, ...]) -> tuple[Message, ...]:
    """Attach the parts of files before the text of the last turn, which must be the user's."""
    if not parts:
        return messages
    last = messages[-1]
    if last.role != "user":
        raise InvalidParameterError("files", "files attach to the user's last turn; pass a prompt beside them.")
    said: tuple[Part, ...] = (TextPart(last.content),) if isinstance(last.content, str) else last.content
    return (*messages[:-1], replace(last, content=(*parts, *said)))


def _output_format(response_format: object) -> OutputFormat:
    from abstractllm.schema import to_output_format

    return to_output_format(response_format)


def _definitions(tools: Sequence[ToolLike] | None) -> tuple[ToolDefinition, ...]:
    if tools is None:
        return ()
    from abstractllm.tools import to_tool_definitions

    return to_tool_definitions(tools)


def _check_combination(values: Mapping[str, Any], tools: tuple[ToolDefinition, ...]) -> None:
    """Refuse parameters that make no sense together."""
    choice = values.get("tool_choice")
    if choice not in (None, "auto", "none", "required") and choice not in {tool.name for tool in tools}:
        known = ", ".join(tool.name for tool in tools) or "none are given"
        raise InvalidParameterError("tool_choice", f"tool_choice={choice!r} names no tool; the tools: {known}.")
    if choice == "required" and not tools:
        raise InvalidParameterError("tool_choice", "tool_choice='required' needs tools.")
    if values.get("top_logprobs") is not None and not values.get("logprobs"):
        raise InvalidParameterError("top_logprobs", "top_logprobs needs logprobs=True.")
