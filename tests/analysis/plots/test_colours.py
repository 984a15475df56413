"""Colours that stand side by side are told apart by all eyes, on the light page and on the dark one."""

import re
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

from analysis.plots import style
from analysis.plots.errors import _COLOURS
from analysis.report import page

# Machado, Oliveira and Fernandes, A physiologically-based model for simulation of color vision deficiency
# (2009, doi.org/10.1109/TVCG.2009.113), severity 1, on linear RGB.
EYES = {
    "all cones": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = TO_XYZ @ np.ones(3)
# CIE 1976. A mark of a third of a degree has to differ by about 7 in lightness, or 14 from blue to yellow, to
# look different to half of the readers (Stone, Szafir and Setlur, An engineering model for color difference
# as a function of size, CIC 2014). Half as much again, for neighbours.
BOUND = 22.0
BOUND_OF_ALL = 20.0
CONTRAST = 3.0  # WCAG 2.1, 1.4.11: of graphics to their ground


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(colour: str, eyes: str) -> np.ndarray:
    """Return CIE L*a*b* (D65) of a colour as some eyes see it."""
    share = TO_XYZ @ np.clip(EYES[eyes] @ linear(colour), 0, 1) / WHITE
    x, y, z = np.where(share > (6 / 29) ** 3, np.cbrt(share), share * 841 / 108 + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def difference(first: str, second: str) -> float:
    """Return the least difference of two colours over all eyes."""
    return min(float(np.linalg.norm(lab(first, eyes) - lab(second, eyes))) for eyes in EYES)


def contrast(first: str, second: str) -> float:
    dark, light = sorted(float(TO_XYZ[1] @ linear(colour)) for colour in (first, second))
    return (light + 0.05) / (dark + 0.05)


@pytest.fixture(params=["light", "dark"])
def shown(request: pytest.FixtureRequest) -> dict[str, str]:
    """Return every colour of the pictures, and what it is on one of the pages."""
    css = Path(page.__file__).with_name("style.css").read_text()
    of_page = {}
    for colour, name in style.VARIABLES.items():
        pair = re.search(rf"{name}: light-dark\((#\w{{6}}), (#\w{{6}})\);", css)
        assert pair is not None
        of_page[colour] = pair[1 if request.param == "light" else 2]
    return of_page


def test_the_simulation_knows_which_colours_are_confused() -> None:
    assert difference("#d55e00", "#b98500") < 5  # unlike to all cones
    assert np.linalg.norm(lab("#d55e00", "all cones") - lab("#b98500", "all cones")) > 30
    assert difference("#000000", "#ffffff") == pytest.approx(100, abs=0.1)
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


def test_series_differ_for_all_eyes(shown: dict[str, str]) -> None:
    series = [shown[colour] for colour in style.SERIES]
    neighbours = zip(series, [*series[1:], series[0]], strict=True)
    assert min(difference(*pair) for pair in neighbours) > BOUND
    assert min(difference(*pair) for pair in combinations(series, 2)) > BOUND_OF_ALL


def test_the_two_arms_of_a_picture_differ_in_more_than_colour(shown: dict[str, str]) -> None:
    first, second = style.PAIR
    assert difference(shown[first[0]], shown[second[0]]) > 2 * BOUND
    assert all(one != other for one, other in zip(first, second, strict=True))


def test_stacked_kinds_of_error_differ_from_what_they_touch(shown: dict[str, str]) -> None:
    stack = [shown[colour] for colour in _COLOURS.values()]
    assert min(difference(*pair) for pair in pairwise(stack)) > BOUND


def test_marks_have_contrast_to_the_page(shown: dict[str, str]) -> None:
    marks = (*style.SERIES, style.GOOD, style.BAD, style.WINNER, style.INK, style.MUTED)
    assert min(contrast(shown[mark], shown[style.PAPER]) for mark in marks) >= CONTRAST
