"""Builds the documentation site: ``python docs/site.py build/site`` (needs ``pip install zensical==0.0.73``).

The pages are those that are read in the repository, in `docs/` and `rules/`, with what the tests ask of the examples told in
words, and three pages that are made from the code: the rules, the settings and the commands. ``--sources`` only gathers them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from gradlint.cli.parser import COMMANDS  # noqa: E402 - of this checkout
from gradlint.core import RuleSpec, Safety  # noqa: E402
from gradlint.dev import rule_table  # noqa: E402
from gradlint.reporters.pages import pages, readable  # noqa: E402
from gradlint.rules import all_rules  # noqa: E402
from gradlint.session.config import schema  # noqa: E402

HOME = "https://gradlint.dev/"

GUIDES = {
    "editors.md": "In the editor",
    "ci.md": "In CI and in the hook",
    "verifier.md": "The verifier",
    "auto-drive.md": "Auto-drive",
    "monitors.md": "Monitors",
    "mutations.md": "Planted bugs",
    "real-code.md": "Real code",
    "design.md": "Design",
}
"""The pages of ``docs/`` that the site shows, with their titles there."""

ELSEWHERE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "rules/README.md": "rules/format.md",
    "gradlint/knowledge/README.md": "knowledge.md",
}
"""Pages that live elsewhere in the repository, and where the site has them."""

_FIX = {Safety.SAFE: "safe, `--fix`", Safety.UNSAFE: "changes training, `--fix --unsafe-fixes`", Safety.NONE: "none"}

CONFIG = """\
[project]
site_name = "gradlint"
site_url = {home}
site_description = "Tells you why your network does not learn: finds gradient bugs in PyTorch projects without running them."
docs_dir = "docs"
site_dir = "site"
nav = [
{nav}
]

[project.theme]
language = "en"
font = false
features = [
  "content.code.copy",
  "navigation.footer",
  "navigation.indexes",
  "navigation.path",
  "navigation.sections",
  "navigation.top",
  "navigation.tracking",
  "search.highlight",
]

[[project.theme.palette]]
media = "(prefers-color-scheme: light)"
scheme = "default"
toggle.icon = "lucide/sun"
toggle.name = "Dark"

[[project.theme.palette]]
media = "(prefers-color-scheme: dark)"
scheme = "slate"
toggle.icon = "lucide/moon"
toggle.name = "Light"

[project.markdown_extensions]
admonition = {{}}
attr_list = {{}}
def_list = {{}}
md_in_html = {{}}
tables = {{}}
toc.permalink = true
pymdownx.highlight.pygments_lang_class = true
pymdownx.inlinehilite = {{}}
pymdownx.superfences = {{}}
"""


def main() -> int:
    """Gather the pages and build the site; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where to build; what is there is replaced")
    parser.add_argument("--sources", action="store_true", help="gather the pages, build nothing")
    options = parser.parse_args()
    gather(options.folder)
    if options.sources:
        return 0
    beside = Path(sys.executable).with_name("zensical")
    command = str(beside) if beside.exists() else shutil.which("zensical")
    if command is None:
        print("zensical is not installed: pip install zensical==0.0.73", file=sys.stderr)
        return 2
    return subprocess.run([command, "build", "--clean"], cwd=options.folder, check=False).returncode


