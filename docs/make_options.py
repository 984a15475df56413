"""Write the table of options in methods.md from the code: `python docs/make_options.py`."""

from pathlib import Path
from typing import Any

from ftcl.files import atomic_write
from ftcl.recipes import RECIPES
from ftcl.recipes.config import parameters, to_flat

_PAGE = Path(__file__).parent / "methods.md"
_BEGIN, _END = "<!-- options: written by make_options.py -->\n", "<!-- end of options -->\n"
_PRESETS = ("thumos14", "activitynet", "watch", "synthetic")
_MOST_NUMBERS = 4


def options_table() -> str:
    """Every parameter of FTCL: its values for the presets, its meaning and what it may be."""
    recipe = RECIPES["ftcl"]
    values = {preset: to_flat(recipe.defaults(preset)) for preset in _PRESETS}
    lines = [
        f"| parameter | {' | '.join(_PRESETS)} | meaning |",
        "| --- |" + " ---: |" * len(_PRESETS) + " --- |",
    ]
    for name, parameter in parameters(recipe).items():
        cells = " | ".join(_text(values[preset][name]) for preset in _PRESETS)
        allowed = f" ({parameter.describe_values().replace('|', 'or')})" if parameter.choices else ""
        lines.append(f"| `{name}` | {cells} | {parameter.help}{allowed} |")
    return "\n".join(lines) + "\n"


def _text(value: Any) -> str:
    match value:
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case list() if len(value) > _MOST_NUMBERS:
            return f"{value[0]:g}, {value[1]:g}, … {value[-1]:g}"
        case list():
            return ", ".join(f"{number:g}" for number in value)
        case float():
            return f"{value:g}"
    return str(value)


def main() -> None:
    before, _, rest = _PAGE.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    page = f"{before}{_BEGIN}{options_table()}{_END}{after}"
    atomic_write(_PAGE, lambda file: file.write(page.encode()))


if __name__ == "__main__":
    main()
