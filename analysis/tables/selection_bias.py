"""What choosing adds, as a table: each choice judged on other data beside itself judged on its own."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd

from analysis._text import NONE, decimals, number, signed
from analysis.load import Study
from analysis.selection_bias import OTHER_SEEDS, Choice, selection_bias
from analysis.tables.combine import side_by_side
from analysis.tables.table import Cell, Column, Row, Table

_HEADS: Final[dict[Choice, str]] = {
    "seed": "the best of an arm's seeds, judged on {judged_on}; different data: chosen on {chosen_on}",
    "epoch": "the best of a run's epochs, judged on {judged_on}; different data: chosen on {chosen_on}",
    "proposal": "the best of the confirmed proposals, judged on {judged_on}; different data: chosen on "
    "{chosen_on}",
    "lead": "lead of the search's best over the other confirmed proposals, on {judged_on}; same data: on "
    "{chosen_on}",
    "gain": "gain over {baseline}, on {judged_on} and, for comparison, on {chosen_on} (same data)",
}
_HEAD_OF_OTHER_SEEDS: Final = (
    "the best of a run's epochs, judged on {judged_on}; in place of different data: chosen on {chosen_on}, "
    "on the same videos"
)


def selection_bias_table(*studies: Study) -> Table:
    """Return `selection_bias` to read; raises what that raises."""
    return side_by_side(studies, _table)


def _table(study: Study) -> Table:
    long = selection_bias(study)
    digits = decimals(pd.concat([long["no_choice"], long["same_data"]]).dropna())
    rows = []
    for _, row in long.iterrows():
        head = _HEAD_OF_OTHER_SEEDS if row["chosen_on"] == OTHER_SEEDS else _HEADS[row["choice"]]
        section = head.format(**row, baseline=study.baseline)
        is_difference = row["choice"] in ("lead", "gain")
        numbers = [
            _cell(row, name, digits, is_difference)
            for name in ("no_choice", "different_data", "same_data", "optimism")
        ]
        among = NONE if row["choice"] == "gain" else str(row["candidates"])
        rows.append(Row((Cell(row["label"]), Cell(among), *numbers), section=section))
    return Table(
        name="selection_bias",
        title=f"What choosing on the data that judge adds: {study.headline} on {study.data}",
        columns=(
            Column("choice", align="left"),
            Column("among"),
            Column("no choice"),
            Column("different data", "chosen and judged on"),
            Column("the same data", "chosen and judged on"),
            Column("optimism"),
        ),
        rows=tuple(rows),
        long=long.drop(columns="trials"),
        notes=tuple(_notes(long, digits)),
    )


def _cell(row: pd.Series, name: str, digits: int, is_difference: bool) -> Cell:
    value = row[name]
    if np.isfinite(value):
        text = signed(value, digits) if is_difference or name == "optimism" else number(value, digits)
        return Cell(text, float(value), row["trials"])
    if name == "no_choice":
        return Cell(NONE)
    if row["choice"] == "gain":
        return Cell("", missing="other videos too, so not a measure of choosing")
    return Cell("", missing=f"the records have no value on {row['chosen_on']} to choose by")


def _notes(long: pd.DataFrame, digits: int) -> Iterator[str]:
    yield (
        "Optimism: how much better the choice looks on the data that chose it than on other data. No choice: "
        "the mean of all candidates or, of epochs, the last one."
    )
    seeds = long[long["choice"] == "seed"]
    if len(seeds):
        flattered = (seeds["same_data"] - seeds["no_choice"]).abs().to_numpy()
        worst = seeds.iloc[int(flattered.argmax())]
        yield (
            f"To report the best of the {worst['candidates']} seeds on test instead of their mean would "
            f"flatter {worst['label']} by {abs(worst['same_data'] - worst['no_choice']):.{digits}f}. The "
            "ablation table has means over all seeds. Optimism 0 of a seed only says that the same seed is "
            "best on both: its distance from the mean is luck too, and another training gives the mean. Each "
            "arm is one choice (n = 1), without an interval."
        )
    if (long["choice"] == "lead").any():
        yield (
            "A lead that shrinks on fresh seeds is the winner's curse: the best of many noisy values is "
            "partly luck. What the settings are worth is seen on the seeds and test videos of the ablation."
        )
    if ((long["choice"] == "epoch") & (long["chosen_on"] == OTHER_SEEDS)).any():
        yield (
            "Only one split is scored at every epoch: chosen on the arm's other seeds, but judged on the "
            "same videos. This shows luck of the seed alone; what these videos favour in all seeds is not in "
            "it (other videos may cost more), while seeds that truly differ in their best epoch add to it."
        )
    if (long["choice"] == "gain").any():
        yield (
            "Gains on validation and on test are on different videos, so that their difference is no measure "
            "of choosing."
        )
