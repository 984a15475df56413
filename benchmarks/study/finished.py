"""A finished study as the benchmarks read it: from its records alone."""

import sys
from typing import Any

from study.records import TRIALS, read_manifest, read_table
from study.store import open_store


def read_study(out: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the manifest of a study and its trials that learn and count, and say what it ran on.

    Ends the program in words if there is no study.
    """
    try:
        store = open_store(out)
        manifest = read_manifest(store)
        rows = read_table(store, TRIALS).to_pylist()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    hardware, versions = manifest["hardware"], manifest["versions"]
    packages = ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "ray"))
    print(f"{hardware['cpu']}, {hardware['cores']} cores; {packages}")
    return manifest, [row for row in rows if row["stage"] != "context" and row["superseded"] is None]
