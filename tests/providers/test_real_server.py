"""The server of mlx-lm itself, with the model that ships: what a real service of OpenAI's format does with our requests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import pytest

from abstractllm import embedded
from abstractllm.providers.compatible import CompatibleProvider, MLXServer
from abstractllm.testing import ProviderConformance

PATIENCE = 60.0
"""Seconds within which the server must be there."""

SWITCH = {
    "name": "switch",
    "description": "Switch the light.",
    "parameters": {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]},
}
WEATHER = {
    "name": "get_weather",
    "description": "Get the current weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def await_health(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Return once the server says that it is well; fail with its log where it ends, or takes too long."""
    opener = build_opener(ProxyHandler({}))
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends and process.poll() is None:
        try:
            with opener.open(f"{url}/health", timeout=5) as answer:
                answer.read()
                return
        except (URLError, OSError):
            threading.Event().wait(0.05)
    pytest.fail(f"mlx_lm.server did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of mlx-lm, without the "/v1"; stopped at the end, whatever happens."""
    pytest.importorskip("mlx_lm")
    folder = tmp_path_factory.mktemp("server")
    log, port = folder / "log", free_port()
    command = [sys.executable, "-m", "mlx_lm", "server", "--model", str(embedded.PATH), "--port", str(port)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder)}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            await_health(process, f"http://127.0.0.1:{port}", log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


class TestRow(ProviderConformance):
    """The row of the server."""

    params: ClassVar[dict[str, Any]] = {"max_tokens": 40, "temperature": 0}
    tool_prompt = "What is the weather in Paris?"
    tools = (SWITCH, WEATHER)
    names_stops = False
    kind: ClassVar[type[CompatibleProvider]] = MLXServer

    @pytest.fixture(autouse=True)
    def server(self, real_server: str) -> None:
        self.url = f"{real_server}/v1"

    def make(self) -> CompatibleProvider:
        return self.kind(base_url=self.url)

    def make_failing(self) -> CompatibleProvider:
        return self.kind(base_url=self.url, model="there/is-no-such-model")


class TestCompatible(TestRow):
    """The class for any server."""

    kind = CompatibleProvider
