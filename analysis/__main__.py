"""`python -m analysis OUT`: rebuild and print the tables of a study from its folder alone."""

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console

from analysis.output import FORMATS, print_ablation, write_ablation
from study.records import StorageError


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if the tables are written, 2 if OUT is no study or cannot be written."""
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
    try:
        files = write_ablation(options.out, options.format.split(","))
        console = Console()
        print_ablation(options.out, console)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except StorageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"error: cannot write the tables ({error}); copy the folder to a writable place", file=sys.stderr
        )
        return 2
    console.print(f"written: {', '.join(files.paths.values())}", soft_wrap=True, markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
