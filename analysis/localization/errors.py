"""The errors of a study's arms: each trial of the ablation analysed, and the table of their means."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import pandas as pd

from analysis._text import number
from analysis._words import count
from analysis.ablation import final_values
from analysis.load import Study
from analysis.localization.detad import ALPHA, KINDS, MIN_TIOU, TrialErrors, analyse
from analysis.localization.evaluation import as_detections, require_same, scored_on
from analysis.tables.combine import side_by_side
from analysis.tables.table import Cell, Column, NothingToShow, Row, Table
from study.records import RecordsError

_TOLD: Final = 3  # seeds of which it is said why they are missing


class StudyErrors(NamedTuple):
    """The errors of all trials of some arms, as long tables with arm, seed and trial in front."""

    shares: pd.DataFrame  # band, kind, count
    gains: pd.DataFrame  # kind, gain
    buckets: pd.DataFrame  # characteristic, bucket, segments, map_n, missed
    totals: pd.DataFrame  # num_segments, mean_ap, map_n, missed
    missing: dict[str, str]  # arm -> why it rests on fewer seeds than were wanted


def read_errors(study: Study, arms: Sequence[str] | None = None) -> StudyErrors:
    """Analyse every finished trial of some arms, or of all, on the main selection of seeds.

    Raises NothingToShow if there is none, or if the study's headline is no mean average precision.
    """
    arms = study.arms if arms is None else arms
    trials = _trials(study)
    ground_truth, thresholds = scored_on(study)
    found: dict[tuple[str, int, int], TrialErrors] = {}
    missing = {}
    for arm in arms:
        lacking = []
        for seed in study.main_seeds:
            try:
                trial, recorded = trials[arm, seed]
                detections = as_detections(study.predictions(trial), ground_truth)
                errors = analyse(ground_truth, detections, thresholds)
                require_same(study, trial, errors.mean_ap, recorded)
            except KeyError:
                lacking.append(f"seed {seed} is not finished")
            except RecordsError as error:
                lacking.append(f"seed {seed}: {error}")
            else:
                found[arm, seed, trial] = errors
        if lacking:
            others = f"; and {count(len(lacking) - _TOLD, 'more seed')}" if len(lacking) > _TOLD else ""
            missing[arm] = "; ".join(lacking[:_TOLD]) + others
    if not found:
        first = next((f" (first: {arm}, {reason})" for arm, reason in missing.items()), "")
        raise NothingToShow(f"no trial of the ablation has left detections that fit its record{first}")
    totals = [
        (*place, len(ground_truth.video), errors.mean_ap, errors.map_n, errors.missed)
        for place, errors in found.items()
    ]
    return StudyErrors(
        shares=_join({place: errors.shares for place, errors in found.items()}),
        gains=_join({place: errors.gains for place, errors in found.items()}),
        buckets=_join({place: errors.buckets for place, errors in found.items()}),
        totals=pd.DataFrame(
            totals, columns=["arm", "seed", "trial", "num_segments", "mean_ap", "map_n", "missed"]
        ),
        missing=missing,
    )


def errors_table(*studies: Study) -> Table:
    """Return which errors the arms make: shares among the surest detections, and what each kind costs.

    Several studies stand side by side. Raises NothingToShow if no trial of any has left detections.
    """
    return side_by_side(studies, _table)


def _table(study: Study) -> Table:
    errors = read_errors(study)
    kinds = [Column(kind, f"of the surest detections (%), tIoU {ALPHA:g}") for kind in KINDS]
    gains = [Column(kind, f"{study.headline} gained without") for kind in KINDS[1:]]
    columns = (Column("arm", align="left"), Column("seeds"), *kinds, *gains, Column("not found (%)"))
    shares = errors.shares[errors.shares["band"] == 1]
    rows = []
    for arm in study.arms:
        totals = errors.totals[errors.totals["arm"] == arm]
        trials, reason = tuple(totals["trial"]), errors.missing.get(arm)
        if not trials:
            rows.append(Row((Cell(arm), *[Cell("", missing=reason)] * (len(columns) - 1))))
            continue
        # Each seed counts the same, however many detections it has.
        counts = shares[shares["arm"] == arm].pivot(index="seed", columns="kind", values="count")
        percent = 100 * counts.div(counts.sum(axis=1), axis=0).mean()
        gain = errors.gains[errors.gains["arm"] == arm].groupby("kind")["gain"].mean()
        values = [*(percent[kind] for kind in KINDS), *(gain[kind] for kind in KINDS[1:])]
        values.append(totals["missed"].mean())
        seeds = Cell(str(len(trials)), float(len(trials)), trials, missing=reason)
        cells = (Cell(number(value, 1), float(value), trials) for value in values)
        rows.append(Row((Cell(arm), seeds, *cells)))
    return Table(
        name="errors",
        title=f"Errors of the detections on the test videos, mean over seeds: {study.name} on {study.data}",
        columns=columns,
        rows=tuple(rows),
        long=pd.concat(_long(errors), ignore_index=True),
        notes=_notes(study, errors),
    )


def _trials(study: Study) -> dict[tuple[str, int], tuple[int, float]]:
    """Return number and recorded headline of the finished trials."""
    done = study.trials[(study.trials["phase"] == "ablation") & (study.trials["status"] == "complete")]
    columns = (done[name].tolist() for name in ("arm", "seed", "trial"))
    recorded = final_values(done, study.headline).tolist()
    return {(arm, seed): (trial, value) for arm, seed, trial, value in zip(*columns, recorded, strict=True)}


def _join(parts: Mapping[tuple[str, int, int], pd.DataFrame]) -> pd.DataFrame:
    joined = pd.concat(parts, names=["arm", "seed", "trial"])
    return joined.reset_index(["arm", "seed", "trial"]).reset_index(drop=True)


def _long(errors: StudyErrors) -> Iterator[pd.DataFrame]:
    """Yield facts as arm, seed, trial, measure, part, value."""
    index = ["arm", "seed", "trial"]
    shares = errors.shares.assign(
        measure="detections in band " + errors.shares["band"].astype(str), part=errors.shares["kind"]
    )
    yield shares.rename(columns={"count": "value"})[[*index, "measure", "part", "value"]]
    gains = errors.gains.assign(measure="mAP gained without", part=errors.gains["kind"])
    yield gains.rename(columns={"gain": "value"})[[*index, "measure", "part", "value"]]
    of_bucket = errors.buckets["characteristic"] + " " + errors.buckets["bucket"]
    for name, measure in (("segments", "segments"), ("map_n", "mAP_N"), ("missed", "not found (%)")):
        facts = errors.buckets.assign(measure=measure, part=of_bucket, value=errors.buckets[name])
        yield facts[[*index, "measure", "part", "value"]]
    for name, measure in (("mean_ap", "mAP"), ("map_n", "mAP_N"), ("missed", "not found (%)")):
        facts = errors.totals.assign(measure=measure, part="all", value=errors.totals[name])
        yield facts[[*index, "measure", "part", "value"]]


def _notes(study: Study, errors: StudyErrors) -> tuple[str, ...]:
    unpaired = (
        "Not paired: each mean is over the seeds of its arm, so an arm that lacks some does not compare."
    )
    return (
        *((unpaired,) if errors.missing else ()),
        f"The surest detections: of each class as many as it has annotated segments "
        f"({errors.totals['num_segments'].iloc[0]} in all). Localisation and confusion overlap a segment "
        f"by tIoU {MIN_TIOU:g} to {ALPHA:g}, of their own class and of another; background by less.",
        f"Gained: {study.headline} once all errors of one kind are taken out, at each tIoU those of that "
        "tIoU; the gains of several kinds do not add up.",
        f"Not found: annotated segments that no detection, however unsure, finds at tIoU {ALPHA:g}.",
        "Kinds of error as in Alwassel et al., Diagnosing Error in Temporal Action Detectors, ECCV 2018; "
        "gains are told on this study's metric and not on their normalised one.",
    )
