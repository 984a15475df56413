"""What TensorBoard shows beyond curves: timelines, alignments, and one HParams tab over all trials.

Written after the trials, from their records alone, into event files of its own beside the trials' curves;
TensorBoard's own writer is used and no torch. Written again, the files are replaced.

    python -m analysis.tensorboard OUT [--arms ARM,ARM,...]
"""

import argparse
import io
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pandas as pd
from rich.console import Console
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams import summary_v2 as hparams
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.summary.writer.record_writer import RecordWriter

from analysis.load import Study, load_study
from analysis.localization.alignment import TABLES
from analysis.localization.view import View, open_views, shown_arms
from analysis.plots.alignment import alignment_figures
from analysis.plots.style import to_png
from analysis.plots.timeline import timeline_figures
from analysis.report.provenance import made_from
from analysis.tables.table import NothingToShow
from study.records import Store, curves_folder

_ROOT: Final = "tensorboard"
_SUFFIX: Final = ".analysis"
_DPI: Final = 110
# What a trial's session tells beside its parameters (study.starts), as the columns of its record.
_TAGS: Final = ("phase", "stage", "arm", "proposal", "seed")
_SPLITS: Final = ("validation", "test")


class Written(NamedTuple):
    """What was written, and what it took."""

    trials: tuple[int, ...]  # with figures
    num_figures: int
    num_bytes: int
    seconds: float


def write_tensorboard(study: Study, arms: Sequence[str] | None = None) -> Written:
    """Write the HParams tab's columns, and figures of a trial of some arms: the report's two, unless told.

    All are on the first seed that has all these arms; without one, there are no figures. Raises OSError where
    the store cannot be written to.
    """
    started_s = time.perf_counter()
    num_figures = num_bytes = 0
    try:
        views = open_views(study, arms or shown_arms(study))
    except NothingToShow:
        views = ()
    for view in views:
        step = _chosen_epoch(study, view.trial)
        summaries = [(step, summary) for summary in _figures(study, view)]
        num_figures += len(summaries)
        num_bytes += _replace(study.store, curves_folder(view.trial), summaries)
    # Last of all: its name says that all is written, and from what.
    mark = _mark(study) if arms is None else ""
    num_bytes += _replace(study.store, _ROOT, [(0, _columns(study))], mark)
    seconds = time.perf_counter() - started_s
    return Written(tuple(view.trial for view in views), num_figures, num_bytes, seconds)


def show_tensorboard(out: str | Path, console: Console, arms: Sequence[str] | None = None) -> None:
    """Write what TensorBoard shows of the study in OUT, unless it is that of these very records, and say so.

    What cannot be written is a warning. Raises what `load_study` raises, ValueError for an arm that the study
    does not have.
    """
    study = load_study(out)
    unknown = [arm for arm in arms or () if arm not in study.arms]
    if unknown:
        raise ValueError(f"the study has no arm {unknown[0]}; it has {', '.join(study.arms)}")
    try:
        if arms is None and any(name.endswith(_mark(study) + _SUFFIX) for name in study.store.names(_ROOT)):
            return
        written = write_tensorboard(study, arms)
    except OSError as error:
        words, style = f"⚠ nothing could be written for TensorBoard ({error})", "yellow"
    else:
        of_trials = f" of trials {', '.join(map(str, written.trials))}" if written.trials else ""
        words, style = f"for TensorBoard: {written.num_figures} figures{of_trials}, settings and metrics", ""
        words += f" ({written.num_bytes / 1e6:.1f} MB in {written.seconds:.1f} s)"
    console.print(words, style=style, markup=False, highlight=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if OUT is a study, 2 if it cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.tensorboard",
        description="Write figures of timelines and alignments, and the columns of the HParams tab, beside "
        "the curves of a study, for tensorboard --logdir OUT.",
    )
    parser.add_argument("out", metavar="OUT", help="the folder or URI that the study wrote to")
    parser.add_argument(
        "--arms", metavar="LIST", help="arms to draw, separated by commas (default: the two of the report)"
    )
    options = parser.parse_args(arguments)
    try:
        show_tensorboard(options.out, Console(), options.arms and options.arms.split(","))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _columns(study: Study) -> Summary:
    """Describe the columns of the HParams tab: TensorBoard reads them at one place, and no trial has all."""
    trained = study.trials[study.trials["phase"] != "context"]
    values: dict[str, list[Any]] = {name: trained[name].dropna().tolist() for name in _TAGS}
    for settings in trained["settings"]:
        for name, value in json.loads(settings).items():
            values.setdefault(name, []).append(value)
    metrics = [f"{split}/{metric}" for metric in study.metrics for split in _SPLITS]
    experiment = api_pb2.Experiment(
        hparam_infos=[_column(name, found) for name, found in values.items() if found],
        metric_infos=[
            hparams.Metric(f"final/{name}", display_name=name).as_proto()
            for name in metrics
            if name in trained
        ],
    )
    content = HParamsPluginData(experiment=experiment)
    return Summary(
        value=[
            Summary.Value(
                tag=metadata.EXPERIMENT_TAG,
                metadata=metadata.create_summary_metadata(content),
                tensor=metadata.NULL_TENSOR,
            )
        ]
    )


