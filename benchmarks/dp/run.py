"""Time ftcl.dp beside the packages that one would otherwise use: `make bench-dp`, or

    python -m benchmarks.dp [--quick] [--device cuda]

Forward and backward pass in float32, gradients to the tables (or, of the contrasts, to the rows), all in
one run and in turns. No speed is printed of a contender whose values or gradients are wrong; if it is one of
ours, the exit status is 1. `--quick` takes small sizes only and starts no processes for memory and warm-up.
"""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.dp import answers, cases, goals, isolated, machine, measure, report
from benchmarks.dp.cases import Case, Size
from benchmarks.dp.contenders import BY_NAME, CONTENDERS, Contender, Unavailable, one_line
from benchmarks.dp.records import Row, write_csv

PARTS = (*cases.FUNCTIONS, "cold", "growth")
_RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 0, or 1 if a result of ours, or the truth itself, is wrong."""
    options = _parse(arguments)
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    command = shlex.join(sys.argv[1:] if arguments is None else arguments)
    facts = machine.provenance(device, options.threads, command)
    others = machine.OtherLoad()
    for name, value in facts.items():
        print(f"{name:16} {value}")
    truth_error = answers.check_truth()
    print(f"{'truth':16} float64 differs from plain loops by {truth_error:.1e}")
    if not truth_error <= answers.MAX_TRUTH_ERROR:
        print("the float64 results themselves are wrong: nothing is measured", file=sys.stderr)
        return 1
    contenders = [BY_NAME[name] for name in options.contenders]
    rows: list[Row] = []
    for part in options.functions:
        started = time.perf_counter()
        part_cases = _cases(part, options, device)
        part_rows = []
        for case in part_cases:
            print(f"  {case}", end="\r", file=sys.stderr, flush=True)
            part_rows += measure_case(case, contenders, device, options.budget, options.rounds)
        if not options.quick and part in cases.FUNCTIONS:
            _add_isolated(part_rows, part_cases, device, options.threads)
        report.print_part(part, part_rows, time.perf_counter() - started)
        rows += part_rows
    shares = [cases.match_share(cases.make_inputs(case)[0]) for case in cases.CONTRAST_CASES]
    for case, share in zip(cases.CONTRAST_CASES, shares, strict=True):
        facts[f"matches in {case}"] = f"{share:.1%} of the cells above {cases.THRESHOLD}"
    facts["other programs"] = f"{others.share():.0%} of the cores during the run"
    goals.print_goals(rows, device)
    report.warn_of_load(others.share())
    write_csv(options.out, rows, facts)
    print(f"\nwritten: {options.out}")
    if options.plot is not None and "growth" in options.functions:
        _plot(options.out, options.plot)
    return 1 if report.print_faults(rows) else 0


def measure_case(
    case: Case, contenders: Sequence[Contender], device: torch.device, budget_s: float, rounds: int
) -> list[Row]:
    """A row for every contender that has the function: errors, bytes kept, and times if it is right."""
    truth = answers.true_answer(case, device)
    rows, entries = [], {}
    for contender in contenders:
        if case.function not in contender.functions:
            continue
        row = Row.of(case, contender)
        rows.append(row)
        try:
            entry = _examine(row, case, contender, truth)
        except Unavailable as reason:
            row.status, row.reason = "skipped", str(reason)
        except Exception as error:
            row.status, row.reason = "failed", f"{type(error).__name__}: {one_line(error)}"
        else:
            if row.status == "ok" and case.section != "cold":
                entries[contender.name] = entry
    del truth
    times = measure.race(entries, budget_s=budget_s, rounds=rounds)
    for row in rows:
        if row.contender in times:
            row.set_times(measure.Spread.of(times[row.contender]), case.bytes_moved)
            if device.type == "cuda" and row.contender.startswith(("triton", "fused")):
                _time_replay(row, entries[row.contender])
    return rows


def _examine(row: Row, case: Case, contender: Contender, truth: answers.Answer) -> measure.Entry:
    device = truth.values.device
    values = contender.build(case, device)
    leaves = answers.leaves_on(device, case)
    inputs = answers.fresh_inputs(contender, leaves)
    started = time.perf_counter()
    found = answers.answer(values, inputs)
    about_s = time.perf_counter() - started
    errors = answers.errors(found, truth)
    row.set_errors(errors)
    wrong = answers.why_wrong(errors)
    if wrong is not None:
        row.status, row.reason = "wrong", wrong
    if case.function in cases.TABLES:
        inputs = answers.fresh_inputs(contender, leaves)
        row.kept_bytes_per_cell = measure.bytes_kept(values, inputs) / case.cells
    return measure.Entry(contender, values, leaves, about_s)


def _time_replay(row: Row, entry: measure.Entry) -> None:
    try:
        row.replay_ms = measure.replay_ms(measure.captured(entry.values, entry.leaves)[0])
    except RuntimeError as error:
        row.reason = f"no CUDA graph: {one_line(error)}"


def _add_isolated(
    rows: Sequence[Row], part_cases: Sequence[Case], device: torch.device, threads: int
) -> None:
    for name in dict.fromkeys(row.contender for row in rows):
        print(f"  {name} in a process of its own", end="\r", file=sys.stderr, flush=True)
        mine = [(row, case) for case in part_cases for row in rows if row.contender == name]
        mine = [(row, case) for row, case in mine if row.size == case.size and row.status == "ok"]
        if not mine:
            continue
        found = isolated.measure(name, [case for _, case in mine], device.type, threads)
        if isinstance(found, str):
            mine[0][0].reason = found
            continue
        mine[0][0].import_s, mine[0][0].first_call_s = found.import_s, found.first_call_s
        for row, case in mine:
            row.peak_mib = found.peak_bytes[str(case)] / 2**20


def _cases(part: str, options: argparse.Namespace, device: torch.device) -> list[Case]:
    if part == "cold":
        return [cases.COLD]
    if part == "growth":
        return [cases.table_case("soft_dtw", size, "growth") for size in cases.GROWTH_SIZES]
    if part in cases.CONTRASTS:
        mine = [case for case in cases.CONTRAST_CASES if case.function == part]
        return [case for case in mine if not options.quick or case.size == cases.FTCL_SIZES[part]]
    fitting = [size for size in options.sizes if device.type == "cuda" or size not in cases.GPU_SIZES]
    return [cases.table_case(part, size) for size in fitting]


def _plot(table: Path, picture: Path) -> None:
    try:
        from benchmarks.dp import plot
    except ImportError as error:
        print(f"no picture: {error}", file=sys.stderr)
        return
    plot.draw(table, picture)
    print(f"written: {picture}")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dp",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, under a minute")
    parser.add_argument("--sizes", nargs="+", type=_size, metavar="B,N,M", help="tables of B items, N by M")
    parser.add_argument("--functions", nargs="+", choices=PARTS, metavar="NAME", help=", ".join(PARTS))
    parser.add_argument("--contenders", nargs="+", choices=BY_NAME, metavar="NAME", help=", ".join(BY_NAME))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    parser.add_argument("--threads", type=_positive, help="default: one per core")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="time for each contender and size")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the CSV file to write")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the growth of time with length there")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no GPU here")
    if options.budget is not None and not 0 < options.budget < 3600:
        parser.error(f"--budget must be above 0 seconds, got {options.budget}")
    restricted = options.quick or options.sizes or options.functions or options.contenders
    name = f"{options.device}.csv"
    options.out = options.out or (Path("build") / f"dp_{name}" if restricted else _RESULTS / name)
    options.threads = options.threads or len(os.sched_getaffinity(0))
    options.sizes = options.sizes or (cases.QUICK_SIZES if options.quick else cases.SIZES)
    parts = [part for part in PARTS if not (options.quick and part == "growth")]
    options.functions = options.functions or parts
    options.contenders = options.contenders or [contender.name for contender in CONTENDERS]
    options.budget = options.budget or (0.2 if options.quick else 1.0)
    options.rounds = 3 if options.quick else 5
    # Read when numba is imported, which happens later.
    os.environ["NUMBA_NUM_THREADS"] = str(options.threads)
    return options


def _size(text: str) -> Size:
    try:
        size = Size(*(int(word) for word in text.split(",")))
    except (TypeError, ValueError):
        size = Size(0, 0, 0)
    if min(size) < 1:
        raise argparse.ArgumentTypeError(f"a size is three whole numbers above 0 like 16,30,30, got {text!r}")
    return size


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, got {text!r}")
    return int(text)
