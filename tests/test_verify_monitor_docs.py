"""The page on monitors does what it says: its examples run, and its output is what comes out."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from pathlib import Path

import pytest

pytest.importorskip("torch")

PAGE = (Path(__file__).parent.parent / "docs" / "monitors.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def run(code):
    """Run an example, and the tests it defines; return what it prints."""
    names = {"__name__": "example"}
    with contextlib.redirect_stdout(io.StringIO()) as printed, warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(compile(code, "docs/monitors.md", "exec"), names)
        for name, value in list(names.items()):
            if name.startswith("test_"):
                value()
    return printed.getvalue()


def test_there_are_examples_of_everything():
    text = "".join(EXAMPLES)
    for name in ("GradientGainMonitor", "verify_isolation", "audit", "assert_gradients_flow", "LoopMonitor"):
        assert f"import {name}\n" in text


@pytest.mark.parametrize("code", EXAMPLES, ids=lambda code: re.search(r"gradlint\.verify import (\w+)", code).group(1))
def test_example_runs(code):
    run(code)


def test_isolation_example_shows_the_drift():
    code = next(code for code in EXAMPLES if "import verify_isolation" in code)
    assert "buffer host.1.running_mean changed, max difference" in run(code)


def test_shown_audit_is_the_audit_of_the_example():
    code = next(code for code in EXAMPLES if "import audit" in code)
    shown = re.search(r"<!-- audit -->\n```text\n(.*?)```\n<!-- /audit -->", PAGE, re.DOTALL).group(1)

    def rough(text):  # the last digits are the processor's
        return re.sub(r"\d\.\d+(e[+-]\d+)?", "#", text).split()

    assert rough(shown) == rough(run(code))


def test_report_holds_the_words_of_the_page():
    code = next(code for code in EXAMPLES if "import GradientGainMonitor" in code)
    printed = run(code)
    assert "Gradient Gains (ratio of consecutive norms):" in printed
    assert printed.count("[Healthy]") + printed.count("[DAMPING]") == 5
