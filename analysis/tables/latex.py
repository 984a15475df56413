"""A table as LaTeX with booktabs, to \\input into a paper."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from analysis.tables.marks import NONE, footnotes, groups, legend, mark, sections
from analysis.tables.table import Cell, Column, Table

PREAMBLE: Final = ("booktabs", "amssymb", "graphicx")  # packages that a document needs

_WIDE: Final = 8  # columns from which on the type is smaller
# What is still too wide for the page shrinks until it fits.
_SHRINK: Final = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
_LONG: Final = 80  # signs of a section's head from which on it is broken into lines
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
    """Return a `table` environment: caption, label, tabular, and what marks and letters mean below.

    The document loads the packages of PREAMBLE, which the first line names.
    """
    letters = footnotes(table)
    rules = "".join({"left": "l", "right": "r", "center": "c"}[column.align] for column in table.columns)
    is_wide = len(table.columns) >= _WIDE
    lines = [
        "% " + "".join(rf"\usepackage{{{name}}} " for name in PREAMBLE).rstrip(),
        r"\begin{table}[tbp]",
        r"\centering",
        # Classes expect captions below.
        r"\setlength{\abovecaptionskip}{0pt}\setlength{\belowcaptionskip}{6pt}",
        rf"\caption{{{escape(table.title)}}}",
        rf"\label{{tab:{_label(table.name)}}}",
        *([r"\footnotesize", r"\setlength{\tabcolsep}{3pt}"] if is_wide else []),
        *([_SHRINK] if is_wide else []),
        rf"\begin{{tabular}}{{@{{}}{rules}@{{}}}}",
        r"\toprule",
        *_heads(table.columns),
    ]
    for section, rows in sections(table).items():
        lines.append(r"\midrule")
        if section is not None:
            kind = "l" if len(section) <= _LONG else r"p{0.95\linewidth}"
            lines.append(rf"\multicolumn{{{len(rules)}}}{{@{{}}{kind}}}{{\emph{{{escape(section)}}}}} \\")
        lines += [_line(_cell(cell, letters) for cell in cells) for cells in rows]
    lines += [r"\bottomrule", r"\end{tabular}" + ("}" if is_wide else "")]
    notes = [rf"\textsuperscript{{{letter}}}\,{escape(reason)}." for reason, letter in letters.items()]
    notes += [escape(note) for note in (*legend(table, "Bold"), *table.notes)]
    if notes:
        lines += ["", r"\smallskip", r"\parbox{\linewidth}{\footnotesize\raggedright", *notes, "}"]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


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


def _heads(columns: tuple[Column, ...]) -> Iterator[str]:
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
    yield _line(escape(column.name) for column in columns)


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
