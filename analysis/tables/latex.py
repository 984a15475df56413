"""A table as LaTeX with booktabs, to \\input into a paper."""

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from analysis.tables.marks import NONE, footnotes, groups, legend, mark, sections
from analysis.tables.table import Cell, Column, Table

PREAMBLE: Final = ("booktabs", "amssymb", "graphicx")  # packages that a document needs

# Of \footnotesize, 8 pt in a paper of 10 pt: about how wide signs are, and the gap between columns.
_SIGN_PT: Final = 4.4
_SIGNS_PT: Final = {**dict.fromkeys(" .,:;!'()[]/|fijlrt", 2.9), **dict.fromkeys("±−+<>≤≥≈%@✓mwMW", 7.2)}
_WORDS_PT: Final = 3.9  # a sign of running text, spaces among them
_GAP_PT: Final = 5.0
# The narrowest of what journals and conferences have. Wider tables shrink, but not below about 6 pt.
_LEAST: Final = 0.73
_COLUMN_PT: Final = 237.0 / _LEAST  # one of two columns (CVPR)
_PAGE_PT: Final = 345.0 / _LEAST  # the page of one column (article); that of two is wider
_LONG: Final = 13  # signs of a column's head from which on it is broken into two lines
# What is still too wide shrinks until it fits.
_SHRINK: Final = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
_ESCAPES: Final = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    # At the start of a row they would be taken for arguments of the line break before it.
    "[": "{[}",
    "*": "{*}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≠": r"$\neq$",
    "≈": r"$\approx$",
    "→": r"$\rightarrow$",
    "∞": r"$\infty$",
    "√": r"$\surd$",
    "◂": r"$\triangleleft$",
    "✓": r"$\checkmark$",
    "✗": r"$\times$",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "†": r"$^{\dagger}$",
    "⚠": "(!)",
    "\u00a0": "~",
    "\u202f": r"\,",
    "µ": r"$\mu$",
}
_OPENING: Final = re.compile(r'(?<![^\s(\[{/–—-])"')  # a straight quote, by what stands before it
# What LaTeX sets without a package, in its default encodings of text (utf8) and of fonts (OT1).
_LETTERS: Final = frozenset("ßæÆøØœŒłŁ")
_ACCENTS: Final = frozenset("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c")
_GREEK: Final = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"),
    *("nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega"),
)


def render(table: Table) -> str:
    """Return a float: caption, label, tabular, and what marks and letters mean below.

    It is a `table` where it fits one of two columns, else a `table*`, which spans both. Columns that no page
    holds side by side stand below one another, each part with the first column. The document loads the
    packages of PREAMBLE, which the first line names.
    """
    letters = footnotes(table)
    everything = range(len(table.columns))
    parts = _parts(table)
    is_narrow = len(parts) == 1 and _width_pt(table, everything) <= _COLUMN_PT
    environment = "table" if is_narrow else "table*"
    lines = [
        "% " + "".join(rf"\usepackage{{{name}}} " for name in PREAMBLE).rstrip(),
        rf"\begin{{{environment}}}[tbp]",
        r"\centering",
        # Classes expect captions below.
        r"\setlength{\abovecaptionskip}{0pt}\setlength{\belowcaptionskip}{6pt}",
        rf"\caption{{{escape(table.title)}}}",
        rf"\label{{tab:{_label(table.name)}}}",
        rf"\footnotesize\setlength{{\tabcolsep}}{{{_GAP_PT / 2:g}pt}}",
    ]
    for place, part in enumerate(parts):
        lines += ["", r"\medskip"] if place else []
        lines += _tabular(table, part, letters)
    notes = [rf"\textsuperscript{{{letter}}}\,{escape(reason)}." for reason, letter in letters.items()]
    notes += [escape(note) for note in (*legend(table, "Bold"), *table.notes)]
    if notes:
        lines += ["", r"\smallskip", r"\parbox{\linewidth}{\footnotesize\raggedright", *notes, "}"]
    return "\n".join([*lines, rf"\end{{{environment}}}"]) + "\n"


def _parts(table: Table) -> list[list[int]]:
    """Return the places of the columns that stand side by side; columns of a group stay together."""
    units, start = [], 1
    for _, span in groups(table.columns[1:]):
        unit = list(range(start, start + span))
        units += [unit] if _width_pt(table, [0, *unit]) <= _PAGE_PT else [[place] for place in unit]
        start += span
    parts = [[0]]
    for unit in units:
        if len(parts[-1]) > 1 and _width_pt(table, [*parts[-1], *unit]) > _PAGE_PT:
            parts.append([0])
        parts[-1] += unit
    return parts


