"""Whole-program gradient flow: abstract execution of a project, from its entries to facts about its source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradlint.flow.memory import Memory
    from gradlint.flow.program import Analysis
    from gradlint.knowledge import Knowledge
    from gradlint.survey.source import SourceFile

__all__ = ["analyze"]


def analyze(
    files: Sequence[SourceFile], knowledge: Knowledge, *, roots: Sequence[str] = (), memory: Memory | None = None
) -> Analysis:
    """Follow gradient through a project.

    Args:
        files: every file of the project, read; those without a tree are passed over.
        knowledge: what libraries do.
        roots: further functions whose result is back-propagated, as ``name``, ``Class.name`` or ``module:name``.
        memory: what an earlier analysis of the project left; entries that no changed file concerns are not followed again.

    Returns:
        Facts about places in the source, and problems met in following single files.
    """
    from gradlint.flow.program import Program

    return Program(files, knowledge, roots, memory).analyze()
