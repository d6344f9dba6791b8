"""User code that misbehaves: each ends in an answer, the next job runs, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradlint.core import Outcome

pytest.importorskip("torch")

from gradlint.testing.verifying import put
from gradlint.verify.client import Server
from gradlint.verify.run import Settings

GOOD = """\
import torch
from torch import nn

a, b = nn.Linear(4, 4), nn.Linear(4, 1)
optimizer = torch.optim.SGD([*a.parameters(), *b.parameters()], lr=0.1)
for step in range(3):
    loss = b(a(torch.randn(5, 4)).detach()).mean()  # claim: starved a
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""

CLAIM = "\nimport torch\nx = torch.ones(1).detach()  # claim: starved a\n"

HOSTILE = {
    "hangs": ("while True:\n    pass", "within the time limit"),
    "hangs deaf": (
        "import signal, time\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nsignal.pthread_sigmask(signal.SIG_BLOCK, "
        "[signal.SIGALRM])\nwhile True:\n    time.sleep(1)",
        "did not stop within",
    ),
    "catches everything": (
        "import time\nwhile True:\n    try:\n        time.sleep(60)\n    except BaseException:\n        pass",
        "within the time limit",
    ),
    "segfaults": ("import ctypes\nctypes.string_at(0)", "SIGSEGV"),
    "aborts": ("import os\nos.abort()", "SIGABRT"),
    "leaves": ("import os\nos._exit(3)", "os._exit(3)"),
    "leaves behind Python's back": ("import ctypes\nctypes.CDLL(None)._exit(4)", "left with status 4"),
    "exits": ("raise SystemExit('no data')", "exit status no data"),
    "is interrupted": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "raises": ("raise ValueError('nothing here')", "ValueError: nothing here"),
    "does not parse": ("def (", "SyntaxError"),
    "starts threads without end": (
        "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
        ("within the time limit", "can't start new thread"),
    ),
    "forks without end": ("import os\nwhile True:\n    os.fork()", ("256 processes", "within", "BlockingIOError")),
    "takes all memory": (
        "import torch\nkept = []\nwhile True:\n    kept.append(torch.empty(1 << 26))",
        "can't allocate memory",
    ),
    "prints without end": ("while True:\n    print('x' * 1000)", "within the time limit"),
    "prompts": ("input('licence accepted? ')", "EOFError"),
    "opens the terminal": ("open('/dev/tty')", "OSError"),
    "downloads": ("import urllib.request\nurllib.request.urlopen('http://example.org/weights.pt')", "example.org"),
    "connects": ("import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=3)", "192.0.2.1"),
    "closes everything": ("import os\nos.closerange(3, 1024)", "no answer"),
    "kills its parents": (
        "import os, signal\nfor p in (os.getppid(), 1, -1, 0):\n    os.kill(p, signal.SIGKILL)",
        "PermissionError",
    ),
    "recurses": ("def f():\n    return f()\nf()", "RecursionError"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def processes_with(mark: str) -> list[int]:
    """The processes whose environment or command line holds a mark."""
    found = []
    for name in (entry.name for entry in Path("/proc").iterdir()):
        if name.isdigit() and int(name) != os.getpid():
            try:
                text = Path(f"/proc/{name}/cmdline").read_bytes() + Path(f"/proc/{name}/environ").read_bytes()
                alive = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
            except OSError:
                continue
            if mark.encode() in text and alive:
                found.append(int(name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="what is asserted of the ends is Linux's")
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_program_is_inconclusive_and_the_run_goes_on(name: str, server: Server, tmp_path: Path) -> None:
    code, said = HOSTILE[name]
    settings = Settings(seconds=2, memory=2 << 30, folder=tmp_path)
    verdicts, answer = put(server, tmp_path, {"main.py": code + CLAIM}, settings=settings)
    reasons = " ".join([answer["ending"]["text"], *(verdict.reason for verdict in verdicts)])
    assert any(words in reasons for words in ([said] if isinstance(said, str) else said)), answer
    assert all(verdict.outcome is Outcome.INCONCLUSIVE for verdict in verdicts)
    (after,), _ = put(server, tmp_path / "next", {"main.py": GOOD})
    assert after.outcome is Outcome.CONFIRMED


@pytest.mark.skipif(sys.platform != "linux", reason="process namespaces and subreapers are Linux's")
@pytest.mark.parametrize("shared", [False, True], ids=["namespaces", "no namespaces"])
def test_no_process_outlives_its_job(shared: bool, tmp_path: Path) -> None:
    mark = f"gradlint-left-{os.getpid()}-{time.monotonic_ns()}"
    code = (
        "import os, subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300) # {mark}'], start_new_session=True)\n"
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(300)\n    os._exit(0)\n"
    )
    with Server({"GRADLINT_TEST_MARK": mark}) as server:
        settings = Settings(seconds=5, folder=tmp_path)
        put(server, tmp_path, {"main.py": code + CLAIM}, settings=settings, shared=shared)
        time.sleep(0.3)
        assert len(processes_with(mark)) == 1  # the warm process itself
    time.sleep(0.2)
    assert processes_with(mark) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_nothing_is_left_when_gradlint_is_ended(kind: signal.Signals, tmp_path: Path) -> None:
    mark = f"gradlint-ended-{os.getpid()}-{time.monotonic_ns()}"
    (tmp_path / "main.py").write_text(
        GOOD.partition("  # claim")[0].replace("import torch\n", "import torch, time\n", 1)
        + "\n    loss.backward()\n    open('started', 'w').close()\n    time.sleep(300)\n"
    )
    environment = {**os.environ, "GRADLINT_TEST_MARK": mark, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "gradlint", "verify", str(tmp_path), "--isolated", "--no-cache"]
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # it is ignored where tests run in the background
    )
    deadline = time.monotonic() + 60
    while len(processes_with(mark)) < 4 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)  # gradlint, the warm process, the keeper of the namespaces, the program
    time.sleep(0.5)
    assert process.poll() is None, process.communicate()
    process.send_signal(kind)
    process.wait(timeout=20)
    deadline = time.monotonic() + 10
    while (left := processes_with(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()


@pytest.mark.parametrize("shared", [False, True], ids=["namespaces", "no namespaces"])
def test_the_users_files_stay_as_they_are(shared: bool, server: Server, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\nimport os\n"
        "assert Path('data/numbers.txt').read_text() == '1 2 3'\n"
        "Path('new.txt').write_text('made')\nassert Path('new.txt').read_text() == 'made'\n"
        "Path('data/more.txt').write_text('made')\n"
        "try:\n    Path('data/numbers.txt').write_text('lost')\nexcept OSError as error:\n    print('refused', error)\n"
        "try:\n    os.remove(Path(__file__).parent / 'data/numbers.txt')\n"
        "except OSError as error:\n    print('refused', error)\n"
    )
    files = {"main.py": code + GOOD, "data/numbers.txt": "1 2 3"}
    (verdict,), answer = put(server, tmp_path, files, settings=Settings(seconds=20, folder=tmp_path), shared=shared)
    assert verdict.outcome is Outcome.CONFIRMED, answer
    assert (tmp_path / "data/numbers.txt").read_text() == "1 2 3"
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.*")) == ["data/numbers.txt", "main.py"]


def test_files_elsewhere_are_out_of_reach(server: Server, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.txt"
    code = f"from pathlib import Path\nPath({str(elsewhere)!r}).write_text('here')\n"
    project = tmp_path / "project"
    (verdict,), answer = put(server, project, {"main.py": code + CLAIM}, settings=Settings(seconds=20, folder=project))
    assert not elsewhere.exists()
    assert "PermissionError" in answer["ending"]["text"]
    assert any("must not" in each.text for each in verdict.evidence)


def test_a_download_is_told_in_the_verdict(server: Server, tmp_path: Path) -> None:
    code, _ = HOSTILE["downloads"]
    (verdict,), _ = put(server, tmp_path, {"main.py": code + CLAIM})
    assert any("asked for the network (example.org)" in each.text for each in verdict.evidence)


def test_what_ran_before_the_time_limit_counts(server: Server, tmp_path: Path) -> None:
    settings = Settings(seconds=3, folder=tmp_path)
    (verdict,), answer = put(server, tmp_path, {"main.py": GOOD + "while True:\n    pass\n"}, settings=settings)
    assert verdict.outcome is Outcome.CONFIRMED
    assert answer["ending"]["kind"] == "time"


def test_enough_steps_end_a_long_training(server: Server, tmp_path: Path) -> None:
    settings = Settings(seconds=60, steps=5, folder=tmp_path)
    text = GOOD.replace("range(3)", "range(10**9)")
    (verdict,), answer = put(server, tmp_path, {"main.py": text}, settings=settings)
    assert verdict.outcome is Outcome.CONFIRMED
    assert answer["ending"]["kind"] == "enough"
    assert "5 optimizer steps" in verdict.driver


def test_the_server_says_when_torch_is_missing(tmp_path: Path) -> None:
    from gradlint.verify.client import Unavailable

    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    with Server({"PYTHONPATH": path}) as server, pytest.raises(Unavailable, match="no torch here"):
        server.start()
