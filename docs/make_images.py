"""Draw the README's pictures from a finished study: `python docs/make_images.py OUT`; needs Chromium."""

import argparse
import io
import re
import subprocess
import tempfile
from pathlib import Path

from PIL import Image
from rich.console import Console

from analysis import load_study, print_ablation
from analysis.report.page import build_report
from ftcl.files import atomic_write

_IMAGES = Path(__file__).parent / "images"
_WIDTH = 92  # of the terminal, in characters
_SCREEN = (1280, 850)  # of the browser, in pixels
_COLOURS = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", metavar="OUT", help="the folder or URI of a finished study")
    options = parser.parse_args()
    for name, picture in (("ablation.svg", _table(options.out)), ("report.png", _report(options.out))):
        path = _IMAGES / name
        atomic_write(path, lambda file, content=picture: file.write(content))
        print(f"written: {path}")


def _table(out: str) -> bytes:
    console = Console(record=True, width=_WIDTH, file=io.StringIO(), color_system="truecolor")
    print_ablation(out, console)
    picture = console.export_svg(title="make study", unique_id="ablation")
    # A picture should need nothing from the network: viewers fall back to their own monospaced font.
    return re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL).encode()


def _report(out: str) -> bytes:
    """The first screen of the report."""
    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder) / "report.html", Path(folder) / "shot.png"
        page.write_text(build_report(load_study(out)))
        command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--window-size={_SCREEN[0]},{_SCREEN[1]}", f"--screenshot={shot}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        picture = Image.open(shot).convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
    content = io.BytesIO()
    picture.save(content, "PNG", optimize=True)
    return content.getvalue()


if __name__ == "__main__":
    main()
