"""Chores of working on gradlint itself: ``python -m gradlint.dev docs`` and ``python -m gradlint.dev new GRD305 name``."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from gradlint.core import Safety

ROOT = Path(__file__).resolve().parent.parent
"""The checkout; these chores make no sense in an installed package."""

EXAMPLE = "fixtures/whole_slide"
"""The faulty project that the README shows a finding of."""

_FIXES = {Safety.SAFE: "safe", Safety.UNSAFE: "unsafe", Safety.NONE: ""}


def main() -> int:
    """Do one chore; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m gradlint.dev", description=__doc__)
    chores = parser.add_subparsers(dest="chore", required=True)
    docs = chores.add_parser("docs", help="write what is generated in README.md")
    docs.add_argument("--check", action="store_true", help="write nothing; fail when something is out of date")
    new = chores.add_parser("new", help="start a rule: page, module and fixture, to be filled in")
    new.add_argument("code", help="such as GRD305")
    new.add_argument("name", help="such as mode-not-restored")
    new.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.chore == "docs":
        return write_docs(check=options.check)
    return start_rule(options.code, options.name, options.root)


def write_docs(*, check: bool) -> int:
    """Bring the generated sections of the README up to date, or say that they are not; returns the exit code."""
    readme = ROOT / "README.md"
    old = new = readme.read_text(encoding="utf-8")
    for name, section in SECTIONS.items():
        new = replaced(new, name, section())
    if new == old:
        return 0
    if check:
        print("README.md is out of date; python -m gradlint.dev docs writes it", file=sys.stderr)
        return 1
    readme.write_text(new, encoding="utf-8")
    print("wrote README.md")
    return 0


def replaced(text: str, name: str, body: str) -> str:
    """The text with what stands between ``<!-- name -->`` and ``<!-- /name -->`` exchanged."""
    pattern = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"README.md has no <!-- {name} --> section")
    return pattern.sub(lambda _: body, text, count=1)


def rule_table() -> str:
    """One row a rule: code, name, what it reports, severity and fix."""
    from gradlint.reporters.pages import pages, summary
    from gradlint.rules import all_rules

    lines = ["| code | name | what it reports | severity | fix |", "|---|---|---|---|---|"]
    shown = pages()
    for spec in sorted((rule.spec for rule in all_rules()), key=lambda spec: spec.code):
        page = shown.get(spec.code)
        code = f"[{spec.code}](rules/{page.path.name})" if page else spec.code
        text = summary(page.read()).replace("|", "\\|") if page else ""
        lines.append(f"| {code} | {spec.name} | {text} | {spec.severity.value} | {_FIXES[spec.fix]} |")
    return "\n".join(lines) + "\n"


def example() -> str:
    """A finding as it is printed: of those in the example project, the one whose story crosses the most files."""
    options = ["--isolated", "--no-cache", "--quiet", "--color", "never", "--output-format", "full", "."]
    with tempfile.TemporaryDirectory() as scratch:
        project = shutil.copytree(ROOT / EXAMPLE, Path(scratch, "project"))
        for path in project.rglob("*.py"):  # the marks are for the tests, not for readers
            path.write_text(re.sub(r"  # (expect|known-\w+):.*", "", path.read_text(encoding="utf-8")), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "gradlint", "check", *options],
            cwd=project,
            env={**os.environ, "COLUMNS": "112", "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
    if done.returncode != 1:
        raise SystemExit(f"gradlint found nothing to show in {EXAMPLE}\n{done.stderr}")
    findings = re.split(r"\n(?=\S+:\d+:\d+ )", done.stdout)
    story = max(findings, key=lambda finding: len(set(re.findall(r"^ +\d+  (\S+):\d+", finding, re.MULTILINE))))
    return f"```text\n{story.rstrip()}\n```\n"


SECTIONS: dict[str, Callable[[], str]] = {"finding": example, "rules": rule_table}
"""The generated sections of the README."""


def start_rule(code: str, name: str, root: Path) -> int:
    """Write the page, the module and the fixture of a new rule, none of them finished; returns the exit code."""
    if not re.fullmatch(r"GRD\d{3}", code) or not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)+", name):
        print(f"{code} {name}: a code looks like GRD305 and a name like mode-not-restored", file=sys.stderr)
        return 2
    stem = f"{code.lower()}_{name.replace('-', '_')}"
    words = {"code": code, "name": name, "title": "".join(word.capitalize() for word in name.split("-"))}
    files = {
        root / "rules" / f"{code}-{name}.md": _PAGE,
        root / "gradlint" / "rules" / f"{stem}.py": _MODULE,
        root / "fixtures" / stem / "train.py": _FIXTURE,
    }
    taken = [path for path in files if path.exists()] + list((root / "rules").glob(f"{code}-*.md"))
    if taken:
        print(f"{taken[0].relative_to(root)} exists already", file=sys.stderr)
        return 2
    for path, template in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(re.sub(r"\{\{(\w+)\}\}", lambda match: words[match[1]], template), encoding="utf-8")
        print(f"wrote {path.relative_to(root)}")
    return 0


_PAGE = """\
# {{code}} {{name}}

One sentence: what the program does that it should not.

## What it does

What brings the rule to speak, where it points, and what its fix does.

## Why is this bad

What a person sees when it happens.

## Examples

### A name for the case

```python bad
import torch

raise NotImplementedError  # expect: {{code}}
```

```python good
import torch
```

## When it stays silent

- What looks alike and is right.

## How it is confirmed

Which run shows that the finding is real.

## References
"""

_MODULE = '''\
"""{{code}}. Page: rules/{{code}}-{{name}}.md"""

from __future__ import annotations

from gradlint.core import Group, RuleSpec, Severity
from gradlint.syntax.rule import Rule


class {{title}}(Rule):
    """{{code}}. Page: rules/{{code}}-{{name}}.md"""

    spec = RuleSpec("{{code}}", "{{name}}", group=Group.GRAPH, severity=Severity.WARNING, preview=True)
    facts = ()
'''

_FIXTURE = """\
import torch

# The smallest project that shows the fault; the guilty line ends in the mark of the rule: {{code}}.
"""

if __name__ == "__main__":
    sys.exit(main())
