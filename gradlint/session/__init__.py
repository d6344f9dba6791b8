"""From paths and settings to a report; what the command line, the language server and tests call."""

from gradlint.session.config import Config, ConfigError
from gradlint.session.config import load as load_config
from gradlint.session.report import Note, Report
from gradlint.session.run import Fixing, add_ignores, analyze, checked_files, prune_baseline, write_baseline
from gradlint.survey.discover import MissingPath

__all__ = [
    "Config",
    "ConfigError",
    "Fixing",
    "MissingPath",
    "Note",
    "Report",
    "add_ignores",
    "analyze",
    "checked_files",
    "load_config",
    "prune_baseline",
    "write_baseline",
]
