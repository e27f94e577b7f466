"""`abstractllm chat`: the loop of turns, and the commands that begin with a slash."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from abstractllm.cli.conversation import Conversation
from abstractllm.cli.failures import debug_option, print_error, print_note
from abstractllm.cli.lines import (
    ReadLine,
    history,
    history_path,
    is_interactive,
    read_piped_line,
    read_terminal_line,
    read_turn,
)
from abstractllm.cli.options import ModelChoice, model_options
from abstractllm.cli.output import one_line, print_line
from abstractllm.cli.toolbox import opened, read_servers, tool_options
from abstractllm.cli.usage import usage_lines
from abstractllm.errors import AbstractLLMError, InvalidRequestError, did_you_mean
from abstractllm.session import SQLiteStore


@click.command()
@model_options
@tool_options
@click.option("--store", metavar="FILE", help="Keep the conversation in this SQLite file, as it goes on.")
@click.option("--session", "id", metavar="ID", help="Go on with this conversation of the store, or begin it.")
@click.option("--no-history", is_flag=True, help="Neither read nor keep a history of what is typed.")
@debug_option
def chat(no_history: bool, store: str | None, id: str | None, **given: Any) -> None:
    """Talk with a model, turn by turn.

    /help lists the commands. Ctrl-C stops an answer, the end of input (Ctrl-D) the chat. A turn that fails is
    reported in one line and taken back, and the chat goes on; its exit code is 0 all the same.

    Each call of a tool is shown in one line on standard error. A tool that wants a person to agree asks on a
    terminal; elsewhere it is denied.
    """
    if id is not None and store is None:
        raise click.UsageError("--session needs --store FILE, where the conversation is kept.")
    here = Path.cwd()
    with ExitStack() as stack:
        kept = None if store is None else stack.enter_context(SQLiteStore(store))
        tools = stack.enter_context(opened(given["tools"], read_servers(given["servers"], here), here))
        conversation = stack.enter_context(closing(Conversation(ModelChoice.of(given), tools, store=kept, id=id)))
        _begin(conversation, no_history)
        if kept is not None and id is None and conversation.messages:
            print_note(f"--session {conversation.id} goes on with this conversation")


def _begin(conversation: Conversation, no_history: bool) -> None:
    if not is_interactive():
        _converse(conversation, read_piped_line)
        return
    print_line(f"Chatting with {conversation.choice.spec}. /help lists the commands, Ctrl-D leaves.")
    if conversation.messages:
        print_line(f"The conversation has {len(conversation.messages)} messages so far.")
    with nullcontext() if no_history else history(history_path()):
        _converse(conversation, read_terminal_line)


def _converse(conversation: Conversation, read_line: ReadLine) -> None:
    """Take turns until the user leaves."""
    going_on = True
    while going_on:
        try:
            going_on = _turn(conversation, read_turn(read_line))
        except AbstractLLMError as error:
            print_error(error)
        except KeyboardInterrupt:
            if read_line is not read_terminal_line:
                raise
            print_line("\n(/quit or Ctrl-D leaves)")


def _turn(conversation: Conversation, text: str | None) -> bool:
    """Do what the user says; return whether the chat goes on."""
    if text is None or text.strip() == "/quit":
        return False
    if text.startswith("/"):
        _command(conversation, text)
    elif text.strip():
        conversation.ask(text)
    return True


def _command(conversation: Conversation, text: str) -> None:
    name, _, argument = text.strip().partition(" ")
    command = COMMANDS.get(name)
    if command is None:
        hint = did_you_mean(name, COMMANDS)
        raise InvalidRequestError(f"No such command {name!r}.{hint} A space before the / sends the text to the model.")
    command.run(conversation, argument.strip())


def _needed(argument: str, usage: str) -> str:
    if not argument:
        raise InvalidRequestError(f"The command is {usage}.")
    return argument


def _help(conversation: Conversation, argument: str) -> None:
    width = max(len(command.usage) for command in COMMANDS.values())
    for command in COMMANDS.values():
        print_line(f"{command.usage:{width}}  {command.help}")
    print_line('A line that ends with \\ goes on in the next one; """ begins and ends a text of several lines.')


def _system(conversation: Conversation, argument: str) -> None:
    conversation.instruct(argument or None)
    print_line("The system prompt is set." if argument else "There is no system prompt now.")


def _file(conversation: Conversation, argument: str) -> None:
    conversation.attach(_needed(argument, "/file PATH"))
    print_line(f"{argument} goes with your next turn.")


def _model(conversation: Conversation, argument: str) -> None:
    if argument:
        conversation.switch(argument)
    print_line(f"The model is {conversation.choice.spec}.")


def _clear(conversation: Conversation, argument: str) -> None:
    conversation.clear()
    print_line("The conversation starts anew.")


def _save(conversation: Conversation, argument: str) -> None:
    conversation.save(_needed(argument, "/save FILE"))
    print_line(f"The conversation is in {argument}.")


def _load(conversation: Conversation, argument: str) -> None:
    model = conversation.load(_needed(argument, "/load FILE"))
    print_line(f"The conversation in {argument} goes on; it has {len(conversation.messages)} messages.")
    if model is not None and model != conversation.choice.spec:
        print_line(f"It was with {one_line(model)}, and goes on with {conversation.choice.spec}; /model changes that.")


def _tools(conversation: Conversation, argument: str) -> None:
    if not conversation.tools:
        print_line("There are no tools; --tool and --mcp give some.")
    width = max((len(tool.name) for tool in conversation.tools), default=0)
    for tool in conversation.tools:
        asks = "" if tool.approval is False else " (asks first)"
        first, _, _ = tool.definition.description.partition("\n\n")
        print_line(f"{one_line(tool.name):{width}}  {one_line(first)}{asks}".rstrip())


def _metrics(conversation: Conversation, argument: str) -> None:
    for line in usage_lines(conversation.metrics):
        print_line(line)


def _quit(conversation: Conversation, argument: str) -> None:
    raise InvalidRequestError("/quit takes nothing after it.")


@dataclass(frozen=True, slots=True)
class SlashCommand:
    """A command of the chat: how it is written, what it does, and what does it."""

    usage: str
    help: str
    run: Callable[[Conversation, str], None]


COMMANDS: Mapping[str, SlashCommand] = {
    "/help": SlashCommand("/help", "list these commands", _help),
    "/system": SlashCommand("/system TEXT", "set the system prompt; without TEXT, remove it", _system),
    "/file": SlashCommand("/file PATH", "attach a file to your next turn", _file),
    "/tools": SlashCommand("/tools", "list the tools that the model may call", _tools),
    "/model": SlashCommand("/model SPEC", "go on with another model; without SPEC, say which it is", _model),
    "/clear": SlashCommand("/clear", "forget the conversation and attached files", _clear),
    "/save": SlashCommand("/save FILE", "write the conversation to a JSON file", _save),
    "/load": SlashCommand("/load FILE", "go on with a saved conversation", _load),
    "/metrics": SlashCommand("/metrics", "say what has been used so far: requests, tokens, seconds, calls", _metrics),
    "/quit": SlashCommand("/quit", "leave", _quit),
}
