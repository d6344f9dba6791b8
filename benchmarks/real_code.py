"""Run gradlint over real projects and write down what it said, so that every finding can be read and judged.

Give it folders, one a project. It writes a Markdown table of the projects and one of the findings at default confidence, with
empty columns for a reading (true, arguable, false) and its reason; what stands there already in the output file is kept for the
findings that are still there. ``--json`` writes the same as data.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

READINGS = ("true", "arguable", "false")


@dataclass(frozen=True, slots=True)
class Said:
    """One finding: where, what, and how it was read by a person (empty: not yet)."""

    project: str
    place: str
    code: str
    name: str
    confidence: str
    message: str
    reading: str = ""
    why: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What stays the same from one run to the next."""
        return self.project, self.place, self.code


@dataclass(frozen=True, slots=True)
class Project:
    """What one run over a project gave.

    ``notes``: the lines on stderr, which name every file that was not read whole. ``status``: the exit code, or ``timeout``.
    """

    name: str
    files: int
    lines: int
    seconds: float
    status: str
    findings: tuple[Said, ...]
    notes: tuple[str, ...]


def main() -> None:
    """Run over every folder and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="one folder a project")
    parser.add_argument("--output", "-o", type=Path, help="the Markdown file to write, its readings kept (default: stdout)")
    parser.add_argument("--json", type=Path, help="also write the results as JSON")
    parser.add_argument("--limit", type=float, default=600, help="seconds a project may take (default: 600)")
    parser.add_argument("--jobs", type=int, default=1, help="how many projects are checked at a time (default: 1)")
    options = parser.parse_args()
    folders = sorted({folder.resolve() for folder in options.folders}, key=lambda folder: (folder.name.lower(), str(folder)))
    projects = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for project in pool.map(partial(check, limit=options.limit), folders):
            projects.append(project)
            print(f"{project.name}: {len(project.findings)} findings in {project.seconds:.1f} s", file=sys.stderr)
    known = readings(options.output.read_text(encoding="utf-8")) if options.output and options.output.exists() else {}
    text = report(projects, known)
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    if options.json:
        options.json.write_text(json.dumps([asdict(project) for project in projects], indent=2) + "\n", encoding="utf-8")


def check(folder: Path, limit: float) -> Project:
    """Run gradlint over one project, as its author would, with the defaults and no settings file."""
    command = [sys.executable, "-m", "gradlint", "check", "--isolated", "--no-cache", "--output-format", "json", "."]
    start = time.perf_counter()
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=limit)
        status, output, notes = str(done.returncode), done.stdout, done.stderr
    except subprocess.TimeoutExpired:
        status, output, notes = "timeout", "", ""
    seconds = time.perf_counter() - start
    try:
        rows = json.loads(output or "[]")
    except json.JSONDecodeError:
        rows, notes = [], f"the output is no JSON\n{notes}"
    name = folder.name.replace("+", "/")  # a copy of owner/name is kept as owner+name
    sources = [path for path in folder.rglob("*.py") if path.is_file()]
    return Project(
        name,
        len(sources),
        sum(path.read_bytes().count(b"\n") for path in sources),
        seconds,
        status,
        tuple(said(name, row) for row in sorted(rows, key=position)),
        tuple(line for line in notes.splitlines() if line.strip()),
    )


def position(row: dict[str, Any]) -> tuple[str, int, int, int, str]:
    """Where a row belongs in the table."""
    return row["filename"], row.get("cell") or 0, row["location"]["row"], row["location"]["column"], row["code"]


def said(project: str, row: dict[str, Any]) -> Said:
    """A finding from its JSON row."""
    cell = f"cell {row['cell']}:" if row.get("cell") is not None else ""
    place = f"{row['filename']}:{cell}{row['location']['row']}"
    return Said(project, place, row["code"], row["name"], row["confidence"], " ".join(row["message"].split()))


def readings(text: str) -> dict[tuple[str, str, str], tuple[str, str]]:
    """The readings in a report written earlier, by the finding's key."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 7 and re.fullmatch(r"GRD\d{3}", cells[2]) and (cells[5] or cells[6]):
            found[cells[0], cells[1], cells[2]] = cells[5], cells[6]
    return found


def report(projects: Sequence[Project], known: dict[tuple[str, str, str], tuple[str, str]]) -> str:
    """The tables as Markdown; GRD0xx, which tell of files and comments and not of gradients, are counted apart."""
    findings = [one for project in projects for one in project.findings if not one.code.startswith("GRD0")]
    lines = sum(project.lines for project in projects)
    out = [
        "# Real code",
        "",
        "Written by `python benchmarks/real_code.py --output docs/real-code.md` and folders of checked out projects; the",
        "readings are a person's. A finding is *true* where its author would want to know, *arguable* where it is right and",
        "the author may have meant it or not mind, *false* where it is wrong.",
        "",
        f"{len(projects)} projects, {sum(project.files for project in projects):,} files, {lines:,} lines of Python, "
        f"{len(findings)} findings at default confidence.",
        "",
        summary(findings, known, lines),
        "",
        "## Projects",
        "",
        "| project | files | lines | findings | files not read whole | notes | seconds | exit |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for project in projects:
        own = sum(one.code == "GRD001" for one in project.findings)
        mine = sum(not one.code.startswith("GRD0") for one in project.findings)
        out.append(
            f"| {project.name} | {project.files:,} | {project.lines:,} | {mine} | {own} | {len(project.notes)} "
            f"| {project.seconds:.1f} | {project.status} |"
        )
    out += [
        "",
        "## Findings",
        "",
        "| project | place | code | confidence | message | reading | why |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in findings:
        reading, why = known.get(one.key, ("", ""))
        cells = (one.project, one.place, one.code, one.confidence, one.message, reading, why)
        out.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(out) + "\n"


def summary(findings: Iterable[Said], known: dict[tuple[str, str, str], tuple[str, str]], lines: int) -> str:
    """How the findings were read, and the rate of false ones."""
    read = [known.get(one.key, ("", ""))[0] for one in findings]
    counts = {reading: read.count(reading) for reading in READINGS}
    words = ", ".join(f"{count} {reading}" for reading, count in counts.items())
    unread = len(read) - sum(counts.values())
    rate = counts["false"] / lines * 100_000 if lines else 0.0
    return f"Read: {words}, {unread} not yet. False findings in 100,000 lines: {rate:.2f}."


if __name__ == "__main__":
    main()
