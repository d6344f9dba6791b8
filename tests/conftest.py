"""What tests share: rule pages and fixtures as parameters, and one warm process in which programs are run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gradlint.verify.client import Server

pytest_plugins = ["gradlint.testing.plugin", "pytester"]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The process that has torch loaded, for all tests that run code."""
    with Server() as running:
        yield running
