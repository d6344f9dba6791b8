"""What a rule is: a visitor over concrete syntax that is told what the flow analysis knows about the nodes it meets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar

import libcst as cst

from gradlint.core import Claim, Confidence, Edit, Finding, Fix, RuleSpec, Severity, Span
from gradlint.flow.facts import Fact
from gradlint.survey.source import SourceFile
from gradlint.syntax import edits
from gradlint.syntax.candidate import Candidate
from gradlint.syntax.wording import code, place

F = TypeVar("F", bound=Fact)
AnyFact = TypeVar("AnyFact", bound=Fact)


class Rule(cst.CSTVisitor, Generic[F]):
    """One rule, at work on one file.

    A rule names the kinds of ``facts`` that bring a file to it, asks ``self.fact(Kind, node)`` in its ``visit_…`` methods
    whether one holds at a node, and calls ``self.report``.  What it says of a fact stands in ``tell``, which is also called for
    facts whose node was not met, because the file cannot be read by LibCST: the finding is the same then, without a fix.
    """

    spec: ClassVar[RuleSpec]
    facts: ClassVar[tuple[type[Fact], ...]] = ()

    def __init__(self, source: SourceFile, facts: Sequence[F]) -> None:
        """Prepare for one file.

        Args:
            source: the file.
            facts: what is known about it and ``concerns`` the rule.
        """
        super().__init__()
        self.source = source
        self.findings: list[Finding] = []
        self.pending: dict[F, None] = dict.fromkeys(facts)
        self._candidate: Candidate | None = None
        self._at: dict[Span, list[F]] = {}
        for fact in facts:
            self._at.setdefault(fact.span, []).append(fact)
        self._headers = {(span.line, span.column): span for span in self._at}
        self._told: set[Fact] = set()

    # For a rule to define ----------------------------------------------------------------------------------------------

    @classmethod
    def concerns(cls, fact: F) -> bool:
        """Whether a fact of one of the rule's kinds is its business."""
        return True

    @classmethod
    def context(cls, fact: F) -> tuple[Span, ...]:
        """Places beside the fact's own that the rule's fix needs to see; those in other files are ignored."""
        return ()

    def tell(self, fact: F, fix: Fix | None = None) -> None:
        """Report what a fact means; ``fix`` is what the syntax around it allowed."""
        raise NotImplementedError

    # For a rule to use -------------------------------------------------------------------------------------------------

    @property
    def candidate(self) -> Candidate:
        """The piece of the file that is being visited.

        Raises:
            RuntimeError: none is.
        """
        if self._candidate is None:
            raise RuntimeError("no syntax is being visited")
        return self._candidate

    def fact(self, kind: type[AnyFact], node: cst.CSTNode) -> AnyFact | None:
        """The fact of a kind that holds at exactly this node; for a ``with`` statement, at its header."""
        span = self.candidate.span(node)
        if isinstance(node, cst.With):
            span = self._headers.get((span.line, span.column), span)
        for fact in self._at.get(span, ()):
            if isinstance(fact, kind):
                self._told.add(fact)
                return fact
        return None

    def fix(self, message: str, changes: Sequence[Edit]) -> Fix | None:
        """A fix, as safe as the rule's specification says; None where nothing can be changed without breaking the syntax."""
        if not changes or not self.candidate.survives(changes):
            return None
        return Fix(message, tuple(changes), self.spec.fix)

    def place(self, span: Span) -> str:
        """A place in a message."""
        return place(span, self.source)

    def report(
        self,
        where: cst.CSTNode | Span,
        message: str,
        *,
        fact: F,
        help: str = "",
        severity: Severity | None = None,
        confidence: Confidence | None = None,
        claim: Claim | None = None,
        fix: Fix | None = None,
        replacement: cst.CSTNode | str | None = None,
    ) -> None:
        """Report a finding.

        Args:
            where: the guilty node, or its place.
            message: what happens.
            fact: why; its path and confidence become the finding's.
            help: what to do.
            severity: where it differs from the rule's.
            confidence: lowers the fact's; a rule cannot raise it.
            claim: what the finding asserts about the running program.
            fix: the fix.
            replacement: instead of a fix, the node or text to put where the node stands.
        """
        if fix is None and replacement is not None and isinstance(where, cst.CSTNode):
            new = replacement if isinstance(replacement, str) else self.candidate.code(replacement)
            fix = self.fix(f"Write {code(new)}", edits.replace(self.candidate, where, replacement))
        if confidence is None or confidence.rank > fact.confidence.rank:
            confidence = fact.confidence
        self.pending.pop(fact, None)
        self.findings.append(
            Finding(
                self.spec.code,
                self.spec.name,
                message,
                severity or self.spec.severity,
                confidence,
                where if isinstance(where, Span) else self.candidate.span(where),
                fact.path,
                help,
                claim,
                fix,
            )
        )

    # For the check that runs it ----------------------------------------------------------------------------------------

    def examine(self, candidate: Candidate) -> None:
        """Visit a piece of the file, if a fact that is not told yet lies in it."""
        if not any(candidate.holds(fact.span) for fact in self.pending):
            return
        self._candidate = candidate
        try:
            candidate.module.visit(self)
        finally:
            self._candidate = None
        # Seen and left alone: the rule decided on the syntax.
        self.pending = {fact: None for fact in self.pending if fact not in self._told}
