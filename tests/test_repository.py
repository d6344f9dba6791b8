"""What a stranger meets first: the README's commands, the packages that are built, the hook, the links."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

import gradlint

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PAGES = sorted((ROOT / "rules").glob("*.md"))


def shell_blocks() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_readme_opens_with_a_finding_and_two_commands() -> None:
    trial, tests = shell_blocks()
    assert README.index("<!-- finding -->") < README.index(trial) < README.index(tests)
    assert "gradlint --exit-zero fixtures/" in trial
    assert "[dev]" not in trial and "torch" not in trial
    assert tests.rstrip().splitlines()[-1].startswith(".venv/bin/pytest")
    for path in re.findall(r"\bfixtures/\w+", trial):
        assert (ROOT / path).is_dir()


def test_readme_tells_the_name_of_the_distribution() -> None:
    assert PYPROJECT["project"]["name"] != "gradlint"
    assert f"pip install {PYPROJECT['project']['name']}" in README


def test_generated_sections_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, "-m", "gradlint.dev", "docs", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_ci_runs_the_test_command_of_the_readme() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text(encoding="utf-8")
    program = re.search(r"awk '(.*)' README.md", text)
    assert program
    block = subprocess.run(["awk", program[1], "README.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert block == shell_blocks()[1]
    subprocess.run(["bash", "-n", script], check=True)


def test_torch_is_pinned_for_development_and_absent_from_the_core() -> None:
    project = PYPROJECT["project"]
    assert [need for need in project["optional-dependencies"]["dev"] if re.match(r"torch\b", need)] == ["torch==2.13.0"]
    assert {re.match(r"[\w-]+", need)[0] for need in project["dependencies"]} == {"libcst", "pathspec"}


def test_installed_version() -> None:
    try:
        version = metadata.version(PYPROJECT["project"]["name"])
    except metadata.PackageNotFoundError:
        pytest.skip("gradlint is run from its folder, not installed")
    assert version == gradlint.__version__


def build(target: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.iterdir()
    return built


def test_wheel_holds_pages_and_knowledge(tmp_path: Path) -> None:
    with zipfile.ZipFile(build("wheel", tmp_path)) as wheel:
        names = set(wheel.namelist())
    assert PAGES
    assert {f"gradlint/pages/{page.name}" for page in PAGES} <= names
    rows = list((ROOT / "gradlint" / "knowledge").glob("*.toml"))
    assert rows
    assert {f"gradlint/knowledge/{row.name}" for row in rows} <= names
    assert "gradlint/py.typed" in names
    assert not any(name.startswith(("tests/", "fixtures/", "rules/")) for name in names)


def test_sdist_holds_what_its_tests_need(tmp_path: Path) -> None:
    with tarfile.open(build("sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"rules/{page.name}" for page in PAGES} <= names
    assert {"tests/test_repository.py", "README.md", "LICENSE", ".ci/run", ".pre-commit-hooks.yaml"} <= names
    assert any(name.startswith("fixtures/") for name in names)


def test_pre_commit_hook() -> None:
    hook = next(hook for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text()) if hook["id"] == "gradlint")
    assert hook["language"] == "python"
    assert hook["require_serial"] is True and hook["pass_filenames"] is False
    assert set(hook["types_or"]) == {"python", "jupyter"}
    assert hook["entry"].split()[0] in PYPROJECT["project"]["scripts"]


@pytest.mark.parametrize("document", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("*/*.md")), ids=lambda path: path.name)
def test_links_between_documents(document: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", prose):
        if not re.match(r"[a-z]+:", target):
            assert (document.parent / target).exists(), target


def test_no_path_of_one_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a checkout")
    home = re.compile(r"(?<![\w.])/(?:home|root|Users)/\w")
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".ipynb", ""} and path.is_file():
            match = home.search(path.read_text(encoding="utf-8", errors="replace"))
            assert match is None, f"{name}: {match[0] if match else ''}"


def test_a_new_rule_can_be_started(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gradlint.dev", "new", "--root", str(tmp_path)]
    done = subprocess.run([*command, "GRD998", "made-up-rule"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    module = tmp_path / "gradlint" / "rules" / "grd998_made_up_rule.py"
    program = f"import runpy; rule = runpy.run_path({str(module)!r})['MadeUpRule']; print(rule.spec.code, rule.spec.name)"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert loaded.stdout == "GRD998 made-up-rule\n", loaded.stderr
    assert (tmp_path / "rules" / "GRD998-made-up-rule.md").read_text().startswith("# GRD998 made-up-rule\n")
    again = subprocess.run([*command, "GRD998", "another-name"], cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 2 and "exists already" in again.stderr
