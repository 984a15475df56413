"""The tables that a run prints."""

import sys
from collections.abc import Iterable, Sequence

from benchmarks.dp.records import Row

_TITLES = {
    "soft_dtw": "soft_dtw: forward and backward, γ = 0.1",
    "fsd": "fsd: forward and backward, γ = 0.1",
    "lcs": "lcs: forward and backward, hard",
    "fsd_contrast": "FTCL's contrast with similarity: FSD, γ = 0.1",
    "lcs_contrast": "FTCL's contrast with similarity: LCS, hard",
    "cold": "soft_dtw at a low temperature: γ = 0.01, costs up to 50, error against float64",
    "growth": "soft_dtw of 16 square tables: growth with their side",
}
_HEAD = (
    "B,N,M",
    "contender",
    "median ms",
    "p10 to p90",
    "min",
    "n",
    "speed-up",
    "gradient error",
    "kept B/cell",
    "peak MiB",
)
_MAX_OTHER_LOAD = 0.05


def print_part(part: str, rows: Sequence[Row], took_s: float) -> None:
    """One table with a block per size, in it a line per contender; speed-ups are over the fastest peer."""
    print(f"\n{_TITLES[part]} ({took_s:.0f} s)")
    if part == "cold":
        shown = [row for row in rows if row.value_error is not None]
        lines = [(row.contender, f"{row.value_error:.1e}", f"{row.gradient_error:.1e}") for row in shown]
        _print_table(("contender", "value error", "gradient error"), lines)
    else:
        _print_table(_HEAD, list(_lines_by_size(rows)))
        _print_starts(rows)
    skipped: dict[str, list[str]] = {}
    for row in rows:
        if row.status == "skipped":
            skipped.setdefault(f"{row.contender}: {row.reason}", []).append(name_of(row.size))
    for reason, sizes in skipped.items():
        print(f"  without {reason} ({' · '.join(sizes)})")


def print_faults(rows: Iterable[Row]) -> bool:
    """Name our own contenders that were wrong or failed; False if there are none."""
    faults = [row for row in rows if row.kind == "ours" and row.status in ("wrong", "failed")]
    for row in faults:
        print(f"FAULT: {row.contender}, {row.function} {name_of(row.size)}: {row.reason}", file=sys.stderr)
    return bool(faults)


def warn_of_load(share: float) -> None:
    """Timings beside other busy programs say little: threads that wait for each other wait for those too."""
    if share > _MAX_OTHER_LOAD:
        print(f"\nWARNING: other programs used {share:.0%} of the cores; repeat this on a quiet machine")


def fastest(rows: Iterable[Row], kind: str) -> Row | None:
    """The quickest of the right ones of a kind."""
    timed = [row for row in rows if row.kind == kind and row.median_ms is not None]
    return min(timed, key=lambda row: row.median_ms or 0.0, default=None)


def name_of(size: tuple[int, int, int]) -> str:
    return ",".join(map(str, size))


def _lines_by_size(rows: Sequence[Row]) -> Iterable[tuple[str, ...]]:
    for size in dict.fromkeys(row.size for row in rows):
        block = [row for row in rows if row.size == size and row.status != "skipped"]
        rival = fastest(block, "peer") or fastest(block, "loops")
        for row in block:
            yield (name_of(size) if row is block[0] else "", row.contender, *_times_or_reason(row, rival))


def _times_or_reason(row: Row, rival: Row | None) -> tuple[str, ...]:
    if row.median_ms is None:
        return (row.reason,)
    ratio = "" if rival is None or not rival.median_ms else f"{rival.median_ms / row.median_ms:.2f} ×"
    return (
        f"{row.median_ms:.3g}",
        f"{row.p10_ms:.3g} to {row.p90_ms:.3g}",
        f"{row.min_ms:.3g}",
        str(row.repetitions),
        ratio,
        f"{row.gradient_error:.1e}",
        "" if row.kept_bytes_per_cell is None else f"{row.kept_bytes_per_cell:.1f}",
        "" if row.peak_mib is None else f"{row.peak_mib:.1f}",
    )


def _print_starts(rows: Sequence[Row]) -> None:
    starts = [row for row in rows if row.first_call_s is not None]
    if starts:
        print("  in a fresh process with nothing compiled before, import (after torch's) and first call:")
        lines = [
            (row.contender, f"{row.import_s:.2f} s", f"{row.first_call_s:.2f} s", name_of(row.size))
            for row in starts
        ]
        _print_table(("contender", "import", "first call", "at"), lines)


def _print_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    widths = [len(word) for word in head]
    for line in lines:
        # A reason stands in place of all figures and may be wider than their first column.
        figures = line if len(line) == len(head) else line[:2]
        for i, word in enumerate(figures):
            widths[i] = max(widths[i], len(word))
    for line in (head, *lines):
        cells = (f"{word:<{width}}" for word, width in zip(line, widths, strict=False))
        print("  " + "  ".join(cells).rstrip())
