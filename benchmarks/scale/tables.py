"""The tables of results: rows are added, columns too."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def append(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows to a table; what a row does not have is left empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = list(csv.DictReader(path.open(encoding="utf-8"))) if path.exists() else []
    names = list(dict.fromkeys(name for row in [*known, *rows] for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, names)
        table.writeheader()
        table.writerows([*known, *rows])
