"""Comments that silence findings, and what is said about those that silence nothing or mean nothing.

Understood: ``# gradlint: ignore[RULES] -- reason`` on any line of a statement or alone above it, ``ignore-file[RULES]``
anywhere, ``disable[RULES]`` … ``enable[RULES]`` for the lines between, and ``# noqa: GRD102``. RULES are codes, names, prefixes
or ALL. A comment without rules silences nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gradlint.core import Confidence, Edit, Finding, Fix, RuleSpec, Safety, Span
from gradlint.session.config import SILENCING_WORDS, matches, suggestion
from gradlint.survey.lexical import Comment, Layout, layout
from gradlint.survey.source import SourceFile

UNUSED = "GRD002"
INVALID = "GRD003"

_MARK = re.compile(r"#[ \t]*gradlint:[ \t]*")
_DIRECTIVE = re.compile(r"(?P<verb>[\w-]+)(?:[ \t]*\[(?P<rules>[^\]]*)\])?[ \t]*(?P<rest>.*)")
_NOQA = re.compile(r"#[ \t]*(?i:noqa):[ \t]*(?P<rules>[A-Za-z]+[0-9]+(?:[, \t]+[A-Za-z]+[0-9]+)*)")
_VERBS = ("ignore", "ignore-file", "disable", "enable")


@dataclass(slots=True)
class Directive:
    """One suppressing comment.

    ``span``: from its ``#`` to the end of the comment. ``alone``: nothing else stands on its line. ``selectors``: the rules as
    written. ``lines``: the first and last line that it holds for, by selector where ranges differ. ``used``: the selectors that
    silenced something.
    """

    span: Span
    verb: str
    selectors: tuple[str, ...]
    rest: str
    alone: bool
    lines: dict[str, tuple[int, int]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Malformed:
    """A comment that starts like a suppression and is none. ``why`` is a sentence for the user."""

    span: Span
    why: str


@dataclass(frozen=True, slots=True)
class Suppressions:
    """The suppressing comments of one file."""

    directives: tuple[Directive, ...]
    malformed: tuple[Malformed, ...]

    def silences(self, finding: Finding) -> bool:
        """Whether a comment silences a finding; the comments that do are remembered as used."""
        found = False
        for directive in self.directives:
            for selector, (first, last) in directive.lines.items():
                if first <= finding.span.line <= last and _means(selector, finding):
                    directive.used.add(selector)
                    found = True
        return found


def read_suppressions(source: SourceFile) -> Suppressions:
    """The suppressing comments of a file; free for files without any of ``SILENCING_WORDS``."""
    if not any(word in source.text for word in SILENCING_WORDS):
        return Suppressions((), ())
    places = layout(source.text)
    directives: list[Directive] = []
    malformed: list[Malformed] = []
    for comment in places.comments:
        read = _read_comment(source.path, comment)
        if isinstance(read, Malformed):
            malformed.append(read)
        elif read is not None:
            directives.append(read)
    _scope(directives, places, source.lines)
    return Suppressions(tuple(directives), tuple(malformed))


def _read_comment(path: str, comment: Comment) -> Directive | Malformed | None:
    mark = _MARK.search(comment.text)
    if mark is None:
        noqa = _NOQA.search(comment.text)
        if noqa is None:
            return None
        selectors = tuple(code for code in re.split(r"[, \t]+", noqa.group("rules")) if code.startswith("GRD"))
        span = _span(path, comment, noqa.start())
        return Directive(span, "noqa", selectors, "", comment.alone) if selectors else None
    span = _span(path, comment, mark.start())
    match = _DIRECTIVE.match(comment.text, mark.end())
    if match is None or match.group("verb") not in _VERBS:
        word = match.group("verb") if match else ""
        verbs = "ignore[…], ignore-file[…], disable[…] and enable[…]"
        return Malformed(span, f"gradlint knows the comments {verbs}, not {word!r}{suggestion(word, _VERBS)}.")
    verb, rules = match.group("verb"), match.group("rules")
    selectors = tuple(rule for rule in re.split(r"[, \t]+", rules or "") if rule)
    if not selectors:
        return Malformed(
            span, f"This comment names no rule and silences nothing; write {verb}[GRD102] with the rules that you mean."
        )
    return Directive(span, verb, selectors, match.group("rest"), comment.alone and mark.start() == 0)


def _span(path: str, comment: Comment, start: int) -> Span:
    return Span(path, comment.line, comment.column + start, comment.line, comment.column + len(comment.text))


def _scope(directives: Iterable[Directive], places: Layout, lines: Sequence[str]) -> None:
    """Work out the lines that each comment holds for."""
    statements = _statements(places, lines)
    open_ranges: dict[str, tuple[Directive, int]] = {}
    for directive in directives:
        line = directive.span.line
        if directive.verb == "ignore-file":
            directive.lines = dict.fromkeys(directive.selectors, (1, len(lines)))
        elif directive.verb == "disable":
            for selector in directive.selectors:
                directive.lines[selector] = (line, len(lines))
                open_ranges.setdefault(selector, (directive, line))
        elif directive.verb == "enable":
            for selector in directive.selectors:
                if selector in open_ranges:
                    opener, first = open_ranges.pop(selector)
                    opener.lines[selector] = (first, line)
                    directive.used.add(selector)
        else:
            above = directive.alone and directive.verb == "ignore"
            covered = (statement for statement in statements if statement[1] >= line and (above or statement[0] <= line))
            scope = next(covered, None)
            directive.lines = dict.fromkeys(directive.selectors, scope or (line, line))


def _statements(places: Layout, lines: Sequence[str]) -> list[tuple[int, int]]:
    """First and last line of each statement's own text (a compound statement's header), decorators joined to what follows."""
    joined: list[tuple[int, int]] = []
    decorators = 0  # the line of the first decorator that waits for its function
    for first, last in zip(places.starts, places.ends, strict=True):
        if lines[first - 1].lstrip().startswith("@"):
            decorators = decorators or first
        else:
            joined.append((decorators or first, last))
            decorators = 0
    return joined


def _means(selector: str, finding: Finding) -> bool:
    return selector in ("ALL", finding.name) or (selector.startswith("GRD") and finding.code.startswith(selector))


# What is said about the comments themselves --------------------------------------------------------------------------


def complaints(
    source: SourceFile, suppressions: Suppressions, specs: Sequence[RuleSpec], ran: Iterable[str], *, complete: bool
) -> list[Finding]:
    """GRD002 and GRD003 for one file, after its findings were passed to ``silences``.

    Args:
        source: the file.
        suppressions: its comments.
        specs: every rule there is.
        ran: the codes of the rules that ran on the file.
        complete: whether all of the file was analysed; only then is a comment known to be unused.
    """
    by_code = {spec.code: spec for spec in specs}
    running = set(ran)
    found: list[Finding] = []
    if (invalid := by_code.get(INVALID)) is not None and INVALID in running:
        found += [
            _finding(invalid, entry.span, entry.why, "Correct the comment or remove it.") for entry in suppressions.malformed
        ]
        for directive in suppressions.directives:
            for selector in directive.selectors:
                if directive.verb != "noqa" and not any(matches(selector, spec) for spec in specs):
                    names = [name for spec in specs for name in (spec.code, spec.name)]
                    message = f"There is no rule {selector}{suggestion(selector, names)}"
                    message += "" if message.endswith("?") else "."
                    found.append(_finding(invalid, directive.span, message, "`gradlint rule` lists the rules."))
    if (unused := by_code.get(UNUSED)) is not None and UNUSED in running and complete:
        for directive in suppressions.directives:
            idle = [selector for selector in directive.selectors if _idle(directive, selector, specs, running)]
            if idle:
                found.append(_unused(unused, source, directive, idle))
    return found


def _idle(directive: Directive, selector: str, specs: Sequence[RuleSpec], running: set[str]) -> bool:
    """Whether a selector silenced nothing though all the rules that it means ran; foreign and meta rules are nobody's loss."""
    if directive.verb == "noqa" or selector in directive.used:
        return False
    meant = {spec.code for spec in specs if matches(selector, spec)}
    return bool(meant) and meant <= running and not all(code.startswith("GRD00") for code in meant)


