"""Every program on a rule's page that can run is confirmed where it is bad, and nothing is confirmed where it is good."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from gradlint.core import Outcome
from gradlint.session import analyze
from gradlint.testing.cases import write
from gradlint.testing.linter import settings
from gradlint.testing.pages import Case
from gradlint.verify.client import Server
from gradlint.verify.run import Settings, verify


def test_bad_is_confirmed_and_good_is_not(page_program: Case, server: Server, tmp_path: Path) -> None:
    folder = tmp_path.resolve()
    write(page_program.files, folder)
    config = settings(folder)
    report = analyze([folder], config, cwd=folder, use_cache=False)
    verdicts = verify(report, Settings(seconds=30, folder=folder, contracts=config.contracts), server=server)
    told = [
        f"{finding.code} {finding.span}: {verdict.outcome}: {verdict.reason} {[each.text for each in verdict.evidence]}"
        for finding, verdict in verdicts.items()
        if (verdict.outcome is Outcome.CONFIRMED) != (page_program.verdict == "bad" and finding in report.findings)
    ]
    if told:
        pytest.fail("\n".join(told), pytrace=False)
