"""`python -m analysis OUT`: rebuild and print the tables of a study from its folder alone."""

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console

from analysis.output import FORMATS, show_ablation


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if the tables are printed, 2 if OUT is no study or cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis",
        description="Rebuild the ablation tables of a study from its records and print them. A copy of the "
        "folder will do: neither the data nor torch are needed. An unfinished study gives a table with gaps.",
    )
    parser.add_argument("out", metavar="OUT", help="the folder or URI that the study wrote to")
    parser.add_argument(
        "--format",
        metavar="LIST",
        default=",".join(FORMATS),
        help=f"what to write into OUT, separated by commas, of {', '.join(FORMATS)} (default: all)",
    )
    options = parser.parse_args(arguments)
    console = Console()
    try:
        files = show_ablation(options.out, console, options.format.split(","))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if files.paths:
        console.print(f"written: {', '.join(files.paths.values())}", soft_wrap=True, markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
