"""One pass over a study: load it, make every table, render each, and build the report."""

import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def measure(out: Path) -> list[dict[str, Any]]:
    """Return what loading, each table and each rendering took; seconds, and the peak of memory in GB."""
    from rich.console import Console

    from analysis.load import load_study
    from analysis.report import build_report
    from analysis.tables import html, terminal
    from analysis.tables.contents import TABLES
    from analysis.tables.files import RENDERERS, make_tables

    rows: list[dict[str, Any]] = []

    @contextmanager
    def timed(what: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        rows.append({"what": what, "unit": "s", "value": time.perf_counter() - start})

    with timed("load"):
        study = load_study(out)
    tables = []
    with timed("all tables"):
        for name in TABLES:
            with timed(f"table {name}"):
                # What needs detections is not made: the generated study has none.
                tables += make_tables([study], [name]).tables
    renderers: dict[str, Callable[[Any], str]] = {**RENDERERS, "html": html.render}
    for name, render in renderers.items():
        with timed(f"render {name}"):
            texts = [render(table) for table in tables]
        rows.append({"what": f"size {name}", "unit": "MB", "value": sum(map(len, texts)) / 1e6})
    with timed("terminal"), open(os.devnull, "w") as nowhere:
        for table in tables:
            terminal.show(table, Console(file=nowhere, width=120))
    with timed("report"):
        page = build_report(study)
    rows.append({"what": "size report", "unit": "MB", "value": len(page.encode()) / 1e6})
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    rows.append({"what": "peak memory", "unit": "GB", "value": peak_gb})
    return rows
