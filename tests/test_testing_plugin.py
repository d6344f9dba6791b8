"""The pytest plugin: pages and fixtures become parameters, wherever the ini file says they are."""

from __future__ import annotations

from pathlib import Path

import pytest

import gradlint

PAGE = """\
# GRD102 detach-on-loss-path

In short.

## Examples

### One

```python bad no-run
x  # expect: GRD102
```

```python good fix
print("fine")
```
"""

TESTS = """\
def test_page(rule_page):
    assert rule_page.name == "detach-on-loss-path"

def test_case(page_case):
    assert page_case.code == "GRD102"

def test_fix(page_fix):
    assert page_fix.verdict == "good"

def test_program(page_program, page_runtime):
    observation = page_runtime.observe(page_program.page.parent, "program.py", [])
    assert observation["output"] == "fine\\n"

def test_fixture(fixture_project):
    assert fixture_project.title == "graph/one"
"""


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the pytest that is started find this gradlint, installed or not."""
    monkeypatch.setenv("PYTHONPATH", str(Path(gradlint.__file__).resolve().parent.parent))


def test_pages_and_fixtures_are_parameters(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ngradlint_pages = pages\ngradlint_fixtures = projects\n")
    pytester.mkdir("pages").joinpath("GRD102-detach-on-loss-path.md").write_text(PAGE, encoding="utf-8")
    pytester.path.joinpath("pages", "program.py").write_text("print('fine')\n", encoding="utf-8")
    project = pytester.path / "projects" / "graph" / "one"
    project.mkdir(parents=True)
    project.joinpath("a.py").write_text("x  # expect: GRD102\n", encoding="utf-8")
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_subprocess("-p", "gradlint.testing.plugin", "-v")
    result.stdout.fnmatch_lines(
        [
            "*test_page[[]GRD102[]]*PASSED*",
            "*test_case[[]GRD102 Examples / One (1, bad)[]]*PASSED*",
            "*test_case[[]GRD102 Examples / One (2, good)[]]*PASSED*",
            "*test_fix[[]GRD102 Examples / One (2, good)[]]*PASSED*",
            "*test_program[[]GRD102 Examples / One (2, good)[]]*",
            "*test_fixture[[]graph/one[]]*PASSED*",
        ]
    )
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] + outcomes.get("skipped", 0) == 6 and "failed" not in outcomes


def test_a_broken_page_says_where(pytester: pytest.Pytester) -> None:
    pytester.mkdir("rules").joinpath("GRD102-detach-on-loss-path.md").write_text(PAGE + "```python good\n", encoding="utf-8")
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_subprocess("-p", "gradlint.testing.plugin")
    result.stdout.fnmatch_lines(["*GRD102-detach-on-loss-path.md:16: the block has no end*"])
