"""gradlint finds in each fixture what its marks say, and nothing else."""

from __future__ import annotations

import pytest

from gradlint.testing.cases import show
from gradlint.testing.fixtures import Project, check_project


def test_fixture(fixture_project: Project) -> None:
    mismatches = check_project(fixture_project)
    if mismatches:
        pytest.fail(show(mismatches), pytrace=False)
