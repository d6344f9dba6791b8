"""Whole-program gradient flow: abstract execution of a project, from its entries to facts about its source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradlint.flow.memory import Memory
    from gradlint.flow.program import Analysis
    from gradlint.knowledge import Knowledge
    from gradlint.survey.source import SourceFile

__all__ = ["analyze"]


def analyze(
    files: Sequence[SourceFile],
    knowledge: Knowledge,
    *,
    roots: Sequence[str] = (),
    memory: Memory | None = None,
    contracts: Sequence[Mapping[str, Any]] = (),
) -> Analysis:
    """Follow gradient through a project.

    Args:
        files: every file of the project, read; those without a tree are passed over.
        knowledge: what libraries do.
        roots: further functions whose result is back-propagated, as ``name``, ``Class.name`` or ``module:name``.
        memory: what an earlier analysis of the project left; entries that no changed file concerns are not followed again.
        contracts: what the author says should train and what should not, as tables of the settings.

    Returns:
        Facts about places in the source, and problems met in following single files.
    """
    from gradlint.flow.contracts import Contract
    from gradlint.flow.program import Program

    return Program(files, knowledge, roots, memory, [Contract.of(table) for table in contracts]).analyze()
