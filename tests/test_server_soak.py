"""The script that works at random over a repository, for a few seconds; and it sees it when something is stale."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("pygls")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("soak", ROOT / "benchmarks" / "soak.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "soak", module)
    spec.loader.exec_module(module)
    return module


def test_a_little_of_it(script: ModuleType) -> None:
    work = script.soak(ROOT / "fixtures" / "whole_slide", 80, 20, seed=3)
    assert work.faults == []
    assert work.checks == 4
    assert work.deeds["findings compared"] > 0
    assert work.deeds["findings at the end"] > 0


def test_it_sees_what_is_stale(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    settled = script.Soak.settled

    def without_the_first(self: object) -> dict[Path, object]:
        shown = settled(self)
        found = next((path for path, findings in shown.items() if findings), None)
        if found is not None:
            shown[found].subtract([next(iter(shown[found]))])
        return shown

    monkeypatch.setattr(script.Soak, "settled", without_the_first)
    work = script.soak(ROOT / "fixtures" / "whole_slide", 1, 10, seed=3)
    assert any(fault.startswith("at the end") for fault in work.faults)
