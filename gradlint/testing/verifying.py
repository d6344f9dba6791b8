"""Puts claims to the verifier without a rule that makes them: a mark at the end of a line says what is claimed of it.

``h = x.detach()  # claim: starved model.encoder`` claims that the line starves ``model.encoder``.  The site is the line's code;
after an ``@`` at the end of the mark, it is that part of it: ``critic(fake).mean()  # claim: leaks-into @ critic(fake)``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradlint.core import Claim, Span, Verdict
from gradlint.verify.client import Server
from gradlint.verify.run import Attempt, Settings, job_row, verdict_from

MARK = re.compile(r"(?P<indent>\s*)(?P<code>.*?)\s*#\s*claim:\s*(?P<kind>[\w-]+)(?P<subjects>[^#@]*)(?:@\s*(?P<part>.+))?$")


def claims_in(files: Mapping[str, str], folder: Path) -> list[Claim]:
    """The claims that the marks of a project's files make, in order of files and lines."""
    found: list[Claim] = []
    for name, text in files.items():
        for number, line in enumerate(text.splitlines(), 1):
            mark = MARK.match(line)
            if mark:
                start = len(mark["indent"]) + 1 + mark["code"].startswith("@")
                end = len(mark["indent"]) + len(mark["code"]) + 1
                if mark["part"]:
                    start = line.index(mark["part"].strip()) + 1
                    end = start + len(mark["part"].strip())
                site = Span(str(folder / name), number, start, number, end)
                found.append(Claim("", mark["kind"], tuple(mark["subjects"].replace(",", " ").split()), site))
    return found


def put(
    server: Server, folder: Path, files: Mapping[str, str], entry: str = "main.py", settings: Settings | None = None, **job: Any
) -> tuple[list[Verdict], dict[str, Any]]:
    """Write a project, run its entry, and return the verdicts on its marks, in order, with the server's whole answer.

    ``job``: fields of the job to replace.
    """
    folder = folder.resolve()
    for name, text in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    claims = claims_in(files, folder)
    attempt = Attempt("script", folder / entry, entry, root=folder)
    row = job_row(attempt, claims, settings or Settings(seconds=30, folder=folder), folder, {str(folder / f): f for f in files})
    answer = server.carry_out({**row, **job})
    shown = row["shown"]
    verdicts = [verdict_from(answer["verdicts"][str(n)], shown, answer) for n, _ in enumerate(claims) if answer["verdicts"]]
    return verdicts, answer
