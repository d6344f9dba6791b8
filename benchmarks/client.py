"""A client of the language server for the scripts beside it: as much of an editor as it takes to type and to look."""

from __future__ import annotations

import itertools
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 600.0


class Client:
    """A client that is pushed to, watches files and counts columns in UTF-16.

    ``published``: what came, and when. ``shown``: the last diagnostics of each document, with the version they are about.
    ``messages``: what the server wanted the person to read.
    """

    def __init__(self, root: Path, log: IO[str] | None = None) -> None:
        self.server = subprocess.Popen(
            [sys.executable, "-m", "gradlint", "server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._numbers = itertools.count(1)
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self.published: queue.Queue[tuple[float, dict[str, Any]]] = queue.Queue()
        self.shown: dict[str, dict[str, Any]] = {}
        self.messages: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        self.request(
            "initialize",
            {
                "processId": os.getpid(),
                "rootUri": root.as_uri(),
                "workspaceFolders": [{"uri": root.as_uri(), "name": "workspace"}],
                "capabilities": {
                    "textDocument": {"publishDiagnostics": {"relatedInformation": True}},
                    "workspace": {"didChangeWatchedFiles": {"dynamicRegistration": True}},
                },
            },
        )
        self.notify("initialized", {})

    def _send(self, message: dict[str, Any]) -> None:
        assert self.server.stdin
        data = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.server.stdin.write(b"Content-Length: %d\r\n\r\n" % len(data) + data)
        self.server.stdin.flush()

    def notify(self, method: str, params: Any) -> None:
        """Tell the server something."""
        self._send({"method": method, "params": params})

    def request(self, method: str, params: Any) -> Any:
        """Ask the server something and wait for the answer."""
        number = next(self._numbers)
        self._send({"id": number, "method": method, "params": params})
        answer = self._answers.get(timeout=PATIENCE)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def _read(self) -> None:
        assert self.server.stdout
        while True:
            size = 0
            while line := self.server.stdout.readline().strip():
                if line.lower().startswith(b"content-length:"):
                    size = int(line.split(b":")[1])
            if not size:
                return
            message = json.loads(self.server.stdout.read(size))
            now = time.perf_counter()
            if message.get("method") == "textDocument/publishDiagnostics":
                self.shown[message["params"]["uri"]] = message["params"]
                self.published.put((now, message["params"]))
            elif message.get("method") == "window/showMessage":
                self.messages.append(message["params"]["message"])
            elif "method" in message and "id" in message:
                self._send({"id": message["id"], "result": None})
            elif "id" in message:
                self._answers.put(message)

    def answer(self, version: int) -> tuple[float, int]:
        """When the findings for a version came, and how many there were."""
        while True:
            when, params = self.published.get(timeout=PATIENCE)
            if params.get("version") == version:
                return when, len(params["diagnostics"])

    def close(self) -> int:
        """Leave as the protocol says; returns the server's exit code."""
        self.request("shutdown", None)
        self.notify("exit", None)
        return self.server.wait(timeout=30)

    def processes(self) -> list[int]:
        """The server and the process that analyses."""
        own = self.server.pid
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        return [own, *map(int, children)]
