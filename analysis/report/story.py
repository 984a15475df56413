"""The story of a study in words: every sentence is made from its records, none stands without its numbers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis._text import context_name, decimals, interval, number, p_value, signed
from analysis._words import count, count_range, join, plural
from analysis.ablation import context_arms, main_table, missing_runs
from analysis.cautions import shared_seeds
from analysis.conclusion import chosen, verdict
from analysis.load import Family, Study


@dataclass(frozen=True)
class Story:
    """What the first screen says, and the paragraphs behind it."""

    question: str
    answer: str  # in a sentence or two, with effect, interval, p and n
    but: str  # what the controls say against it; may be empty
    paragraphs: tuple[str, ...]


def tell(study: Study, table: pd.DataFrame) -> Story:
    """Return the story of a study from its ablation table (analysis.ablation)."""
    main = main_table(study, table)
    paragraphs = (_asked(study), _searched(study), _context(study, main), _spent(study), _state(study))
    return Story(
        question=study.title,
        answer=" ".join(_answers(study, main)),
        but=" ".join(_controls(study, main)),
        paragraphs=tuple(text for text in paragraphs if text),
    )


def _answers(study: Study, main: pd.DataFrame) -> Iterator[str]:
    if not study.families:
        yield f"The study names no comparisons; its arms stand against {study.baseline} in the table below."
    for family in study.families:
        rows = main[(main["family"] == family.name) & (main["n"] >= 2)]
        if rows.empty:
            yield (
                f"No answer yet on {family.metric}: fewer than two seeds are complete both in an arm and "
                f"in {family.against}."
            )
            continue
        yield from _family_answers(study, family, rows)


def _family_answers(study: Study, family: Family, rows: pd.DataFrame) -> Iterator[str]:
    direction = study.metrics[family.metric]
    verdicts = {kind: [] for kind in ("better", "worse", "unclear")}  # type: dict[str, list[pd.Series]]
    for _, row in rows.iterrows():
        verdicts[verdict(row, direction)].append(row)
    digits = decimals(rows["mean"])
    passed = " that passed the gate" if study.gated_seeds is not None else ""
    over = f"over {count_range(rows['n'])} paired seeds{passed}"
    for kind in ("better", "worse"):
        if verdicts[kind]:
            strongest = sorted(verdicts[kind], key=lambda row: -abs(row["diff"]))
            effects = join([f"{row['arm']} ({_effect(row, digits)})" for row in strongest])
            yield (
                f"Test {family.metric} is {kind} than {family.against}’s with {effects}: mean difference and "
                f"its 95 % interval (of each comparison alone) {over}; "
                f"{_p_words([row['p_holm'] for row in strongest])}."
            )
    if verdicts["unclear"]:
        effects = join([f"{row['arm']} ({_effect(row, digits)})" for row in verdicts["unclear"]])
        p_values = [row["p_holm"] for row in verdicts["unclear"]]
        yield (
            f"No difference from {family.against} in {family.metric} is shown for {effects}, with the 95 % "
            f"interval of each comparison alone, {over}; "
            f"{_p_words(p_values)}."
        )


def _effect(row: pd.Series, digits: int) -> str:
    return f"{signed(row['diff'], digits)} {interval(row['ci_low'], row['ci_high'], digits)}"


def _p_words(values: Sequence[float]) -> str:
    low, high = p_value(min(values)), p_value(max(values))
    p = f"{low} to {high}" if low != high else f"{low} each" if len(values) > 1 else low
    return f"sign-flip p {'' if p.startswith('<') else '= '}{p} after Holm’s correction"


def _controls(study: Study, main: pd.DataFrame) -> Iterator[str]:
    headline = main[(main["metric"] == study.headline) & (main["n"] >= 2)]
    direction = study.metrics[study.headline]
    for against in study.controls_against:
        rows = headline[(headline["baseline"] == against) & headline["arm"].isin(study.controls)]
        if rows.empty:
            continue
        digits = decimals(rows["mean"])
        found: dict[str, list[str]] = {"better": [], "unclear": [], "worse": []}
        for _, row in rows.iterrows():
            found[verdict(row, direction)].append(row["arm"])
        effects = {row["arm"]: f"{row['arm']} ({_effect(row, digits)})" for _, row in rows.iterrows()}
        is_gain = _is_gain(study, main, against)
        words = {
            "better": "better still" if is_gain else "better",
            "unclear": "not shown to differ",
            "worse": "worse",
        }
        told = [
            f"{join([effects[arm] for arm in arms])} {plural(len(arms), 'is', 'are')} {words[kind]}"
            for kind, arms in found.items()
            if arms
        ]
        yield (
            f"Of the controls, measured against {against} in {study.headline} (95 % intervals, not "
            f"corrected, no test), {join(told)}."
        )
        as_good = found["better"] + found["unclear"]
        if is_gain and as_good:
            removed = plural(len(as_good), "removes", "remove")
            yield f"So the gain is not shown to come from what {join(as_good)} {removed}."


def _is_gain(study: Study, main: pd.DataFrame, arm: str) -> bool:
    tested = main[(main["arm"] == arm) & main["p_holm"].notna()]
    return any(verdict(row, study.metrics[row["metric"]]) == "better" for _, row in tested.iterrows())


def _asked(study: Study) -> str:
    questions = [f"{join(family.arms)} with {family.against}" for family in study.families]
    compares = f" It compares {join(questions)} on {_metrics(study)}" if questions else ""
    controls = f", and has {join(study.controls)} as controls" if questions and study.controls else ""
    was = "was" if study.finished else "is to be"
    return (
        f"The recipe {study.recipe} {was} trained on {study.data}, {count(len(study.arms), 'arm')} with "
        f"{count(study.num_seeds, 'seed')} each.{compares}{controls}{'.' if questions else ''} "
        "Arms share their seeds, so every difference is taken seed by seed: what a seed does to all arms "
        "alike cancels."
    )


def _metrics(study: Study) -> str:
    return join(list(dict.fromkeys(family.metric for family in study.families)))


def _searched(study: Study) -> str:
    search: Mapping[str, Any] = study.definition.get("search") or {}
    trials = study.trials[study.trials["phase"] == "search"]
    finetunes = trials[trials["proposal"].notna()]
    if not search:
        text = "Nothing was searched: every arm is laid over the recipe’s defaults. "
        return (text + _chosen(study)).strip() if study.definition else ""
    if finetunes.empty:
        return "The search of the settings has no trial yet."
    stopped = int((finetunes["status"] == "stopped").sum())
    text = (
        f"The settings come from a search over {count(len(search['parameters']), 'parameter')}: "
        f"{count(int(finetunes['proposal'].nunique()), 'proposal')} in {count(len(finetunes), 'trial')}"
    )
    text += f", {stopped} of which were stopped early. " if stopped else ". "
    confirmed = study.trials[(study.trials["phase"] == "confirm") & study.trials["proposal"].notna()]
    if len(confirmed):
        fresh = int(confirmed["seed"].nunique())
        seeds = len({*finetunes["seed"], *confirmed["seed"]})
        is_or_will_be = "is" if study.winner is not None else "will be"
        text += (
            f"The best {int(confirmed['proposal'].nunique())} were run again with "
            f"{count(fresh, 'fresh seed')}; the best mean over all {seeds} seeds {is_or_will_be} the winner. "
        )
    return (text + _chosen(study)).strip()


def _chosen(study: Study) -> str:
    what = chosen(study)
    if not what:
        return ""
    where = "test videos (protocol: reference)" if study.protocol == "reference" else "validation videos"
    # The cautions name the seeds that are not.
    others = study.winner is not None and not shared_seeds(study)
    return f"{what.capitalize()} were chosen on {where}" + (
        "; the ablation ran with other seeds." if others else "."
    )


def _context(study: Study, main: pd.DataFrame) -> str:
    rows = main[(main["metric"] == study.headline) & main["arm"].isin(context_arms(study)) & (main["n"] > 0)]
    if rows.empty:
        return ""
    digits = decimals(rows["mean"])
    worth = join([context_name(row["arm"], number(row["mean"], digits)) for _, row in rows.iterrows()])
    return f"For scale, detections without any learning reach a test {study.headline} of {worth}."


def _spent(study: Study) -> str:
    trials = study.trials[study.trials["phase"] != "context"]
    cpu_h, gpu_h = trials["cpu_s"].sum() / 3600, trials["gpu_s"].sum() / 3600
    if not cpu_h > 0:
        return ""
    gpu = f" and {hours(gpu_h)} of GPU" if gpu_h > 0 else ""
    return f"All {len(trials)} trials took {hours(cpu_h)} of CPU{gpu} time."


def _state(study: Study) -> str:
    seeds = study.main_seeds
    missing = sum(len(group.seeds) for group in missing_runs(study, seeds))
    if missing:
        wanted = len(study.arms) * len(seeds)
        yet = "" if study.finished else " yet"
        return f"{missing} of the {wanted} runs of the ablation have no result{yet}; nothing is filled in."
    return ""


def hours(value: float) -> str:
    """Return a time span in the unit that suits it."""
    if value < 1 / 60:
        return f"{value * 3600:.0f} seconds"
    return (
        f"{value * 60:.0f} minutes"
        if value < 2
        else f"{value:.1f} hours"
        if value < 100
        else f"{value:.0f} hours"
    )
