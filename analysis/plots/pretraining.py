"""The pretrained models: how far seeds spread, what the gate keeps, and what comes of them."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.load import Study
from analysis.plots import style
from analysis.search.pretraining import pretrained
from analysis.plots.ablation import seed_values


def pretraining_chart(study: Study) -> style.Chart:
    """Draw the pretrained models of all seeds; raises NothingToShow if none is complete."""
    models = pretrained(study)
    figures = [_spread(study, models)]
    after = _after(study, models)
    figures += [after] if after is not None else []
    values = models["value"]
    spread = f", mean {values.mean():.1f} ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
    gate = ""
    if study.gate is not None:
        passed = int(models["passed"].sum())
        gate = f" Line: the gate, {study.gate.at_least:g}; {passed} of {len(models)} pass, the others are crosses."
    second = (
        ""
        if after is None
        else (
            " Below: what came of each ablation seed, on test videos; validation and test are different videos, so "
            "the axes differ in level."
        )
    )
    caption = (
        f"{models.attrs['metric']} on validation of each pretrained model (n = {len(models)}{spread}), by the "
        f"phase whose seeds they are.{gate}{second}"
    )
    return style.Chart("pretraining", "Pretrained models", caption, tuple(figures))


def _spread(study: Study, models: pd.DataFrame) -> Figure:
    phases = list(dict.fromkeys(models["phase"]))
    drawing, axes = style.figure(height=0.9 + 0.42 * len(phases))
    with style.styled():
        for place, phase in enumerate(reversed(phases)):
            rows = models[models["phase"] == phase]
            offsets = np.linspace(-0.2, 0.2, len(rows)) if len(rows) > 1 else np.zeros(1)
            for passed, marker in ((True, "o"), (False, "x")):
                of = (rows["passed"] == passed).to_numpy()
                axes.plot(
                    rows["value"][of],
                    offsets[of] + place,
                    marker,
                    color=style.SERIES[0] if passed else style.BAD,
                    markersize=5.5,
                    alpha=0.8,
                    markeredgewidth=0 if passed else 1.6,
                )
            axes.plot(
                [rows["value"].mean()] * 2, [place - 0.32, place + 0.32], color=style.INK, linewidth=1.6
            )
        if study.gate is not None:
            axes.axvline(study.gate.at_least, color=style.BAD, linewidth=1.3, linestyle="--")
        axes.set_yticks(
            range(len(phases)),
            [f"{phase} (n = {(models['phase'] == phase).sum()})" for phase in reversed(phases)],
        )
        axes.set_ylim(-0.6, len(phases) - 0.4)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"{models.attrs['metric']} on validation")
    return drawing


def _after(study: Study, models: pd.DataFrame) -> Figure | None:
    values = seed_values(study)
    value = models[models["phase"] == "ablation"].set_index("seed")["value"]
    arms = [study.baseline, *dict.fromkeys(arm for family in study.families for arm in family.arms)]
    shown = [arm for arm in arms if arm in values and values[arm].notna().sum() > 1]
    shared = value.index.intersection(values.index)
    if not shown or len(shared) < 2:
        return None
    drawing, axes = style.figure(height=2.9)
    with style.styled():
        for arm in shown:
            axes.plot(
                value[shared],
                values.loc[shared, arm],
                "o",
                color=style.colour_of(study.arms, arm),
                label=arm,
                markersize=5,
                alpha=0.85,
            )
        axes.set_xlabel(f"pretrained, {models.attrs['metric']} on validation")
        axes.set_ylabel(f"{study.headline} on test")
        style.legend_below(drawing, axes, columns=4)
    return drawing
