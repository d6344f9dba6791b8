"""Every program on a rule's page that can run is confirmed where it is bad, and nothing is confirmed where it is good."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from gradlint.core import Outcome
from gradlint.session import analyze, load_config
from gradlint.testing.cases import write
from gradlint.testing.pages import Case
from gradlint.verify.client import Server
from gradlint.verify.run import Settings, verify


def test_bad_is_confirmed_and_good_is_not(page_program: Case, server: Server, tmp_path: Path) -> None:
    folder = tmp_path.resolve()
    write(page_program.files, folder)
    config = load_config([folder], cwd=folder, overrides=['select=["ALL"]', "preview=true"], isolated=True)
    report = analyze([folder], config, cwd=folder, use_cache=False)
    verdicts = verify(report, Settings(seconds=30, folder=folder), server=server)
    told = [
        f"{finding.code} {finding.span}: {verdict.outcome}: {verdict.reason} {[each.text for each in verdict.evidence]}"
        for finding, verdict in verdicts.items()
        if (verdict.outcome is Outcome.CONFIRMED) != (page_program.verdict == "bad")
    ]
    if told:
        pytest.fail("\n".join(told), pytrace=False)
