"""How much each searched parameter matters, with what resampling and chance make of it."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from analysis._words import count
from analysis.load import Study
from analysis.plots import style
from analysis.search.importance import EVALUATORS, MAX_SAMPLE, NUM_RESAMPLES, importances
from analysis.search.proposals import SearchRecords, search_of


def importance_chart(study: Study) -> style.Chart:
    """Draw the importances of every evaluator; raises NothingToShow if the search is too small."""
    search = search_of(study)
    final = importances(search)
    order = final[final["evaluator"] == EVALUATORS[0]].sort_values("importance")["parameter"].tolist()
    figures = [
        _panel(search, final[final["evaluator"] == evaluator], order, evaluator) for evaluator in EVALUATORS
    ]
    n, proposals = int(final["n"].iloc[0]), len(search.proposals)
    rule, early = search.early_stopping, None
    if rule is not None and search.num_stopped:
        rung = min(rule.rungs)
        early = importances(search, search.values_at(rung), evaluators=EVALUATORS[:1])
        figures.append(_panel(search, early, order, f"{EVALUATORS[0]}, after epoch {rung}"))
    conditional = [parameter.label for parameter in search.parameters if parameter.conditional]
    caption = style.sentences(
        f"Share of each parameter in what decides {search.objective.label}; shares sum to 100 % whether "
        "parameters matter or not.",
        f"From {style.count(n)} of {style.count(proposals)} proposals, each its mean over "
        f"{count(len(search.seeds), 'search seed')}.",
        f"Bars hold 90 % of {NUM_RESAMPLES} resamples of the proposals"
        f"{f', {MAX_SAMPLE} at a time' if n > MAX_SAMPLE else ''}.",
        "Shaded: what chance gives, up to 95 % of the shares with shuffled values.",
        None
        if early is None
        else f"Of the others, {style.count(search.num_stopped)} stopped early as weak, "
        "so what makes a proposal weak counts too little; the last panel has all that reached the first rung "
        f"(n = {style.count(int(early['n'].iloc[0]))}), by their preliminary value there.",
        f"Left out, as only some proposals have them: {', '.join(conditional)}." if conditional else None,
    )
    return style.Chart("importance", "Importance of the parameters", caption, tuple(figures))


def _panel(search: SearchRecords, table: pd.DataFrame, order: list[str], title: str) -> Figure:
    labels = {parameter.name: parameter.label for parameter in search.parameters}
    table = table.set_index("parameter").loc[order]
    drawing, axes = style.figure(height=0.75 + 0.24 * len(order))
    with style.styled():
        chance = float(table["chance"].iloc[0])
        axes.axvspan(0, chance, color=style.GRID, alpha=0.35, linewidth=0)
        axes.axvline(chance, color=style.MUTED, linewidth=1, linestyle=(0, (3, 2)))
        for place, (_, row) in enumerate(table.iterrows()):
            colour = style.SERIES[0] if row["importance"] > chance else style.MUTED
            axes.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=2.4, alpha=0.45)
            axes.plot(row["importance"], place, "o", color=colour, markersize=6)
        style.name_rows(axes, [labels[name] for name in order])
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_title(f"{title} (n = {table['n'].iloc[0]})")
    return drawing