def _width_pt(table: Table, places: Sequence[int]) -> float:
    """Return about how wide some columns are side by side."""
    width_pt = _GAP_PT * (len(places) - 1)
    for place in places:
        cells = [row.cells[place] for row in table.rows]
        texts = [*_broken(table.columns[place].name), *(cell.text + mark(cell) for cell in cells)]
        width_pt += max(map(_text_pt, texts))
    return width_pt


def _text_pt(text: str) -> float:
    return sum(_SIGNS_PT.get(sign, _SIGN_PT) for sign in text)


def _broken(head: str) -> list[str]:
    """Return the head of a column in one line or, of several long words, in two."""
    words = head.split(" ")
    if len(head) < _LONG:
        return [head]
    halves = [(" ".join(words[:place]), " ".join(words[place:])) for place in range(1, len(words))]
    return list(min(halves, key=lambda half: max(map(len, half)), default=(head,)))


def _tabular(table: Table, places: Sequence[int], letters: Mapping[str, str]) -> Iterator[str]:
    columns = [table.columns[place] for place in places]
    rules = "".join({"left": "l", "right": "r", "center": "c"}[column.align] for column in columns)
    yield from (_SHRINK, rf"\begin{{tabular}}{{@{{}}{rules}@{{}}}}", r"\toprule", *_heads(columns))
    signs = max(20, int(_width_pt(table, places) / _WORDS_PT))
    for section, rows in sections(table).items():
        yield r"\midrule"
        # In lines of their own: a head wider than the columns would tear them apart.
        for line in textwrap.wrap(section or "", signs):
            yield rf"\multicolumn{{{len(columns)}}}{{@{{}}l}}{{\emph{{{escape(line)}}}}} \\"
        for cells in rows:
            yield _line(_cell(cells[place], letters) for place in places)
    yield from (r"\bottomrule", r"\end{tabular}}")


def escape(text: str) -> str:
    """Return text that LaTeX prints as it is; a sign that its fonts lack is printed by its name."""
    return "".join(map(_sign, _OPENING.sub("“", text).replace('"', "”")))


def _sign(sign: str) -> str:
    if sign in _ESCAPES:
        return _ESCAPES[sign]
    if sign.isspace():
        return " "
    if sign.isascii():
        return sign if sign.isprintable() else ""
    name = unicodedata.name(sign, "")
    kind, _, letter = name.partition(" LETTER ")
    letter = letter.partition(" ")[0].lower().replace("lamda", "lambda")  # Unicode's own spelling
    if kind in ("GREEK SMALL", "GREEK CAPITAL") and letter in _GREEK:
        return _greek(letter, capital=kind.endswith("CAPITAL"))
    if sign in _LETTERS or (ord(sign) < 0x180 and unicodedata.normalize("NFD", sign)[1:] in _ACCENTS):
        return sign
    plain = unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
    return "".join(map(_sign, plain or f"[{name.lower() or f'U+{ord(sign):04X}'}]"))


def _greek(letter: str, *, capital: bool) -> str:
    if not capital:
        return rf"$\{letter}$"
    # Capitals that look like Latin ones have no command of their own.
    own = ("gamma", "delta", "theta", "lambda", "xi", "pi", "sigma", "upsilon", "phi", "psi", "omega")
    latin = {"eta": "H", "rho": "P", "chi": "X"}
    return rf"$\{letter.capitalize()}$" if letter in own else latin.get(letter, letter[0].upper())


def _label(name: str) -> str:
    return "".join(sign if sign.isalnum() and sign.isascii() else "-" for sign in name)


def _heads(columns: Sequence[Column]) -> Iterator[str]:
    if any(column.group for column in columns):
        cells, rules, start = [], [], 1
        for group, span in groups(columns):
            if group:
                cells.append(rf"\multicolumn{{{span}}}{{c}}{{{escape(group)}}}")
                rules.append(rf"\cmidrule(lr){{{start}-{start + span - 1}}}")
            else:
                cells.append("")
            start += span
        yield _line(cells)
        yield " ".join(rules)
    yield _line(map(_head, columns))


def _head(column: Column) -> str:
    lines = [escape(line) for line in _broken(column.name)]
    return lines[0] if len(lines) == 1 else rf"\shortstack[{column.align[0]}]{{{lines[0]} \\ {lines[1]}}}"


def _cell(cell: Cell, letters: Mapping[str, str]) -> str:
    text = escape(cell.text)
    if cell.best and text:
        # Signs in math mode are bold of their own accord only as \boldmath.
        text = rf"\textbf{{\boldmath {text}}}"
    text += {"*": r"$^{*}$", "": ""}.get(mark(cell), escape(mark(cell)))
    if cell.missing:
        text = rf"{text or escape(NONE)}\textsuperscript{{{letters[cell.missing]}}}"
    return text


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"
