"""gradlint over a folder, as the tests run it: every rule on, no settings from outside, no cache."""

from __future__ import annotations

from pathlib import Path

from gradlint.core import Finding
from gradlint.session import Config, Fixing, Report, analyze, load_config


def lint(folder: Path) -> tuple[Finding, ...]:
    """The findings in the project ``folder``, their files relative to it.

    Reads no settings but a ``gradlint.toml`` in the folder itself. Raises ``AssertionError`` when something keeps the run from
    checking the project.
    """
    report = analyze([folder], settings(folder), cwd=folder, use_cache=False)
    _succeeded(report)
    return report.findings


def fix(folder: Path) -> None:
    """Apply every fix, safe and unsafe, to the files of the project ``folder``. Raises ``AssertionError`` as ``lint``."""
    _succeeded(analyze([folder], settings(folder), cwd=folder, use_cache=False, fixing=Fixing(unsafe=True)))


def settings(folder: Path) -> Config:
    """The settings under which pages and fixtures are checked: every rule, and what the folder's own file says."""
    own = folder / "gradlint.toml"
    return load_config(
        [folder], cwd=folder, file=own if own.is_file() else None, overrides=['select=["ALL"]', "preview=true"], isolated=True
    )


def _succeeded(report: Report) -> None:
    assert not report.failed, "\n".join(note.message for note in report.notes if note.level == "error")
