"""The sources of the documentation site: a page a rule, links that lead somewhere, and what is made from the code."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gradlint.cli.parser import COMMANDS
from gradlint.reporters.pages import pages
from gradlint.rules import all_rules
from gradlint.session.config import key_of, settings

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, str(ROOT / "docs" / "site.py"), str(folder), "--sources"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return folder


def test_each_rule_has_a_page(sources: Path) -> None:
    index = (sources / "docs" / "rules" / "index.md").read_text()
    configuration = (sources / "zensical.toml").read_text()
    specs = {rule.spec.code: rule.spec for rule in all_rules()}
    for page in pages().values():
        name, spec = page.path.name, specs[page.code]
        text = (sources / "docs" / "rules" / name).read_text()
        assert text.splitlines()[2].startswith(f"**{spec.severity.value}** · {spec.group.value}")
        assert "# expect:" not in text
        assert f"({name})" in index
        assert f'"rules/{name}"' in configuration


def test_links_lead_somewhere(sources: Path) -> None:
    for page in (sources / "docs").rglob("*.md"):
        prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)", prose):
            if not re.match(r"[a-z]+:", target):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_fences_name_languages_only(sources: Path) -> None:
    for page in (sources / "docs").rglob("*.md"):
        for fence in re.findall(r"^`{3,}(.*)$", page.read_text(), flags=re.MULTILINE):
            assert re.fullmatch(r"[\w-]*", fence.strip()), f"{page.name}: {fence}"


def test_settings_and_commands_are_all_there(sources: Path) -> None:
    text = (sources / "docs" / "settings.md").read_text()
    for setting in settings():
        assert f"\n## {key_of(setting.name)}\n" in text
    text = (sources / "docs" / "commands.md").read_text()
    for command in COMMANDS:
        assert f"\n## gradlint {command}\n" in text
    assert "--min-confidence" in text


def test_the_site_is_built_and_searchable(sources: Path) -> None:
    beside = Path(sys.executable).with_name("zensical")
    command = str(beside) if beside.exists() else shutil.which("zensical")
    if command is None:
        pytest.skip("needs zensical")
    done = subprocess.run([command, "build"], cwd=sources, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 0, done.stdout
    assert "No issues found" in done.stdout + done.stderr
    found = {entry["location"].split("#")[0] for entry in json.loads((sources / "site" / "search.json").read_text())["items"]}
    for page in pages().values():
        assert f"rules/{page.path.stem}/" in found
