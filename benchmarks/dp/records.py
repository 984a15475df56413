"""One row per contender and case, and the CSV file that keeps them with what they were measured on."""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from benchmarks.dp.answers import Errors
from benchmarks.dp.cases import Case
from benchmarks.dp.contenders import Contender, Kind
from benchmarks.dp.measure import Spread
from ftcl.files import atomic_write

Status = Literal["ok", "wrong", "failed", "skipped"]


@dataclass
class Row:
    """Figures that were not measured are None; a wrong or failed contender has no times.

    `replay_ms` is the time of a CUDA graph of the same passes, without what launching them from Python costs.
    `import_s` (after torch's) and `first_call_s` stand in the row of the case that a fresh process ran first.
    """

    section: str
    function: str
    contender: str
    kind: Kind
    batch: int
    rows: int
    columns: int
    channels: int
    gamma: float
    status: Status = "ok"
    reason: str = ""
    repetitions: int | None = None
    median_ms: float | None = None
    p10_ms: float | None = None
    p90_ms: float | None = None
    min_ms: float | None = None
    replay_ms: float | None = None
    gbytes_per_s: float | None = None
    import_s: float | None = None
    first_call_s: float | None = None
    peak_mib: float | None = None
    kept_bytes_per_cell: float | None = None
    value_error: float | None = None
    gradient_error: float | None = None

    @classmethod
    def of(cls, case: Case, contender: Contender) -> "Row":
        return cls(
            case.section,
            case.function,
            contender.name,
            contender.kind,
            *case.size,
            case.channels,
            case.gamma,
        )

    @property
    def size(self) -> tuple[int, int, int]:
        return self.batch, self.rows, self.columns

    def set_errors(self, errors: Errors) -> None:
        self.value_error, self.gradient_error = errors.value, errors.gradient

    def set_times(self, spread: Spread, bytes_moved: int) -> None:
        self.repetitions = spread.repetitions
        self.median_ms, self.min_ms = 1e3 * spread.median, 1e3 * spread.smallest
        self.p10_ms, self.p90_ms = 1e3 * spread.p10, 1e3 * spread.p90
        self.gbytes_per_s = bytes_moved / spread.median / 1e9


def write_csv(path: Path, rows: Iterable[Row], provenance: Mapping[str, str]) -> None:
    """The provenance as lines '# name: value', then one line per row."""
    text = io.StringIO()
    for name, value in provenance.items():
        text.write(f"# {name}: {value}\n")
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _shown(value) for name, value in asdict(row).items()})
    atomic_write(path, lambda file: file.write(text.getvalue().encode()))


def read_csv(path: Path) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Rows as text by column, and the provenance."""
    lines = path.read_text().splitlines()
    comments = [line[2:].partition(": ") for line in lines if line.startswith("# ")]
    rows = list(csv.DictReader(line for line in lines if not line.startswith("# ")))
    return rows, {name: value for name, _, value in comments}


def _shown(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value
