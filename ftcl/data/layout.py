"""The directory layout of ACM-Net and FTCL: `gt.json`, lists of videos, and `.npy` features."""

from collections.abc import Mapping
from pathlib import Path

from ftcl.data.annotations import (
    Annotation,
    hold_out_validation,
    read_annotations,
    read_classes,
    read_splits,
    warn_of_late_segments,
)
from ftcl.data.cache import digest
from ftcl.data.feature_files import check_widths, locate, open_files
from ftcl.data.videos import SPLITS, DataError, Video, VideoDataset


def load_layout(
    folder: Path,
    *,
    spec: str,
    preset: str,
    classes: tuple[str, ...] | None,
    num_features: int | None,
    snippet_s: float,
    fold: int,
    seed: int,
    hold_out: bool,
    verify: bool,
    fingerprint: str | None,
) -> VideoDataset:
    """Open a folder of this layout; `classes` and `num_features` are what the preset demands, if it does.

    Without `split_validation.txt`, 20 % of the training videos are held out by `seed`, or with
    `hold_out=False` none, which leaves the validation split empty. With `verify` every
    feature file is checked and the fingerprint is computed; otherwise `fingerprint` is trusted and files are
    only opened. Raises DataError, which names the file or the video, for everything that is wrong.
    """
    if not folder.is_dir():
        raise DataError(f"the data folder {folder} does not exist; give the folder that holds gt.json")
    gt_path = folder / "gt.json"
    annotations = read_annotations(gt_path)
    splits = read_splits(folder, annotations)
    class_names = read_classes(gt_path, annotations, splits, classes)
    files = locate(folder, splits)
    opened = open_files(folder, (path for paths in files.values() for path in paths), verify=verify)
    width = check_widths(files, opened, num_features)
    splits = _with_validation(folder, annotations, splits, seed, hold_out=hold_out)
    class_id = {label: index for index, label in enumerate(class_names)}
    videos = {
        name: Video(
            name=name,
            split=split,
            duration_s=annotations[name].duration_s,
            num_snippets=min(opened[path].num_snippets for path in files[name]),
            segments=annotations[name].segments,
            labels=tuple(sorted(class_id[label] for label in annotations[name].label_names)),
        )
        for split, names in splits.items()
        for name in names
    }
    if verify:
        warn_of_late_segments(gt_path, annotations, videos)
        hashes = {name: [opened[path].sha256 for path in paths] for name, paths in files.items()}
        computed = _fingerprint(class_names, splits, videos, hashes, snippet_s, fold, seed)
        if fingerprint not in (None, computed):
            raise DataError(
                f"the data in {folder} have changed: their fingerprint is {computed}, "
                f"expected {fingerprint}; restore them or start anew"
            )
        fingerprint = computed
    assert fingerprint is not None
    return VideoDataset(
        spec=spec,
        preset=preset,
        classes=class_names,
        splits=splits,
        videos=videos,
        num_features=width,
        snippet_s=snippet_s,
        fingerprint=fingerprint,
        feature_files=files,
    )


def _with_validation(
    folder: Path,
    annotations: Mapping[str, Annotation],
    splits: Mapping[str, tuple[str, ...]],
    seed: int,
    *,
    hold_out: bool,
) -> dict[str, tuple[str, ...]]:
    if "validation" in splits:
        return {split: splits[split] for split in SPLITS}
    if not hold_out:
        return {"train": splits["train"], "validation": (), "test": splits["test"]}
    label_sets = {name: annotations[name].label_names for name in splits["train"]}
    validation = hold_out_validation(label_sets, seed)
    if not validation:
        raise DataError(
            f"no training video of {folder} can be held out for validation, each is the last of its class; "
            "add training videos or a split_validation.txt"
        )
    train = tuple(name for name in splits["train"] if name not in set(validation))
    return {"train": train, "validation": validation, "test": splits["test"]}


def _fingerprint(
    classes: tuple[str, ...],
    splits: Mapping[str, tuple[str, ...]],
    videos: Mapping[str, Video],
    hashes: Mapping[str, list[str]],
    snippet_s: float,
    fold: int,
    seed: int,
) -> str:
    return digest(
        {
            "classes": classes,
            "splits": splits,
            "videos": {
                name: [
                    video.duration_s,
                    [[segment.start_s, segment.end_s, segment.label] for segment in video.segments],
                    hashes[name],
                ]
                for name, video in videos.items()
            },
            "snippet_s": snippet_s,
            "fold": fold,
            "seed": seed,
        }
    )
