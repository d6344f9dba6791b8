"""``gradlint check``: look, report, and say how it went."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from gradlint.cli.parser import COMMANDS, UsageError, nearest
from gradlint.cli.settings import STDIN, blame_options, config_of
from gradlint.cli.terminal import is_terminal, progress, say, style, write
from gradlint.core import Safety, Severity
from gradlint.reporters import HUMAN, render
from gradlint.reporters.style import Style
from gradlint.session import (
    Config,
    ConfigError,
    Fixing,
    MissingPath,
    Note,
    Report,
    add_ignores,
    analyze,
    checked_files,
    write_baseline,
)
from gradlint.survey.source import from_bytes

OK, FINDINGS, FAILED = 0, 1, 2

MANY = 30
"""Up to so many findings are shown in full on a terminal."""

BASELINE = "gradlint-baseline.json"
"""Where a baseline is written, in the project's root, when nobody says where."""


@dataclass(frozen=True, slots=True)
class Input:
    """What is checked. ``overlay``: the text of standard input at its claimed place; ``notes``: what is odd about it."""

    paths: tuple[str, ...]
    overlay: Mapping[Path, str]
    notes: tuple[Note, ...] = ()

    @property
    def stdin(self) -> bool:
        """Whether the text came from standard input."""
        return bool(self.overlay)


def run(options: argparse.Namespace) -> int:
    """Carry out the command; the exit code.

    Raises:
        UsageError: what is asked for cannot be done.
    """
    try:
        given = _input(options)
        config = config_of(options, given.paths)
        return _run(options, given, config)
    except MissingPath as error:
        raise UsageError(str(error) + _command_hint(error.path)) from None
    except ConfigError as error:
        raise UsageError(str(blame_options(error, options) if "unknown rule" in str(error) else error)) from None


def _run(options: argparse.Namespace, given: Input, config: Config) -> int:
    if options.show_settings:
        return _show_settings(config)
    if options.show_files:
        return _show_files(options, given, config)
    if given.stdin and (options.add_ignore or options.write_baseline):
        raise UsageError("--add-ignore and --write-baseline need files, not standard input")
    if options.add_ignore:
        return _add_ignores(options, given, config)
    if options.write_baseline:
        return accept(options, given.paths, config)
    fixing = None
    if options.fix or options.fix_only or options.diff:
        fixing = Fixing(unsafe=options.unsafe_fixes, write=not options.diff)
    with progress("gradlint reads the project"):
        report = analyze(
            given.paths,
            config,
            given.overlay,
            use_cache=not options.no_cache,
            fixing=fixing,
            jobs=options.jobs or os.cpu_count() or 1,
        )
    tell([*given.notes, *report.notes], options)
    failed = report.failed or any(note.level == "error" for note in given.notes)
    if options.diff:
        write(_painted_diff(report.diff, style(sys.stdout, options.color)))
        _tell_fixed(report, options, "would be fixed")
        return FAILED if failed else FINDINGS if report.diff and not options.exit_zero else OK
    if fixing and given.stdin:
        write(_fixed_text(report, given))
    if not options.fix_only:
        emit(options, config, report, sys.stderr if fixing and given.stdin else sys.stdout)
    if fixing:
        _tell_fixed(report, options, "fixed")
    if failed:
        return FAILED
    return FINDINGS if report.findings and not (options.exit_zero or options.fix_only) else OK


# Input ---------------------------------------------------------------------------------------------------------------


