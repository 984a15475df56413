"""Metrics as columns: which of a study's belong into a paper's table, and what heads them."""

import re
from typing import Final, NamedTuple

from analysis.load import Study
from analysis.tables.table import Column

_NAME: Final = re.compile(r"(?P<kind>[^@]+)@(?P<low>\d*\.?\d+)(:(?P<high>\d*\.?\d+))?")


class Span(NamedTuple):
    """What `mAP@0.5` or `mAP@0.1:0.7` says: a tIoU, or a range of them that is averaged over."""

    kind: str
    low: float
    high: float
    text: str

    @property
    def is_average(self) -> bool:
        return self.high > self.low


def span(metric: str) -> Span | None:
    """Return the tIoU of a metric; None if its name states none."""
    match = _NAME.fullmatch(metric)
    if match is None:
        return None
    low = float(match["low"])
    return Span(match["kind"], low, float(match["high"] or low), metric.partition("@")[2])


def paper_metrics(study: Study, *, averages_only: bool = False) -> list[str]:
    """Return the metrics within the headline's range of tIoU, single ones first, then averages.

    All metrics, if the headline is no average. `averages_only`: without the single ones.
    """
    headline = span(study.headline)
    if headline is None or not headline.is_average:
        return [study.headline] if averages_only else list(study.metrics)
    within = []
    for metric in study.metrics:
        own = span(metric)
        if own and own.kind == headline.kind and headline.low <= own.low and own.high <= headline.high:
            within.append((own.is_average, metric))
    averages = [metric for is_average, metric in within if is_average]
    return averages if averages_only else [m for is_average, m in within if not is_average] + averages


def metric_column(metric: str) -> Column:
    """Return the column of a metric; neighbours of one kind share a head."""
    own = span(metric)
    if own is None:
        return Column(metric)
    return Column(own.text, group=f"average {own.kind}@tIoU" if own.is_average else f"{own.kind}@tIoU")
