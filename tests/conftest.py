"""What tests share: rule pages and fixtures as parameters, and one warm process in which programs are run."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from gradlint.verify.client import Server

pytest_plugins = ["gradlint.testing.plugin", "pytester"]

# Hundreds of processes are started: the first leaves its compiled modules to the others, whatever the surroundings say.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The process that has torch loaded, for all tests that run code."""
    with Server() as running:
        yield running