def _unused(spec: RuleSpec, source: SourceFile, directive: Directive, idle: Sequence[str]) -> Finding:
    rules = ", ".join(idle)
    if directive.verb == "enable":
        message = f"This comment ends nothing: {rules} {'is' if len(idle) == 1 else 'are'} not disabled here."
    else:
        message = f"This comment silences nothing: {rules} {'reports' if len(idle) == 1 else 'report'} nothing here."
    kept = [selector for selector in directive.selectors if selector not in idle]
    span = directive.span
    if kept:
        text = f"# gradlint: {directive.verb}[{', '.join(kept)}]" + (f" {directive.rest}" if directive.rest else "")
        edit = Edit(span, text)
    elif directive.alone:
        edit = Edit(Span(span.file, span.line, 1, span.line + 1, 1), "")
        if span.line >= len(source.lines):  # the last line, without an end of its own
            edit = Edit(Span(span.file, span.line, 1, span.line, span.end_column), "")
    else:
        before = source.lines[span.line - 1][: span.column - 1]
        edit = Edit(Span(span.file, span.line, len(before.rstrip()) + 1, span.line, span.end_column), "")
    fix = Fix("Remove the comment" if not kept else f"Remove {rules} from the comment", (edit,), Safety.SAFE)
    return _finding(spec, span, message, "Remove it.", fix)


def _finding(spec: RuleSpec, span: Span, message: str, help: str, fix: Fix | None = None) -> Finding:
    return Finding(spec.code, spec.name, message, spec.severity, Confidence.HIGH, span, help=help, fix=fix)


# Adding comments -----------------------------------------------------------------------------------------------------


def ignore_edits(source: SourceFile, findings: Iterable[Finding], reason: str = "") -> list[Edit]:
    """The edits that put a suppressing comment on each finding's statement.

    A comment goes to the end of the statement's last line, where it is always allowed, or joins the comment that is there.

    Args:
        source: the file of the findings.
        findings: what to silence; findings about comments and syntax are left alone.
        reason: a text put after ``--``.
    """
    places = layout(source.text)
    wanted: dict[int, list[str]] = {}
    for finding in findings:
        if finding.code.startswith("GRD00"):
            continue
        line = next((end for end in places.ends if end >= finding.span.line), finding.span.line)
        codes = wanted.setdefault(line, [])
        if finding.code not in codes:
            codes.append(finding.code)
    present = {
        directive.span.line: directive for directive in read_suppressions(source).directives if directive.verb == "ignore"
    }
    edits: list[Edit] = []
    for line, codes in sorted(wanted.items()):
        if (directive := present.get(line)) is not None:
            rules = ", ".join([*directive.selectors, *(code for code in codes if code not in directive.selectors)])
            rest = f" {directive.rest}" if directive.rest else ""
            edits.append(Edit(directive.span, f"# gradlint: ignore[{rules}]{rest}"))
            continue
        end = len(source.lines[line - 1].rstrip()) + 1
        comment = f"  # gradlint: ignore[{', '.join(codes)}]" + (f" -- {reason}" if reason else "")
        edits.append(Edit(Span(source.path, line, end, line, end), comment))
    return edits