def _input(options: argparse.Namespace) -> Input:
    if options.paths[:1] == ["check"] and not os.path.lexists("check"):  # as in `gradlint --no-cache check src`
        del options.paths[0]
    if STDIN not in options.paths:
        if options.stdin_filename and options.paths:
            raise UsageError("--stdin-filename names the text on standard input: give - as the path")
        if not options.stdin_filename:
            return Input(tuple(options.paths), {})
    if len(options.paths) > 1:
        raise UsageError("standard input (-) is checked alone, without other paths")
    name = options.stdin_filename or STDIN
    location = Path(name).absolute()
    data = sys.stdin.buffer.read()
    if location.suffix == ".ipynb":
        return Input((name,), {location: data.decode("utf-8", "replace")})
    source = from_bytes(data, location, name, parse=False)
    # Only text travels on from here, so what was wrong with the bytes is told now.
    lost = source.encoding is None and not source.text
    notes = tuple(Note("error" if lost else "warning", problem.message, name) for problem in source.problems)
    return Input((name,), {location: source.text}, notes)


def _command_hint(path: str) -> str:
    if path in COMMANDS:
        return f"; a command comes first: gradlint {path}"
    return nearest(path, list(COMMANDS)).replace("mean ", "mean the command ") if path.isalpha() else ""


# Output --------------------------------------------------------------------------------------------------------------


def emit(options: argparse.Namespace, config: Config, report: Report, stream: TextIO) -> None:
    """Write the findings, and for people a summary on stderr."""
    chosen = config.output_format
    if chosen is None:
        plenty = len(report.findings) > MANY
        chosen = "full" if is_terminal(stream) and not options.output_file and not plenty else "concise"
    if options.output_file:
        look = Style(color=options.color == "always", unicode=True)
        text = _statistics(report, look, chosen) if options.statistics else render(chosen, report, look)
        try:
            with Path(options.output_file).open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
                file.write(text)
        except OSError as error:
            raise UsageError(f"{options.output_file}: the report cannot be written: {error.strerror or error}") from None
    else:
        look = style(stream, options.color)
        write(_statistics(report, look, chosen) if options.statistics else render(chosen, report, look), stream)
    if chosen in HUMAN and not options.quiet:
        if report.findings and is_terminal(stream) and not options.output_file:
            say("")
        _summarise(report, options)


def tell(notes: Iterable[Note], options: argparse.Namespace) -> None:
    """Say on stderr what is worth knowing beside the findings."""
    look = style(sys.stderr, options.color)
    for note in notes:
        if (note.level == "info" and not options.verbose) or (note.level == "warning" and options.quiet):
            continue
        color = {"error": "red", "warning": "yellow"}.get(note.level, "blue")
        where = f"{note.path}: " if note.path else ""
        say(f"{look.paint(f'{note.level}:', color, 'bold')} {where}{note.message}")


def _summarise(report: Report, options: argparse.Namespace) -> None:
    look = style(sys.stderr, options.color)
    if report.stale:
        say(f"{_count(len(report.stale), 'baseline entry', 'baseline entries')} no longer found: gradlint baseline prune")
        if options.verbose:
            say("".join(f"  {entry}\n" for entry in report.stale).rstrip())
    aside = []
    if report.suppressed:
        aside.append(f"{report.suppressed} suppressed")
    if report.baselined:
        aside.append(f"{report.baselined} in the baseline")
    more = f" ({', '.join(aside)})" if aside else ""
    files = _count(len(report.files), "file")
    if not report.findings:
        if report.files and not report.failed:
            say(f"{look.paint('Nothing found', 'green', 'bold')} in {files}{more}.")
        return
    kinds = [
        _count(report.severities[severity], severity.value, "info" if severity is Severity.INFO else "")
        for severity in Severity
        if report.severities.get(severity)
    ]
    found = look.paint(f"Found {', '.join(kinds)}", "bold")
    say(f"{found} in {_count(len({finding.span.file for finding in report.findings}), 'file')} of {len(report.files)}{more}.")
    safety = Counter(finding.fix.safety for finding in report.findings if finding.fix)
    ways = ((Safety.SAFE, "--fix"), (Safety.UNSAFE, "--fix --unsafe-fixes"))
    fixes = [f"{safety[kind]} can be fixed with {option}" for kind, option in ways if safety[kind]]
    code = next(iter(report.counts))
    say("; ".join([*fixes, f"gradlint rule {code} explains a rule"]) + ".")


