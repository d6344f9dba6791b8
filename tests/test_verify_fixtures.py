"""What gradlint finds in the fixtures that have a fault is confirmed by running them."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from gradlint.core import Outcome
from gradlint.session import analyze
from gradlint.testing.fixtures import CLEAN, Project, copy, find_projects
from gradlint.testing.linter import settings
from gradlint.verify.client import Server
from gradlint.verify.run import Settings, verify

UNDECIDED = {
    # what is moved to where it is already stays itself: on a CPU alone the run says so, and decides nothing
    ("reports/unregistered-parameter_01_moved_queries", "GRD210"),
    ("reports/leaf-rebound_02_latent_on_the_device", "GRD112"),
    ("reports/discarded-detach_02_moved_noise", "GRD114"),
    # what the program needs is not there: a file, a GPU
    ("reports/frozen-dropout-in-train-mode_03_loaded_reward_model", "GRD303"),
    ("reports/hook-mask-dtype_03_random_rows", "GRD703"),
}
"""Findings that running the fixture on a CPU cannot decide; the verdict has to say so."""

FAULTY = [project for project in find_projects(Path(__file__).parent.parent / "fixtures") if project.topic != CLEAN]


@pytest.mark.parametrize("project", FAULTY, ids=lambda project: project.title)
def test_findings_are_confirmed(project: Project, server: Server, tmp_path: Path) -> None:
    folder = tmp_path.resolve() / project.path.name
    copy(project, folder)
    config = settings(folder)
    report = analyze([folder], config, cwd=folder, use_cache=False)
    told = []
    for finding, verdict in verify(
        report, Settings(device="cpu", seconds=30, folder=folder, contracts=config.contracts), server=server
    ).items():
        undecided = (project.title, finding.code) in UNDECIDED
        if verdict.outcome is not (Outcome.INCONCLUSIVE if undecided else Outcome.CONFIRMED):
            told.append(f"{finding.code} {finding.span}: {verdict.outcome}: {verdict.reason}")
    if told:
        pytest.fail("\n".join(told), pytrace=False)
