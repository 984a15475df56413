"""What a study's numbers do not support, and why, in words for its reader."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from analysis._text import context_name, decimals, interval, signed
from analysis._words import count, join, plural
from analysis.ablation import arm_runs, context_arms, main_table, missing_runs
from analysis.conclusion import chosen, verdict
from analysis.load import Family, Study
from analysis.power import MOST_TOLD, POWER, least_seeds
from analysis.statistics import ALPHA, holm, smallest_p

OfStudy = Literal[
    "unfinished", "test selection", "same seeds", "extended", "missing seeds", "too few seeds", "gate"
]
OfComparisons = Literal[
    "disagreement",
    "interval across 0",
    "too little power",
    "identical values",
    "control as good",
    "uncorrected",
    "tuning",
    "context",
]
Kind = Literal[OfStudy, OfComparisons]


@dataclass(frozen=True)
class Caution:
    """One reason not to conclude, and the arms that it concerns; none: all."""

    kind: Kind
    words: str  # whole sentences
    arms: tuple[str, ...] = ()


def cautions(study: Study, table: pd.DataFrame) -> list[Caution]:
    """Return what stands between an ablation table and conclusions, the gravest first.

    `table` is `ablation_table(study)`; of a gate's two selections of seeds the main one is looked at.
    """
    table = main_table(study, table)
    found = [*_design(study), *_missing(study)]
    for family in study.families:
        rows = table[table["family"] == family.name]
        found += [*_too_few(family, rows), *_unclear(study, family, rows)]
    found += [*_controls(study, table), *_identical(study, table)]
    return [*found, *_uncorrected(study, table), *_limits(study, table)]


def _design(study: Study) -> Iterator[Caution]:
    if not study.finished:
        yield Caution(
            "unfinished",
            "The study is not finished, so its numbers will change. To stop it because of what they show now "
            "would make its p values and intervals too good.",
        )
    if study.protocol == "reference" and chosen(study):
        yield Caution(
            "test selection",
            f"{chosen(study).capitalize()} were chosen on the test videos (protocol: reference), so every "
            "trained row is better than it would be on unseen videos; compare with work that chose so too, "
            "and with no other.",
        )
    shared = shared_seeds(study)
    if shared:
        yield Caution(
            "same seeds",
            "The settings were chosen on runs of seeds that the ablation uses too "
            f"({', '.join(map(str, shared))}), so they may fit what is particular to these.",
        )
    lines = _extensions(study)
    if lines:
        yield Caution(
            "extended",
            f"The study was extended after runs of its ablation had ended ({'; '.join(lines)}). If what they "
            "showed was the reason, p values and intervals are too good.",
        )


def shared_seeds(study: Study) -> list[int]:
    """Return the seeds of the ablation that settings were chosen on too."""
    trials = study.trials
    chosen_on = trials.loc[trials["phase"].isin(["search", "confirm"]), "seed"]
    return sorted(set(chosen_on) & set(study.main_seeds))


def _extensions(study: Study) -> list[str]:
    runs = study.trials[(study.trials["phase"] == "ablation") & study.trials["arm"].notna()]
    ended = runs["ended_at"].min()
    return [
        line
        for launch in study.manifest["launches"][1:]
        if not pd.isna(ended) and pd.Timestamp(launch["at"]) > ended
        for line in launch["extension"]
    ]


def _missing(study: Study) -> Iterator[Caution]:
    seeds = study.main_seeds
    counts: dict[str, int] = {}
    for group in missing_runs(study, seeds):
        counts[group.arm] = counts.get(group.arm, 0) + len(group.seeds)
    # What has not come yet says nothing of how it will go.
    failed = any((arm_runs(study, arm, seeds)["status"] == "failed").any() for arm in counts)
    yield from _of_arms(
        "missing seeds",
        f"Of {len(seeds)} seeds so many have no result",
        {arm: str(number) for arm, number in counts.items()},
        "A comparison rests on the seeds that both of its arms have"
        + (
            "; runs seldom fail at random, and where they fail because they go badly, those that are left "
            "flatter the arm."
            if failed
            else "."
        ),
    )
    if len(seeds) < study.num_seeds:
        yield Caution(
            "missing seeds", f"Only {len(seeds)} of the {study.num_seeds} wanted seeds passed the gate."
        )


def _too_few(family: Family, rows: pd.DataFrame) -> Iterator[Caution]:
    """Name the arms that could not be told apart even by differences of one sign on all their seeds."""
    lowest = holm([smallest_p(n) for n in rows["n"]])
    size = len(family.arms)
    yield from _of_arms(
        "too few seeds",
        f"No Holm p below {ALPHA} on {family.metric} was possible with so few seeds, whatever the "
        "differences",
        {arm: f"({n})" for arm, n, p in zip(rows["arm"], rows["n"], lowest, strict=True) if not p < ALPHA},
        f"It becomes possible with {least_seeds(ALPHA / size)} seeds in "
        f"{f'each arm of the family of {size}' if size > 1 else 'the arm'}.",
    )


def _unclear(study: Study, family: Family, rows: pd.DataFrame) -> Iterator[Caution]:
    digits = decimals(rows["mean"])
    across: dict[str, str] = {}
    split: dict[str, str] = {}
    weak: dict[str, str] = {}
    for _, row in rows[rows["n"] > 1].iterrows():
        if verdict(row, study.metrics[family.metric]) != "unclear":
            continue
        arm = row["arm"]
        ends = interval(row["ci_low"], row["ci_high"], digits)
        includes_0 = row["ci_low"] <= 0 <= row["ci_high"]
        if includes_0:
            across[arm] = ends
        if includes_0 == (row["p_holm"] < ALPHA):
            split[arm] = f"{ends} with Holm p = {row['p_holm']:.2g}"
        needed = row["seeds_needed"]
        if pd.notna(row["effect"]) and (pd.isna(needed) or needed > row["n"]):
            many = pd.isna(needed) or needed > MOST_TOLD
            weak[arm] = f"{f'more than {MOST_TOLD}' if many else f'about {needed}'} (has {row['n']})"
    yield from _of_arms(
        "interval across 0",
        f"The 95 % interval of the difference from {family.against} on {family.metric} includes 0",
        across,
        "That shows neither a difference nor that there is none: any difference within the interval remains "
        "possible.",
    )
    yield from _of_arms(
        "disagreement", "Interval and corrected p disagree, which is taken for not shown", split
    )
    yield from _of_arms(
        "too little power",
        f"If the true effects were those observed, {100 * POWER:.0f} % power would take more seeds",
        weak,
        "An effect from so few seeds is itself uncertain, and so are these numbers.",
    )


def _controls(study: Study, table: pd.DataFrame) -> Iterator[Caution]:
    rows = table[(table["metric"] == study.headline) & table["arm"].isin(study.controls) & (table["n"] > 1)]
    digits = decimals(rows["mean"])
    for against in study.controls_against:
        found = {}
        for _, row in rows[rows["baseline"] == against].iterrows():
            kind = verdict(row, study.metrics[study.headline])
            if kind != "worse":
                better = ", which is better" if kind == "better" else ""
                found[row["arm"]] = f"({signed(row['diff'], digits)}{better})"
        yield from _of_arms(
            "control as good",
            f"On {study.headline} these controls are not shown to be worse than {against}",
            found,
            f"What they take away from {against} is not shown to matter.",
        )


def _identical(study: Study, table: pd.DataFrame) -> Iterator[Caution]:
    rows = table[(table["metric"] == study.headline) & (table["n"] > 1) & table["diff"].notna()]
    for _, row in rows[(rows["ci_low"] == 0) & (rows["ci_high"] == 0)].iterrows():
        yield Caution(
            "identical values",
            f"{row['arm']} and {row['baseline']} have the same {study.headline} on all {row['n']} seeds; see "
            "whether what sets them apart reaches the training.",
            (row["arm"], row["baseline"]),
        )


def _uncorrected(study: Study, table: pd.DataFrame) -> Iterator[Caution]:
    others = table[table["ci_low"].notna() & table["p"].isna()]
    if len(others):
        yield Caution(
            "uncorrected",
            f"{count(len(others), 'further interval')} of other arms, controls and metrics "
            f"{plural(len(others), 'stands', 'stand')} without a p and a correction: "
            "even without any effect about 1 in 20 of such intervals would exclude 0.",
        )
    if len(study.families) > 1:
        names = ", ".join(family.name for family in study.families)
        yield Caution(
            "uncorrected", f"p values are corrected within each family, not over the families {names}."
        )


def _limits(study: Study, table: pd.DataFrame) -> Iterator[Caution]:
    settings = study.manifest["space"]["arms"]
    tuned = [arm for arm in study.arms if not settings[arm]]
    if study.winner and 0 < len(tuned) < len(study.arms):
        yield Caution(
            "tuning",
            f"The search tuned the settings for {join(tuned)}; the other arms take them over and were not "
            f"tuned on their own, which favours {join(tuned)} where an arm would do better with others.",
            tuple(tuned),
        )
    if study.gate is not None and study.gated_seeds is None:
        yield Caution("gate", "The gate is not decided yet: these are the first seeds, passed or not.")
    elif study.gate is not None and study.gated_seeds is not None:
        failed = len(set(study.ungated_seeds) - set(study.gated_seeds))
        own = (
            " The gate looks at the arms' own results, so seeds on which an arm does badly are left out and "
            "that arm looks better than it is: read the first seeds beside them."
            if study.gate.of_all_arms
            else ""
        )
        yield Caution(
            "gate",
            f"Only seeds count {study.gate.clause}; {failed} of the first {len(study.ungated_seeds)} did "
            f"not. The results hold for models that pass, and not for a seed taken at random.{own}",
        )
    yield from _context(study, table)


def _context(study: Study, table: pd.DataFrame) -> Iterator[Caution]:
    rows = table[(table["metric"] == study.headline) & table["mean"].notna()]
    means = rows.drop_duplicates("arm").set_index("arm")["mean"]
    sign = 1 if study.metrics[study.headline] == "max" else -1
    for name in context_arms(study):
        below = [
            arm for arm in study.arms if arm in means and sign * means[arm] <= sign * means.get(name, np.nan)
        ]
        if below:
            yield Caution(
                "context",
                f"{context_name(name)} needs no training, and its mean {study.headline} is no worse than "
                f"that of {join(below)}.",
                tuple(below),
            )


def _of_arms(kind: Kind, lead: str, told: Mapping[str, str], rest: str = "") -> Iterator[Caution]:
    """Yield a caution of the arms that there is something to tell of, if there are any."""
    if told:
        arms = ", ".join(f"{arm} {words}" for arm, words in told.items())
        yield Caution(kind, f"{lead}: {arms}. {rest}".rstrip(), tuple(told))
