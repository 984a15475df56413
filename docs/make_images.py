"""Draw the README's picture from a finished study: `python docs/make_images.py OUT`."""

import argparse
import io
import re
from pathlib import Path

from rich.console import Console

from analysis import print_ablation
from ftcl.files import atomic_write

_PICTURE = Path(__file__).parent / "images" / "ablation.svg"
_WIDTH = 92


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", metavar="OUT", help="the folder or URI of a finished study")
    options = parser.parse_args()
    console = Console(record=True, width=_WIDTH, file=io.StringIO(), color_system="truecolor")
    print_ablation(options.out, console)
    picture = console.export_svg(title="make study", unique_id="ablation")
    # A picture should need nothing from the network: viewers fall back to their own monospaced font.
    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)
    atomic_write(_PICTURE, lambda file: file.write(picture.encode()))
    print(f"written: {_PICTURE}")


if __name__ == "__main__":
    main()
