"""An audit as text."""

from __future__ import annotations

from collections.abc import Sequence

from gradlint.verify.monitors.audit import Audit, Group, Row, short

_UNKNOWN = "-"


def text(audit: Audit, parameters: bool = False) -> str:
    """The table of groups, the table of parameters where it is asked for, problems and notes."""
    size = sum(row.seen.size for row in audit.rows)
    trains = sum(row.seen.size for row in audit.rows if row.seen.trains)
    share = f"{100 * trains / size:.1f} %" if size else "none"
    head = f"{len(audit.rows)} tensors, {short(size)} parameters, {short(trains)} of them trainable ({share})"
    if audit.loss is not None:
        head += f"; loss {audit.loss:.4g}"
    if not audit.ran:
        head += "; no step was run"
    lines = [head, "", *_table(_HEAD, [_group(each) for each in audit.groups])]
    if parameters:
        lines += ["", *_table(_PARAMETER_HEAD, [_parameter(each, audit.ran) for each in audit.rows])]
        moved = [each for each in audit.buffers if each.moved]
        if moved:
            rows = [[each.name, "frozen part" if each.frozen else "", f"{each.change or 0.0:.2e}"] for each in moved]
            lines += ["", *_table(["buffer", "", "change"], rows)]
    for title, remarks in (("Problems", audit.problems), ("Notes", audit.notes)):
        if remarks:
            lines += ["", f"{title}:", *(f"  {each.text}" for each in remarks)]
    if audit.ok:
        lines += ["", "No problem found."]
    return "\n".join(lines)


_HEAD = ["part", "kind", "tensors", "parameters", "requires grad", "gradient", "optimizer", "moved", "|grad|", "mode"]


def _group(group: Group) -> list[str]:
    return [
        group.part,
        group.kind,
        str(group.tensors),
        short(group.size),
        str(group.trains),
        str(group.gradient),
        _count(group.held),
        _count(group.moved),
        _norm(group.gradient_norm),
        group.mode,
    ]


_PARAMETER_HEAD = ["parameter", "kind", "shape", "requires grad", "gradient", "optimizer", "change", "|grad|", "|value|"]


def _parameter(row: Row, ran: bool) -> list[str]:
    seen = row.seen
    return [
        seen.name,
        row.kind,
        "×".join(map(str, seen.shape)) or "scalar",
        "yes" if seen.trains else "no",
        seen.gradient if row.later is None else f"{seen.gradient}, later {row.later}",
        _UNKNOWN if seen.held is None else "yes" if seen.held else "no",
        _UNKNOWN if seen.change is None or not ran else f"{seen.change:.2e}",
        _norm(seen.gradient_norm),
        f"{seen.norm:.3g}",
    ]


def _count(count: int | None) -> str:
    return _UNKNOWN if count is None else str(count)


def _norm(norm: float | None) -> str:
    return _UNKNOWN if norm is None else f"{norm:.2e}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as they need to be; those of numbers stand to the right."""
    widths = [max(len(line[column]) for line in [head, *rows]) for column in range(len(head))]
    numeric = [
        all(not row[column] or row[column][0].isdigit() or row[column] in (_UNKNOWN, "inf", "nan") for row in rows)
        for column in range(len(head))
    ]
    numeric[0] = False

    def line(cells: Sequence[str]) -> str:
        aligned = [
            cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(cells, widths, numeric, strict=True)
        ]
        return "  ".join(aligned).rstrip()

    return [line(head), line(["-" * width for width in widths]), *(line(row) for row in rows)]
