"""What share of findings the verifier confirms, measured on projects with known bugs and on correct ones.

``python benchmarks/verify.py fixtures/reports/* fixtures/seeds/* fixtures/whole_slide`` prints a Markdown table by rule.  Each
argument is a project of its own.  ``--clean`` takes projects that are correct: there, a confirmed finding is an error.
``--json`` writes every finding with its verdict.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gradlint.core import Finding, Outcome, Verdict
from gradlint.session import analyze, load_config
from gradlint.verify.client import Server
from gradlint.verify.run import Settings, verify

MARK = re.compile(r"[ \t]*#\s*expect(-or)?:[^\n]*")


def judged(project: Path, server: Server, settings: Settings) -> list[tuple[Finding, Verdict | None]]:
    """The findings of a project with their verdicts. The project is copied, its marks taken out."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary).resolve() / project.name
        if project.is_dir():
            shutil.copytree(project, copy, ignore=shutil.ignore_patterns("__pycache__", ".gradlint_cache"))
        else:
            copy = copy.with_suffix("")
            copy.mkdir()
            shutil.copy(project, copy)
        for file in copy.rglob("*.py"):
            file.write_text(MARK.sub("", file.read_text(encoding="utf-8")), encoding="utf-8")
        config = load_config([copy], cwd=copy, isolated=True)
        report = analyze([copy], config, cwd=copy, use_cache=False)
        verdicts = verify(report, settings, server=server)
        return [(finding, verdicts.get(finding)) for finding in report.findings]


def table(rows: Sequence[tuple[Finding, Verdict | None]]) -> Iterator[str]:
    """The tally by rule as Markdown."""
    tally: dict[str, Counter[str]] = defaultdict(Counter)
    for finding, verdict in rows:
        tally[f"{finding.code} {finding.name}"][verdict.outcome.value if verdict else "without claim"] += 1
    columns = [*Outcome, "without claim"]
    yield f"| rule | {' | '.join(columns)} |"
    yield f"|---|{'--:|' * len(columns)}"
    for rule, counts in sorted(tally.items()):
        yield f"| {rule} | {' | '.join(str(counts[column]) for column in columns)} |"
    total = sum(tally.values(), Counter[str]())
    yield f"| **all** | {' | '.join(str(total[column]) for column in columns)} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("projects", nargs="*", type=Path)
    parser.add_argument("--clean", nargs="*", type=Path, default=[])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--timeout", type=float, default=40.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    settings = Settings(device=options.device, seconds=options.timeout)
    rows: list[tuple[Finding, Verdict | None]] = []
    kept: list[dict[str, Any]] = []
    wrong = 0
    began = time.monotonic()
    with Server() as server:
        for project in [*options.projects, *options.clean]:
            correct = project in options.clean
            for finding, verdict in judged(project, server, settings):
                outcome = verdict.outcome if verdict else None
                kept.append(
                    {
                        "project": str(project),
                        "clean": correct,
                        "code": finding.code,
                        "place": str(finding.span),
                        "verdict": outcome and outcome.value,
                        "reason": verdict and verdict.reason,
                        "evidence": [each.text for each in verdict.evidence] if verdict else [],
                        "driver": verdict and verdict.driver,
                        "seconds": verdict and verdict.seconds,
                    }
                )
                if correct:
                    wrong += outcome is Outcome.CONFIRMED
                else:
                    rows.append((finding, verdict))
                if outcome is not Outcome.CONFIRMED or correct:
                    print(f"{project}: {finding.code} {finding.span}: {outcome}: {verdict and verdict.reason}", file=sys.stderr)
    print("\n".join(table(rows)))
    claimed = [verdict for _, verdict in rows if verdict]
    confirmed = sum(verdict.confirmed for verdict in claimed)
    if claimed:
        print(f"\n{confirmed} of {len(claimed)} findings confirmed ({confirmed / len(claimed):.0%})", end="")
    print(f"; {len(options.clean)} correct projects, {wrong} findings in them confirmed; {time.monotonic() - began:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(kept, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
