"""What libraries do to gradient, modules, modes and optimizers: facts kept as TOML rows, one file a library."""

from gradlint.knowledge.loader import Knowledge, libraries, load
from gradlint.knowledge.row import KnowledgeError, Row

__all__ = ["Knowledge", "KnowledgeError", "Row", "libraries", "load"]
