"""Findings as an editor shows them: diagnostics, hovers, code actions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lsprotocol import types

from gradlint.core import Confidence, Finding, Severity, Span
from gradlint.reporters.pages import pages, readable
from gradlint.server.documents import Document
from gradlint.server.rows import Change, Place, Row
from gradlint.server.text import characters, units
from gradlint.session.suppression import ignore_edits
from gradlint.survey.source import from_text

SOURCE = "gradlint"
FIX_ALL = "source.fixAll.gradlint"

_SEVERITIES = {
    Severity.ERROR: types.DiagnosticSeverity.Error,
    Severity.WARNING: types.DiagnosticSeverity.Warning,
    Severity.INFO: types.DiagnosticSeverity.Information,
}

Address = Callable[[Place], str]
"""From a place to the address of its document, as the client knows it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What running the code said of a finding, in the words of the command line's JSON."""

    outcome: str
    reason: str
    evidence: tuple[str, ...] = ()
    driver: str = ""

    def sentence(self) -> str:
        """The verdict in one line."""
        said = {"confirmed": "Confirmed by running the code", "refuted": "Refuted by running the code"}
        return f"{said.get(self.outcome, 'Running the code decided nothing')}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the client can show."""

    related: bool = True
    markdown: bool = True
    versioned_edits: bool = True
    tags: bool = False
    data: bool = True
    extra: frozenset[str] = field(default_factory=frozenset)


def text_range(place: Place) -> types.Range:
    """A place as a range."""
    return types.Range(types.Position(*place.start), types.Position(*place.end))


def diagnostic(row: Row, address: Address, abilities: Abilities, verdict: Verdict | None) -> types.Diagnostic:
    """A finding as a diagnostic. The way of the gradient is in the message where the client cannot show it beside."""
    message = f"{row.message}\n{row.help}" if row.help else row.message
    if verdict is not None:
        message += f"\n{verdict.sentence()}"
    related = None
    if row.path and abilities.related:
        related = [
            types.DiagnosticRelatedInformation(types.Location(address(place), text_range(place)), text)
            for place, text in row.path
        ]
    elif row.path:
        steps = (f"{place.path.name}:{place.start[0] + 1}: {text}" for place, text in row.path)
        message += "\n" + "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))
    return types.Diagnostic(
        range=text_range(row.place),
        message=message,
        severity=_SEVERITIES[row.severity],
        code=row.code,
        code_description=types.CodeDescription(href=row.url),
        source=SOURCE,
        related_information=related,
        data={"name": row.name, "fingerprint": row.fingerprint, "confidence": row.confidence} if abilities.data else None,
    )


# Hover ---------------------------------------------------------------------------------------------------------------

_NAMED = re.compile(r"GRD\d{3}")


def hover(
    rows: Sequence[Row],
    at: types.Position,
    document: Document,
    address: Address,
    abilities: Abilities,
    verdicts: Callable[[Row], Verdict | None],
) -> types.Hover | None:
    """What to say at a position: the findings there with their rules' pages, or the page of a rule that is named there."""
    position = (at.line, at.character)
    here = [row for row in rows if row.place.start <= position <= row.place.end]
    if here:
        parts = [_finding_text(row, address, verdicts(row)) for row in here]
        parts += [page for code in dict.fromkeys(row.code for row in here) if (page := _page(code))]
        return _hover("\n\n---\n\n".join(parts), text_range(here[0].place), abilities)
    line = document.cut[at.line]
    column = characters(line, at.character, document.encoding)
    comment = line.find("#")
    for match in _NAMED.finditer(line):
        if 0 <= comment < match.start() <= column <= match.end() and (page := _page(match[0])):
            edges = [units(line[:edge], document.encoding) for edge in match.span()]
            return _hover(page, types.Range(types.Position(at.line, edges[0]), types.Position(at.line, edges[1])), abilities)
    return None


