"""An MCP server without any library, which starts at once, answers in order and misbehaves as its arguments say.

It knows the protocol before 2026-07-28 alone.
"""

import json
import os
import signal
import sys

WAYS = set(sys.argv[1:])
NAMES = ("echo", "hang", "pid", "cancelled", "variable", "die", "garbage", "latin", "deaf", "changed", "broken")
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}}
UNSOUND = {"type": "object", "properties": {"text": {"$ref": "http://127.0.0.1:1/elsewhere.json"}}}
HINTS = {"echo": {"readOnlyHint": True}, "pid": {"readOnlyHint": False, "destructiveHint": False}}

waiting: list[object] = []
cancelled: list[object] = []


def say(**message: object) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def answer(number: object, text: object) -> None:
    say(id=number, result={"content": [{"type": "text", "text": str(text)}]})


def listed(cursor: str | None) -> dict[str, object]:
    names = ["fs/read", "fs.read", "x" * 70, "plain"] if "names" in WAYS else NAMES
    schema = UNSOUND if "unsound" in WAYS else SCHEMA
    tools = [{"name": name, "inputSchema": schema, "annotations": HINTS.get(name, {})} for name in names]
    if "circle" in WAYS:
        return {"tools": tools, "nextCursor": "again"}
    if "pages" not in WAYS:
        return {"tools": tools}
    at = int(cursor or 0)
    return {"tools": tools[at : at + 1]} | ({"nextCursor": str(at + 1)} if at + 1 < len(tools) else {})


def call(number: object, name: str, arguments: dict[str, str]) -> None:
    if name == "echo":
        answer(number, arguments.get("text"))
    elif name == "pid":
        answer(number, os.getpid())
    elif name == "cancelled":
        waiting.append(number)
    elif name == "variable":
        answer(number, os.environ.get(arguments["text"]))
    elif name == "die":
        os._exit(7)
    elif name == "garbage":
        print("this is no JSON", flush=True)
        answer(number, "after garbage")
    elif name == "latin":
        sys.stdout.buffer.write(b"\xe9\n")
        sys.stdout.flush()
        answer(number, "after latin")
    elif name == "deaf":
        signal.pause()
    elif name == "changed":
        say(method="notifications/tools/list_changed")
        answer(number, "changed")
    elif name == "broken":
        say(id=number, result={"content": [{"type": "text"}]})
    elif name != "hang":
        say(id=number, error={"code": -32602, "message": f"no such thing as {name}"})


def hear(message: dict) -> None:
    method, number, parameters = message.get("method"), message.get("id"), message.get("params", {})
    if method == "initialize" and "mute" not in WAYS:
        information = {"name": "plain", "version": "1"}
        version = parameters["protocolVersion"]
        say(id=number, result={"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": information})
    elif method == "tools/list":
        say(id=number, result=listed(parameters.get("cursor")))
    elif method == "tools/call":
        call(number, parameters["name"], parameters.get("arguments") or {})
    elif method == "notifications/cancelled":
        cancelled.append(parameters["requestId"])
    elif number is not None and "mute" not in WAYS:
        say(id=number, error={"code": -32601, "message": "Method not found"})
    while waiting and cancelled:
        answer(waiting.pop(), cancelled.pop())


if "loud" in WAYS:
    print("a word to the user", file=sys.stderr, flush=True)
if "exits" in WAYS:
    sys.exit(3)
if "stubborn" in WAYS:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
for line in sys.stdin:
    hear(json.loads(line))
while "stubborn" in WAYS:
    signal.pause()