def _column(name: str, values: list[Any]) -> api_pb2.HParamInfo:
    # What differs is shown first.
    info = api_pb2.HParamInfo(name=name, differs=len({str(value) for value in values}) > 1)
    _domain(values).update_hparam_info(info)
    return info


def _domain(values: list[Any]) -> hparams.Domain:
    if all(isinstance(value, bool) for value in values):
        return hparams.Discrete(values)
    if all(isinstance(value, int | float) for value in values):
        return hparams.RealInterval(float(min(values)), float(max(values)))
    return hparams.Discrete({str(value) for value in values})


def _figures(study: Study, view: View) -> Iterator[Summary]:
    for video in view.videos:
        (figure,) = timeline_figures(study, [view], video)
        yield _image(f"timeline/{video}", to_png(figure, dpi=_DPI))
    for pair in view.pairs:
        for kind in TABLES:
            (figure,) = alignment_figures(study, [view], pair, kind)
            yield _image(f"{kind} alignment/{pair[0]} and {pair[1]}", to_png(figure, dpi=_DPI))


def _image(tag: str, png: bytes) -> Summary:
    # Width and height stand at fixed places in a PNG's first chunk.
    width, height = (int.from_bytes(png[start : start + 4]) for start in (16, 20))
    image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=png)
    return Summary(value=[Summary.Value(tag=tag, image=image)])


def _chosen_epoch(study: Study, trial: int) -> int:
    (epoch,) = study.trials.loc[study.trials["trial"] == trial, "chosen_epoch"]
    return 0 if pd.isna(epoch) else int(epoch)


def _mark(study: Study) -> str:
    return f".{made_from(study)[:16]}"


def _replace(store: Store, folder: str, summaries: list[tuple[int, Summary]], mark: str = "") -> int:
    """Write an event file of a folder and delete those written before; return its size."""
    now_s = time.time()
    content = io.BytesIO()
    writer = RecordWriter(content)
    writer.write(Event(wall_time=now_s, file_version="brain.Event:2").SerializeToString())
    for step, summary in summaries:
        writer.write(Event(wall_time=now_s, step=step, summary=summary).SerializeToString())
    before = [name for name in store.names(folder) if name.endswith(_SUFFIX)]
    # TensorBoard reads a folder's files in the order of their names, and none again that it is past.
    name = f"events.out.tfevents.{int(now_s):010}{mark}{_SUFFIX}"
    store.write(f"{folder}/{name}", content.getvalue())
    for old in before:
        if old != name:
            store.delete(f"{folder}/{old}")
    return content.tell()


if __name__ == "__main__":
    sys.exit(main())