def _hover(text: str, where: types.Range, abilities: Abilities) -> types.Hover:
    kind = types.MarkupKind.Markdown if abilities.markdown else types.MarkupKind.PlainText
    return types.Hover(types.MarkupContent(kind, text), where)


def _finding_text(row: Row, address: Address, verdict: Verdict | None) -> str:
    parts = [f"**{row.code} {row.name}** · {row.severity.value}, {row.confidence} confidence", row.message]
    if row.help:
        parts.append(row.help)
    if verdict is not None:
        parts.append("\n".join([f"**{verdict.sentence()}**", "", *(f"- {text}" for text in verdict.evidence)]))
    if row.path:
        steps = [
            f"{number}. [{place.path.name}:{place.start[0] + 1}]({address(place)}#L{place.start[0] + 1}) {text}"
            for number, (place, text) in enumerate(row.path, 1)
        ]
        parts.append("\n".join(["The path of the gradient, from the loss to where it ends:", "", *steps]))
    return "\n\n".join(parts)


def _page(code: str) -> str:
    page = pages().get(code)
    return readable(page.read()).strip() if page else ""


# Code actions --------------------------------------------------------------------------------------------------------


def wants(only: Sequence[str] | None, kind: str) -> bool:
    """Whether a client that asked for these kinds of actions wants one of this kind."""
    return not only or any(kind == asked or kind.startswith(f"{asked}.") for asked in only)


def overlaps(place: Place, asked: types.Range) -> bool:
    """Whether a place touches a range."""
    start, end = (asked.start.line, asked.start.character), (asked.end.line, asked.end.character)
    return place.start <= end and start <= place.end


def fix_title(change: Change) -> str:
    """How a fix is offered."""
    return change.title if change.safe else f"{change.title} (changes training)"


def safe_edits(rows: Iterable[Row]) -> list[tuple[Place, str]]:
    """The edits of all safe fixes that do not get in each other's way."""
    taken: list[tuple[Place, str]] = []
    for row in sorted(rows, key=lambda row: row.place.start):
        if row.fix is None or not row.fix.safe or all(edit in taken for edit in row.fix.edits):
            continue
        if not any(_clash(one, other) for one, _ in row.fix.edits for other, _ in taken):
            taken.extend(row.fix.edits)
    return taken


def _clash(one: Place, other: Place) -> bool:
    if (one.path, one.cell) != (other.path, other.cell):
        return False
    if one.start == one.end or other.start == other.end:  # insertions at one place: their order would be a guess
        return one.start <= other.end and other.start <= one.end
    return one.start < other.end and other.start < one.end


def silencing(row: Row, document: Document) -> types.TextEdit | None:
    """The edit that puts a comment on the finding's statement that silences it there."""
    line = row.place.start[0] + 1
    source = from_text(document.source, Path("text.py"), "", parse=False)
    stub = Finding(row.code, row.name, "", row.severity, Confidence.HIGH, Span("", line, 1, line, 1))
    edits = ignore_edits(source, [stub])
    if not edits:
        return None
    span = edits[0].span
    start, end = (
        types.Position(number - 1, units(document.cut[number - 1][: column - 1], document.encoding))
        for number, column in ((span.line, span.column), (span.end_line, span.end_column))
    )
    return types.TextEdit(types.Range(start, end), edits[0].text)


def workspace_edit(
    edits: Iterable[tuple[str, types.TextEdit]], versions: Callable[[str], int | None], abilities: Abilities
) -> types.WorkspaceEdit:
    """Edits of several documents as one; with the versions that they are meant for where the client minds them."""
    by_uri: dict[str, list[types.TextEdit]] = {}
    for uri, edit in edits:
        by_uri.setdefault(uri, []).append(edit)
    if not abilities.versioned_edits:
        return types.WorkspaceEdit(changes=by_uri)
    return types.WorkspaceEdit(
        document_changes=[
            types.TextDocumentEdit(types.OptionalVersionedTextDocumentIdentifier(uri=uri, version=versions(uri)), group)
            for uri, group in by_uri.items()
        ]
    )
