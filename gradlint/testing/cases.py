"""Checks the cases of rule pages: what gradlint finds in them, what its fixes make of them, what they show when they run."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from gradlint.testing.linter import fix, lint
from gradlint.testing.marks import Mismatch, compare, map_lines, strip_marks
from gradlint.testing.pages import Block, Case
from gradlint.testing.symptoms import Runtime, judge, watched


def check_findings(case: Case) -> tuple[Mismatch, ...]:
    """Where gradlint and the marks of a page's project disagree, as places in the page."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        write(case.files, folder)
        findings = lint(folder)
    mismatches = list(map_lines(compare(findings, case.marks), case.places))
    if case.verdict == "bad" and not any(mark.rule == case.code for mark in case.marks):
        mismatches.append(Mismatch(case.page.name, case.line, f"a bad block marks where {case.code} points"))
    return tuple(mismatches)


def check_fix(case: Case) -> str:
    """What the automatic fix of the bad block gives where it is not this block, as a diff; empty when they agree."""
    from difflib import unified_diff

    assert case.fixes is not None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        write(case.fixes, folder)
        fix(folder)
        fixed = {name: (folder / name).read_text(encoding="utf-8") for name in case.fixes}
    return "".join(
        line
        for name, block in case.files.items()
        for line in unified_diff(
            strip_marks(block.text).splitlines(keepends=True),
            fixed.get(name, "").splitlines(keepends=True),
            f"{case.page.name}: {name}",
            "fixed",
        )
    )


def check_symptoms(case: Case, runtime: Runtime) -> tuple[str, ...]:
    """Run a page's project and say what it shows that it should not, or does not show that it should."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        write(case.files, folder)
        return judge(case.verdict, case.symptoms, runtime.observe(folder, case.entry, watched(case.symptoms)))


def write(files: Mapping[str, Block], folder: Path) -> None:
    """Write a project's files, without their marks, below ``folder``."""
    for name, block in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(strip_marks(block.text), encoding="utf-8")


def show(mismatches: Sequence[Mismatch]) -> str:
    """Mismatches as lines that terminals and editors turn into links."""
    return "\n".join(map(str, mismatches))
