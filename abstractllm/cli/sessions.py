"""`abstractllm sessions`: the conversations that a store keeps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import click

from abstractllm.cli.asking import confirm
from abstractllm.cli.failures import debug_option
from abstractllm.cli.output import one_line, print_json, print_line, print_table
from abstractllm.cli.watching import call_text
from abstractllm.messages import message_as_dict
from abstractllm.session import SessionInfo, SQLiteStore
from abstractllm.types import Message, TextPart


def _store_option(command: Callable[..., None]) -> Callable[..., None]:
    option = click.option("--store", required=True, metavar="FILE", help="The SQLite file that keeps them.")
    return option(command)


_json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON.")


@click.group()
@debug_option
def sessions() -> None:
    """List, show and delete conversations that are kept in a store."""


@sessions.command("list")
@_store_option
@_json_option
@debug_option
def list_command(store: str, as_json: bool) -> None:
    """List the conversations, the one that was written last first."""
    with _opened(store) as kept:
        found = kept.list()
    if as_json:
        print_json([_described(info) for info in found])
        return
    rows = [
        (info.id, str(info.length), _when(info.updated), _known(info, "model"), _known(info, "title")) for info in found
    ]
    print_table(("ID", "MESSAGES", "WRITTEN", "MODEL", "TITLE"), rows)


@sessions.command()
@click.argument("id")
@_store_option
@_json_option
@debug_option
def show(id: str, store: str, as_json: bool) -> None:
    """Show the conversation ID."""
    with _opened(store) as kept:
        info, messages = kept.info(id), kept.messages(id)
    if as_json:
        print_json({**_described(info), "messages": [message_as_dict(message) for message in messages]})
        return
    for message in messages:
        print_line(f"{message.role}: {_text(message)}")


@sessions.command()
@click.argument("id")
@_store_option
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@debug_option
def delete(id: str, store: str, yes: bool) -> None:
    """Delete the conversation ID."""
    with _opened(store) as kept:
        info = kept.info(id)
        if not yes:
            confirm(f"Delete {id!r} with its {info.length} messages?")
        kept.delete(id)
    print_line(f"Deleted {one_line(id)}.")


def _opened(store: str) -> SQLiteStore:
    if not Path(store).expanduser().is_file():
        raise click.UsageError(f"There is no store {store}; `abstractllm chat --store {store}` makes one.")
    return SQLiteStore(store)


def _described(info: SessionInfo) -> dict[str, object]:
    times = {"created": info.created.isoformat(), "updated": info.updated.isoformat()}
    return {"id": info.id, "length": info.length, **times, "metadata": dict(info.metadata)}


def _row(info: SessionInfo) -> tuple[str, ...]:
    return info.id, str(info.length), _when(info.updated), _known(info, "model"), _known(info, "title")


def _when(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


def _known(info: SessionInfo, key: str) -> str:
    value = info.metadata.get(key)
    return value if isinstance(value, str) else ""


def _text(message: Message) -> str:
    """Return what stands in a message; its calls and what is no text in a few words."""
    content = message.content
    parts = (TextPart(content),) if isinstance(content, str) else content
    shown = [part.text if isinstance(part, TextPart) else f"[{type(part).__name__}]" for part in parts]
    return "\n".join(filter(None, [*shown, *(call_text(call) for call in message.tool_calls)]))