def gather(folder: Path) -> None:
    """Write the sources of the site into a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    docs = folder / "docs"
    (docs / "rules").mkdir(parents=True)
    specs = {rule.spec.code: rule.spec for rule in all_rules()}
    places = {f"docs/{name}": name for name in GUIDES} | ELSEWHERE
    places |= {f"rules/{page.path.name}": f"rules/{page.path.name}" for page in pages().values()}
    for source, target in places.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        if source.startswith("rules/GRD"):
            text = _rule_page(readable(text), specs.get(Path(source).name[:6]))
        else:  # what a fence says to the tests is no language to a renderer
            text = re.sub(r"^(`{3,}\w+) .*$", r"\1", text, flags=re.MULTILINE)
        (docs / target).parent.mkdir(parents=True, exist_ok=True)
        (docs / target).write_text(_relinked(text, source, target, places), encoding="utf-8")
    table = _relinked("# Rules\n\n" + rule_table(), "README.md", "rules/index.md", places)
    (docs / "rules" / "index.md").write_text(table, encoding="utf-8")
    (docs / "settings.md").write_text(settings_page(), encoding="utf-8")
    (docs / "commands.md").write_text(commands_page(), encoding="utf-8")
    shutil.copy(ROOT / "docs" / "gradlint.schema.json", docs)
    (folder / "zensical.toml").write_text(CONFIG.format(home=json.dumps(HOME), nav=_navigation()), encoding="utf-8")


def _rule_page(text: str, spec: RuleSpec | None) -> str:
    """A rule's page with its metadata under the title."""
    if spec is None:
        return text
    title, _, rest = text.partition("\n")
    facts = [f"**{spec.severity.value}**", spec.group.value, f"fix: {_FIX[spec.fix]}"]
    if spec.preview:
        facts.append("on trial, `--preview`")
    return f"{title}\n\n{' · '.join(facts)}\n{rest}"


def _relinked(text: str, source: str, target: str, places: dict[str, str]) -> str:
    """A page with its links to other files of the repository turned into links between pages; others lose their link."""

    def link(match: re.Match[str]) -> str:
        words, address, anchor = match[1], match[2], match[3] or ""
        if re.match(r"[a-z]+:", address):
            return match[0]
        meant = os.path.normpath(Path(source).parent / address).replace(os.sep, "/")
        if meant == "rules":
            meant = "rules/index.md"
        found = places.get(meant) or (meant if meant == "rules/index.md" else None)
        if found is None:
            return words
        return f"[{words}]({os.path.relpath(found, Path(target).parent).replace(os.sep, '/')}{anchor})"

    parts = re.split(r"(^```.*?^```[ \t]*$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(
        part if part.startswith("```") else re.sub(r"\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)", link, part) for part in parts
    )


def _navigation() -> str:
    entries = ['  { "gradlint" = "index.md" },', '  { "Rules" = [', '    "rules/index.md",']
    entries += [f'    {{ "{page.code} {page.name}" = "rules/{page.path.name}" }},' for page in pages().values()]
    entries += ["  ] },", '  { "Use" = [', '    { "Commands" = "commands.md" },', '    { "Settings" = "settings.md" },']
    entries += [f'    {{ "{title}" = "{name}" }},' for name, title in GUIDES.items() if name != "design.md"]
    entries += [
        '    { "Knowledge of your own" = "knowledge.md" },',
        "  ] },",
        '  { "Inside" = [',
        '    { "Design" = "design.md" },',
    ]
    entries += ['    { "Contributing" = "contributing.md" },', '    { "Format of a rule page" = "rules/format.md" },']
    entries += ['    { "Changes" = "changelog.md" },', "  ] },"]
    return "\n".join(entries)


def settings_page() -> str:
    """Every setting, from the schema."""
    lines = [
        "# Settings",
        "",
        "In `pyproject.toml` under `[tool.gradlint]`, or without that prefix in `gradlint.toml` or `.gradlint.toml`. "
        f"Editors that know JSON schemas can check them with [the schema]({HOME}gradlint.schema.json).",
        "",
    ]
    for key, entry in schema()["properties"].items():
        kind = {"array": "list of strings", "object": "table"}.get(entry["type"], entry["type"])
        if entry["type"] == "array" and entry["items"]["type"] != "string":
            kind = "list of tables"
        lines += [f"## {key}", "", entry["description"], "", f"- type: {kind}"]
        if "enum" in entry:
            lines.append(f"- one of: {', '.join(f'`{value}`' for value in entry['enum'])}")
        if "default" in entry:
            lines.append(f"- default: `{json.dumps(entry['default'])}`")
        lines.append("")
    return "\n".join(lines)


def commands_page() -> str:
    """Every command, in the words of its own help."""
    lines = ["# Commands", ""]
    for command in COMMANDS:
        done = subprocess.run(
            [sys.executable, "-m", "gradlint", command, "--help"],
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "100", "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=True,
        )
        lines += [f"## gradlint {command}", "", f"{COMMANDS[command][0].upper()}{COMMANDS[command][1:]}.", ""]
        lines += ["```text", done.stdout.rstrip(), "```", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
