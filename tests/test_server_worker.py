"""The process that analyses can be interrupted anywhere without harm."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType

import pytest

from gradlint.server import worker
from gradlint.server.wire import Cancel, Check, Checked, Home, pack

ROOT = Path(__file__).resolve().parent.parent


def test_all_that_an_analysis_needs_is_there_before_it_can_be_interrupted() -> None:
    """Nothing of ours is imported for the first time by an analysis with findings."""
    code = """
import sys
from pathlib import Path
from gradlint.server import worker
worker._load()
before = set(sys.modules)
from gradlint.session import load_config
from gradlint.session.live import Live
root = Path("fixtures/whole_slide").resolve()
assert Live(root, load_config([root], cwd=root)).check([], everything=True).findings
print([name for name in sys.modules.keys() - before if name.startswith("gradlint")])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_an_import_is_not_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interruption comes when the module is there."""
    (tmp_path / "slow_to_import.py").write_text("import time\nfor _ in range(20):\n    time.sleep(0.01)\nwhole = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "slow_to_import", raising=False)
    work = worker.Worker(io.BytesIO(), lambda _: None)
    work._current, work._given_up = 7, {7}
    before = signal.signal(signal.SIGINT, work._interrupted)
    try:
        threading.Timer(0.05, worker._thread.interrupt_main, [signal.SIGINT]).start()
        with pytest.raises(worker._Cancelled):
            import slow_to_import  # type: ignore[import-not-found]

            assert slow_to_import.whole
            for _ in range(500):
                time.sleep(0.01)
        assert sys.modules["slow_to_import"].whole
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_was_given_up_is_answered_as_such(tmp_path: Path) -> None:
    """Before it begins, and in the middle; what comes after it is carried out."""
    (tmp_path / "train.py").write_text("import torch\noptimizer = torch.optim.SGD([torch.ones(1)])\noptimizer.step\n")
    home = Home(tmp_path, None)
    texts = {tmp_path / "train.py": (tmp_path / "train.py").read_text()}

    def check(number: int) -> Check:
        return Check(number, home, texts, (tmp_path / "train.py",), "utf-16")

    process = subprocess.Popen(
        [sys.executable, "-m", "gradlint.server.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdin and process.stdout
    for message in (check(1), Cancel(1), check(2), check(3), Cancel(3), check(4)):
        process.stdin.write(pack(message))
    process.stdin.flush()
    answers: list[Checked] = [worker.receive(process.stdout) for _ in range(4)]
    process.stdin.close()
    assert process.wait(30) == 0
    process.stdout.close()
    assert [answer.number for answer in answers] == [1, 2, 3, 4]
    assert not any(answer.trouble or answer.misconfigured for answer in answers)
    for answer in (answers[1], answers[3]):
        assert [row.code for row in answer.files[tmp_path / "train.py"]] == ["GRD208"]


def test_trouble_leaves_nothing_that_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the analysis as a whole breaks, no findings are told, and the next request starts from nothing."""
    (tmp_path / "train.py").write_text("import torch\noptimizer = torch.optim.SGD([torch.ones(1)])\noptimizer.step\n")
    work = worker.Worker(io.BytesIO(), lambda _: None)
    request = Check(1, Home(tmp_path, None), {}, (tmp_path / "train.py",), "utf-16")
    assert work._carry_out(request).files[tmp_path / "train.py"]

    def broken(*_: object, **__: object) -> None:
        raise ValueError("broken")

    with monkeypatch.context() as patch:
        patch.setattr("gradlint.session.live.Live.check", broken)
        answer = work._carry_out(request)
    assert (answer.trouble, answer.files) == ("ValueError: broken", {})
    assert work._carry_out(request).files[tmp_path / "train.py"]


def test_rows_of_the_project_are_read_again(tmp_path: Path) -> None:
    """A change of a knowledge file holds when the settings are read again."""
    (tmp_path / "engine.py").write_text("def run(loss):\n    loss.backward()\n")
    (tmp_path / "train.py").write_text(
        "import torch\nfrom torch import nn\nimport ours\n\nnet = nn.Linear(2, 2)\nhead = nn.Linear(2, 2)\n"
        "optimizer = torch.optim.SGD([*net.parameters(), *head.parameters()])\n"
        "for x in range(9):\n    loss = head(ours.stop(net(torch.ones(2)))).sum()\n"
        "    optimizer.zero_grad()\n    loss.backward()\n    optimizer.step()\n"
    )
    rows = tmp_path / "rows.toml"
    (tmp_path / "gradlint.toml").write_text('knowledge = ["rows.toml"]\n')
    work = worker.Worker(io.BytesIO(), lambda _: None)
    home = Home(tmp_path, tmp_path / "gradlint.toml")

    def codes(row: str) -> list[str]:
        rows.write_text(f'[api."ours.stop"]\n{row}\n')
        answer = work._carry_out(Check(1, home, {}, (tmp_path / "train.py",), "utf-16", reload=True))
        assert not (answer.trouble or answer.misconfigured)
        return [row.code for row in answer.files[tmp_path / "train.py"]]

    assert codes('effect = "flow"') == []
    assert codes('effect = "cut"\nkind = "detach"') == ["GRD102"]
    assert codes('effect = "flow"') == []


def test_importing_is_seen() -> None:
    def frame() -> FrameType:
        return sys._getframe()

    assert not worker._importing(frame())
    assert not worker._importing(None)
