"""Conversations in files: whole or not at all, and without loss."""

import json
import os

import pytest
from hypothesis import given, settings, strategies as st

from abstractllm.errors import FileProcessingError, InvalidParameterError
from abstractllm.session.files import SavedConversation, load_conversation, save_conversation
from abstractllm.types import DocumentPart, ImagePart, Message, TextPart, ToolCall

from ..messages.strategies import messages, values

TURNS = (Message("user", "Olá"), Message("assistant", "Hi", provider_data={"a": [b"x"]}))


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("files") / "any.json"


@settings(max_examples=30)  # each waits for the disk twice
@given(st.lists(messages, max_size=4), values)
def test_nothing_is_lost(place, turns, value):
    save_conversation(place, turns, model="echo", value=value)
    assert load_conversation(place) == SavedConversation(tuple(turns), {"model": "echo", "value": value})


def test_the_file_can_be_read_by_others(tmp_path):
    save_conversation(tmp_path / "a.json", [Message("user", "Olá")], model="echo", system=None)
    text = (tmp_path / "a.json").read_text("utf-8")
    assert json.loads(text) == {"model": "echo", "system": None, "messages": [{"role": "user", "content": "Olá"}]}
    assert "Olá" in text


def test_half_a_surrogate_pair_is_kept(tmp_path):
    turn = Message("assistant", "\ud83d", tool_calls=(ToolCall("1", "f", {"a": "\ude00"}),))
    save_conversation(tmp_path / "a.json", [turn])
    assert load_conversation(tmp_path / "a.json").messages == (turn,)


def test_what_save_wrote_before_is_read(tmp_path):
    """The form of `/save` before it lost nothing: names of documents that are null, documents by their address."""
    content = [
        {"type": "text", "text": "See"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,YQ=="}},
        {"type": "file", "file": {"filename": None, "file_data": "data:application/pdf;base64,YQ=="}},
        {"type": "file", "file": {"filename": "b.pdf", "file_data": "https://x.org/b"}},
    ]
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    answer = {"role": "assistant", "content": "", "reasoning": "Hm.", "tool_calls": [call]}
    written = {"model": "echo", "system": "Be brief.", "messages": [{"role": "user", "content": content}, answer]}
    (tmp_path / "a.json").write_text(json.dumps(written), "utf-8")
    parts = (
        TextPart("See"),
        ImagePart(b"a", "image/png"),
        DocumentPart(b"a", "application/pdf"),
        DocumentPart(b"", "application/pdf", "b.pdf", url="https://x.org/b"),
    )
    turn = Message("assistant", "", tool_calls=(ToolCall("1", "f", {"a": 1}),), reasoning="Hm.")
    metadata = {"model": "echo", "system": "Be brief."}
    assert load_conversation(tmp_path / "a.json") == SavedConversation((Message("user", parts), turn), metadata)


def test_a_list_of_messages_is_read(tmp_path):
    (tmp_path / "a.json").write_text('[{"role": "user", "content": "Hi"}]')
    assert load_conversation(tmp_path / "a.json") == SavedConversation((Message("user", "Hi"),))


def test_a_file_is_replaced_in_one_step(tmp_path):
    """Who has the old file open goes on to read it whole: the new one is another file, of the same rights."""
    path = tmp_path / "a.json"
    save_conversation(path, TURNS)
    path.chmod(0o640)
    (tmp_path / "link.json").symlink_to(path)
    with open(path) as old:
        save_conversation(tmp_path / "link.json", TURNS[:1])
        assert len(json.load(old)["messages"]) == 2
    assert load_conversation(path).messages == TURNS[:1]
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(tmp_path)) == ["a.json", "link.json"]


def deep():
    """Return lists in lists, more than can be walked."""
    found = []
    for _ in range(100_000):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("messages", "metadata"),
    [([Message("user", "x", provider_data={"a": object()})], {}), (TURNS, {"a": {1, 2}}), (TURNS, {"a": deep()})],
)
def test_what_cannot_be_kept_leaves_the_old_file(tmp_path, messages, metadata):
    save_conversation(tmp_path / "a.json", TURNS)
    with pytest.raises(InvalidParameterError, match="cannot be kept as JSON"):
        save_conversation(tmp_path / "a.json", messages, **metadata)
    assert load_conversation(tmp_path / "a.json").messages == TURNS


WATCHED = """
import resource, sys
from abstractllm.errors import FileProcessingError
from abstractllm.session.files import save_conversation
from abstractllm.types import Message

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    save_conversation(sys.argv[1], [Message("user", "x" * 5000)])
except FileProcessingError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_old_file(run_python, tmp_path):
    save_conversation(tmp_path / "a.json", TURNS)
    assert "cannot be written: File too large." in run_python(WATCHED, str(tmp_path / "a.json"))
    assert load_conversation(tmp_path / "a.json").messages == TURNS
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("name", ["no/such/folder/a.json", ".", "a\0b", "null"])
def test_where_nothing_can_be_written(tmp_path, name):
    if name == "null":
        os.mkfifo(tmp_path / name)
    with pytest.raises(FileProcessingError, match="cannot be written") as caught:
        save_conversation(tmp_path / name, TURNS)
    assert caught.value.path == str(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("", "no JSON file"),
        ("\xff", "no JSON file"),
        ("[" * 100_000, "no JSON file"),
        ("3", "holds no conversation"),
        ('{"messages": {}}', "holds no conversation"),
        ('{"messages": [{"role": "king", "content": ""}]}', "role 'king'"),
        ('{"messages": [], "a": {"$new": 1}}', "metadata that cannot be read: .*new"),
    ],
)
def test_what_is_no_conversation(tmp_path, text, words):
    if text is not None:
        (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(FileProcessingError, match=words):
        load_conversation(tmp_path / "a.json")
