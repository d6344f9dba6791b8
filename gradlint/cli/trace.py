"""``gradlint trace``: run a script for a few steps and show what trained, what did not, and why."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gradlint.cli.check import tell
from gradlint.cli.parser import UsageError
from gradlint.cli.settings import config_of
from gradlint.cli.terminal import progress, style, write
from gradlint.cli.verify import running, settings
from gradlint.core import Span
from gradlint.reporters.style import Style
from gradlint.session import ConfigError, MissingPath, analyze, checked_files
from gradlint.verify.run import Unavailable
from gradlint.verify.trace import Group, Line, Traced, trace

OK, FOUND, FAILED = 0, 1, 2

STATES = (
    ("trains", "gets gradient", "green"),
    ("zero", "gets only zeros", "yellow"),
    ("starved", "gets no gradient", "red"),
    ("idle", "takes no part in any loss", "yellow"),
    ("left", "gets gradient, is in no optimizer", "yellow"),
    ("frozen", "is frozen", "dim"),
)
"""What may become of parameters: the state, how it is told, its colour."""

LAST_LINES = 12
"""Lines of the program's output that are shown when it fails."""


def run(options: argparse.Namespace) -> int:
    """Carry out the command; the exit code.

    Raises:
        UsageError: what is asked for cannot be done.
    """
    script = Path(options.script)
    if not script.is_file():
        raise UsageError(f"there is no script {options.script}")
    try:
        config = config_of(options, [script])
        with progress("gradlint reads the project"):
            others = checked_files([script], config).context
            report = analyze([script, *others], config, use_cache=not options.no_cache)
    except (MissingPath, ConfigError) as error:
        raise UsageError(str(error)) from None
    tell(report.notes, options)
    try:
        with running(options) as shows:
            shows(str(script))
            traced = trace(script, report, replace(settings(options, config), arguments=tuple(options.arguments)))
    except Unavailable as error:
        raise UsageError(f"no code can be run here: {error}") from None
    look = style(sys.stdout, options.color)
    write(_json(traced) if options.output_format == "json" else "".join(f"{line}\n" for line in _text(traced, look)))
    if not traced.states:
        return FAILED
    return FOUND if traced.faulty and not options.exit_zero else OK


def _text(traced: Traced, look: Style) -> Iterator[str]:
    device = f" on {traced.device}" if traced.device else ""
    passes = f"{traced.steps} optimizer steps, {traced.backwards} backward passes"
    yield f"{look.paint(traced.script, 'bold')}: {passes}, {traced.seconds:.1f} s{device}"
    if traced.compiled:
        yield "  compiled parts ran without compilation: a compiled call hides its inside"
    if traced.ending:
        yield f"  {look.paint('ended early:', 'yellow', 'bold')} {traced.ending}"
        yield from (f"    {look.paint(line, 'dim')}" for line in traced.output.rstrip().splitlines()[-LAST_LINES:])
    width = max(len(words) for _, words, _ in STATES)
    for state, words, color in STATES:
        for group in traced.states.get(state, ()):
            yield f"  {look.paint(f'{words:{width}}', color)}  {_group(group)}"
    for line in traced.cuts:
        yield ""
        yield from _cut(line, look)
    for term in traced.inert:
        yield ""
        one = look.paint("one of", "red", "bold")
        yield f"  {one} {term.summands} summands of the loss at {_place(term.loss)} trains nothing"
        for group in term.parameters:
            yield f"    {_group(group)}: nothing comes back from it"
        for line in term.cuts:
            yield from _cut(line, look)


def _cut(line: Line, look: Style) -> Iterator[str]:
    codes = ", ".join(dict.fromkeys(finding.code for finding in line.findings)) or "not seen by the static analysis"
    yield f"  {look.paint(_place(line.span), 'bold')}: {line.text} ({codes})"
    yield from (f"    {_group(group)}: no gradient" for group in line.parameters)


def _group(group: Group) -> str:
    name, count, size = group
    return f"{name}, {count} tensor{'s' if count != 1 else ''}, {size:,} parameter{'s' if size != 1 else ''}"


def _place(span: Span | None) -> str:
    return f"{span.file}:{span.line}" if span else "an unknown place"


def _json(traced: Traced) -> str:
    return (
        json.dumps(
            {
                "script": traced.script,
                "steps": traced.steps,
                "backwards": traced.backwards,
                "device": traced.device,
                "seconds": traced.seconds,
                "ending": traced.ending,
                "compiled": traced.compiled,
                "parameters": {state: _group_rows(groups) for state, groups in traced.states.items()},
                "cuts": [_line_row(line) for line in traced.cuts],
                "inert": [
                    {
                        "loss": _span_row(term.loss),
                        "summands": term.summands,
                        "parameters": _group_rows(term.parameters),
                        "cuts": [_line_row(line) for line in term.cuts],
                    }
                    for term in traced.inert
                ],
                "verdicts": [
                    {
                        "code": finding.code,
                        "place": _span_row(finding.span),
                        "verdict": verdict.outcome.value,
                        "reason": verdict.reason,
                    }
                    for finding, verdict in traced.verdicts.items()
                ],
            },
            indent=2,
        )
        + "\n"
    )


def _group_rows(groups: Sequence[Group]) -> list[dict[str, Any]]:
    return [{"name": name, "tensors": count, "parameters": size} for name, count, size in groups]


def _line_row(line: Line) -> dict[str, Any]:
    return {
        "place": _span_row(line.span),
        "kind": line.kind,
        "text": line.text,
        "parameters": _group_rows(line.parameters),
        "findings": [finding.code for finding in line.findings],
    }


def _span_row(span: Span | None) -> dict[str, Any] | None:
    return {"filename": span.file, "row": span.line, "column": span.column} if span else None
