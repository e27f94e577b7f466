"""One conversation in one JSON file, in the form of OpenAI's Chat Completions, written whole or not at all."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from abstractllm.errors import FileProcessingError, InvalidParameterError
from abstractllm.messages import message_as_dict, to_messages
from abstractllm.session.encoding import json_text, metadata_as_dict, read_json, read_metadata
from abstractllm.types import Message


@dataclass(frozen=True, slots=True)
class SavedConversation:
    """What a file holds: the messages, and what was saved with them, such as `model` and `system`."""

    messages: tuple[Message, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)


def save_conversation(path: str | os.PathLike[str], messages: Iterable[Message], **metadata: Any) -> None:
    """Write a conversation as a JSON object: `messages`, and each of `metadata` (JSON values, bytes, tuples) beside it.

    A file that is there is replaced, with its rights kept, in one step that outlives a power cut: whoever reads sees
    the old one or the new one, and where this raises the old one stays. Raises FileProcessingError where it cannot be
    written, and InvalidParameterError for what JSON cannot hold.
    """
    described = {**metadata_as_dict(metadata), "messages": [message_as_dict(message) for message in messages]}
    try:
        text = json_text(described, indent=2) + "\n"
    except ValueError as error:
        raise InvalidParameterError("messages", f"The messages cannot be kept as JSON: {error}.") from error
    try:
        _write_whole(Path(os.path.realpath(Path(path).expanduser())), text.encode())
    except (OSError, ValueError) as error:  # a ValueError for a name that no file can have
        reason = getattr(error, "strerror", error)
        raise FileProcessingError(f"{path} cannot be written: {reason}.", path=str(path)) from error


def _write_whole(place: Path, data: bytes) -> None:
    mode = _mode(place)
    beside = place.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            if mode is not None:
                os.chmod(beside, mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, place)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _sync_folder(place.parent)


def _mode(place: Path) -> int | None:
    """Return the rights of a file, None where there is none. Raises OSError for what is no file and cannot be one."""
    try:
        found = place.stat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found):
        raise OSError(0, "it is a folder or a device, not a file")
    return stat.S_IMODE(found)


def _sync_folder(folder: Path) -> None:
    """Have the disk keep the file's new name; Windows opens no folder, and needs no telling."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_conversation(path: str | os.PathLike[str]) -> SavedConversation:
    """Return the conversation in a file that `save_conversation` or the command line's `/save` wrote.

    A file with a JSON list of messages in OpenAI's form is read as well. Raises FileProcessingError for anything else.
    """
    described = _read(path)
    given = {"messages": described} if isinstance(described, list) else described
    if not isinstance(given, dict) or not isinstance(given.get("messages"), list):
        raise FileProcessingError(f"{path} holds no conversation: it has no list of messages.", path=str(path))
    try:
        messages = to_messages(given["messages"]) if given["messages"] else ()
        metadata = read_metadata({key: value for key, value in given.items() if key != "messages"})
    except InvalidParameterError as error:
        raise FileProcessingError(f"{path} cannot be read: {error.message}", path=str(path)) from error
    except ValueError as error:
        raise FileProcessingError(f"{path} has metadata that cannot be read: {error}.", path=str(path)) from error
    return SavedConversation(messages, metadata)


def _read(path: str | os.PathLike[str]) -> Any:
    try:
        return read_json(Path(path).expanduser().read_bytes())
    except OSError as error:
        raise FileProcessingError(f"{path} cannot be read: {error.strerror}.", path=str(path)) from error
    except ValueError as error:
        raise FileProcessingError(f"{path} is no JSON file ({error}); choose another one.", path=str(path)) from error