def _statistics(report: Report, look: Style, chosen: str) -> str:
    """How often each rule fired."""
    names = {finding.code: finding.name for finding in report.findings}
    safety = {finding.code: finding.fix.safety.value for finding in report.findings if finding.fix}
    if chosen not in HUMAN:
        import json

        rows = [
            {"code": code, "name": names[code], "count": count, "fix": safety.get(code, "none")}
            for code, count in report.counts.items()
        ]
        return json.dumps(rows, indent=2) + "\n"
    room = max((len(str(count)) for count in report.counts.values()), default=1)
    return "".join(
        f"{count:>{room}}  {look.paint(code, 'bold')}  {names[code]}"
        + (f"  ({safety[code]} fix)" if safety.get(code, "none") != "none" else "")
        + "\n"
        for code, count in report.counts.items()
    )


def _painted_diff(diff: str, look: Style) -> str:
    if not look.color:
        return diff
    looks = {"+": ("green",), "-": ("red",), "@": ("cyan",)}
    return "".join(
        look.paint(line, "bold") if line.startswith(("+++", "---")) else look.paint(line, *looks.get(line[:1], ()))
        for line in diff.splitlines(keepends=True)
    )


def _fixed_text(report: Report, given: Input) -> str:
    """The text of standard input after the fixes."""
    before = next(iter(given.overlay.values()))
    return next(iter(report.changed.values()), before)


def _tell_fixed(report: Report, options: argparse.Namespace, verb: str) -> None:
    if not options.quiet:
        fixed = sum(report.fixed.values())
        say(f"{_count(fixed, 'finding')} {verb} in {_count(len(report.fixed), 'file')}." if fixed else f"Nothing {verb}.")


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


# Other things to do with the same input ------------------------------------------------------------------------------


def _show_settings(config: Config) -> int:
    from gradlint.cli.config import toml

    origin = config.file.as_posix() if config.file else "none" if not config.isolated else "none, because of --isolated"
    lines = [f"# settings file: {origin}", f"# project root: {config.root.as_posix()}"]
    for key, value in config.as_toml_values().items():
        lines.append(f"# {key} is not set" if value is None else f"{key} = {toml(value)}")
    write("\n".join(lines) + "\n")
    return OK


def _show_files(options: argparse.Namespace, given: Input, config: Config) -> int:
    from gradlint.survey.discover import shown

    if given.stdin:
        write(f"{given.paths[0]}\n")
        return OK
    selection = checked_files(given.paths, config)
    tell(selection.notes, options)
    write("".join(f"{shown(path, Path.cwd())}\n" for path in selection.checked))
    return FAILED if any(note.level == "error" for note in selection.notes) else OK


def _add_ignores(options: argparse.Namespace, given: Input, config: Config) -> int:
    with progress("gradlint reads the project"):
        silenced, notes = add_ignores(given.paths, config)
    tell(notes, options)
    if not options.quiet:
        say(f"{_count(silenced, 'finding')} suppressed by a comment." if silenced else "Nothing to suppress.")
    return FAILED if any(note.level == "error" for note in notes) else OK


def accept(options: argparse.Namespace, paths: Sequence[str], config: Config) -> int:
    """Write all that is found now to the baseline file.

    Raises:
        UsageError: the file cannot be written.
        MissingPath, ConfigError: as ``analyze``.
    """
    file = config.baseline or config.root / BASELINE
    try:
        with progress("gradlint reads the project"):
            accepted = write_baseline(paths, config, file)
    except OSError as error:
        raise UsageError(f"{file}: the baseline cannot be written: {error.strerror or error}") from None
    if not options.quiet:
        say(f"{_count(accepted, 'finding')} accepted in {file}.")
        if config.baseline is None:
            say(f'Set baseline = "{BASELINE}" in [tool.gradlint], or pass --baseline, to have them left out.')
    return OK
