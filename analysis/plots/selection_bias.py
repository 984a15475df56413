"""The best seed and the best epoch, chosen on other data or on the data that judge them."""

import pandas as pd
from matplotlib.figure import Figure

from analysis.ablation import arm_runs, final_values
from analysis.load import Study
from analysis.plots import style
from analysis.selection_bias import OTHER_SEEDS, selection_bias
from analysis.tables.table import NothingToShow

_MARKS = (
    # column, marker, its size, colour, filled
    ("no_choice", "|", 12, style.INK, True),
    ("different_data", "o", 6, style.GOOD, True),
    ("same_data", "D", 8, style.BAD, False),
)


def selection_bias_chart(study: Study) -> style.Chart:
    """Draw what choosing a seed or an epoch on the judging data adds; NothingToShow without a choice."""
    frame = selection_bias(study)
    panels = [part for name in ("seed", "epoch") if len(part := frame[frame["choice"] == name])]
    if not panels:
        raise NothingToShow("no arm has two seeds or two epochs to choose from")
    caption = style.sentences(
        f"{study.headline}, of the seed or epoch that is chosen.",
        *(_words(part) for part in panels),
        "The gap between circle and diamond is optimism: luck that the choice took for merit.",
        *(_limits(part) for part in panels),
    )
    return style.Chart(
        "selection_bias",
        "What choosing on the data that judge adds",
        caption,
        tuple(_panel(study, part) for part in panels),
    )


def _words(part: pd.DataFrame) -> str:
    first = part.iloc[0]
    if first["choice"] == "seed":
        return (
            f"Seeds: judged on {first['judged_on']}; dots are all seeds, the bar is their mean, the circle "
            f"the seed that is best on {first['chosen_on']}, the diamond the one that is best on "
            f"{first['judged_on']}."
        )
    return (
        f"Epochs: judged on {first['judged_on']}, means over seeds (n = {part['n'].min()}); the bar is the "
        f"last epoch, the circle the best on {first['chosen_on']}, the diamond each run's own best."
    )


def _limits(part: pd.DataFrame) -> str | None:
    """Say what the gap does not tell."""
    first = part.iloc[0]
    if first["choice"] == "seed":
        return (
            "Of seeds, the distance from the bar is luck too: another training gives the mean. Each is one "
            "choice (n = 1), without an interval."
        )
    if first["chosen_on"] == OTHER_SEEDS:
        return (
            "Of epochs chosen on the arm's other seeds, it leaves out what the videos of "
            f"{first['judged_on']} favour in all seeds."
        )
    return None


def _panel(study: Study, part: pd.DataFrame) -> Figure:
    is_seed = part.iloc[0]["choice"] == "seed"
    part = part.iloc[::-1]
    drawing, axes = style.figure(height=1.25 + 0.3 * len(part))
    with style.styled():
        for place, (_, row) in enumerate(part.iterrows()):
            if is_seed:
                runs = arm_runs(study, row["label"], study.main_seeds)
                values = final_values(runs, study.headline)
                axes.plot(values, [place] * len(values), ".", color=style.MUTED, markersize=4, alpha=0.7)
            axes.plot(
                row[["different_data", "same_data"]].astype(float),
                [place, place],
                color=style.MUTED,
                linewidth=1.2,
            )
        labels = (
            ("mean of all", f"best on {part.iloc[0]['chosen_on']}", f"best on {part.iloc[0]['judged_on']}")
            if is_seed
            else ("last", f"best on {part.iloc[0]['chosen_on']}", "own best")
        )
        for (column, marker, size, colour, filled), label in zip(_MARKS, labels, strict=True):
            axes.plot(
                part[column],
                range(len(part)),
                marker,
                color=colour,
                markerfacecolor=colour if filled else "none",
                markersize=size,
                markeredgewidth=1.6,
                label=label,
            )
        style.name_rows(axes, [style.wrapped(label) for label in part["label"]])
        axes.set_title("the best seed" if is_seed else "the best epoch")
        axes.set_xlabel(f"{study.headline} on {part.iloc[0]['judged_on']}")
        style.legend_below(drawing, axes, columns=2)
    return drawing
