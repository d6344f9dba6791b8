"""A pytest plugin: rule pages and fixtures as parameters of tests.

Load it with ``pytest_plugins = ["gradlint.testing.plugin"]`` or ``-p gradlint.testing.plugin``.  A test runs once for each
page that it takes as ``rule_page``, for each case of a page (``page_case``), each case that is a fix (``page_fix``), each case
that can be run (``page_program``), and each fixture (``fixture_project``).  Where they are is said by the ini options
``gradlint_pages`` and ``gradlint_fixtures``, folders relative to the root folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gradlint.testing.fixtures import Project, find_projects
from gradlint.testing.pages import Case, Page, find_pages, load_page
from gradlint.testing.symptoms import Runtime

_PAGES: dict[Path, tuple[Page, ...]] = {}
_CASES: dict[str, Callable[[Case], bool]] = {
    "page_case": lambda _: True,
    "page_fix": lambda case: case.fixes is not None,
    "page_program": lambda case: case.runs,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare where pages and fixtures are."""
    parser.addini("gradlint_pages", "the folder of the rule pages", default="rules")
    parser.addini("gradlint_fixtures", "the folder of the fixtures", default="fixtures")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Hand pages, cases and fixtures to the tests that ask for them."""
    if "rule_page" in metafunc.fixturenames:
        pages = load_pages(metafunc.config)
        metafunc.parametrize("rule_page", pages, ids=[page.code for page in pages])
    for name, wanted in _CASES.items():
        if name in metafunc.fixturenames:
            cases = [case for page in load_pages(metafunc.config) for case in page.cases if wanted(case)]
            metafunc.parametrize(name, cases, ids=[f"{case.code} {case.title}" for case in cases])
    if "fixture_project" in metafunc.fixturenames:
        folder = metafunc.config.rootpath / metafunc.config.getini("gradlint_fixtures")
        projects: tuple[Project, ...] = find_projects(folder) if folder.is_dir() else ()
        metafunc.parametrize("fixture_project", projects, ids=[project.title for project in projects])


def load_pages(config: pytest.Config) -> tuple[Page, ...]:
    """The pages of the session, parsed once."""
    folder = config.rootpath / config.getini("gradlint_pages")
    if folder not in _PAGES:
        _PAGES[folder] = tuple(load_page(path) for path in find_pages(folder))
    return _PAGES[folder]


@pytest.fixture(scope="session")
def page_runtime() -> Iterator[Runtime]:
    """A process with torch loaded in which page programs run; skips where there is no torch."""
    if not Runtime.available():
        pytest.skip("running the pages' programs needs torch and a system that can fork")
    with Runtime() as runtime:
        yield runtime


__all__ = ["Case", "Page", "Project", "load_pages", "page_runtime"]
