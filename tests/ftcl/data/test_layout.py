import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ftcl.data import DataError, Segment, cache_root, load_dataset
from tests.ftcl.data.folder import Layout


def test_a_folder_of_the_acm_layout(layout: Layout) -> None:
    data = load_dataset(layout.write())
    assert data.preset == "acm" and data.spec == f"acm:{layout.folder}"
    assert data.classes == ("jump", "run")
    assert (data.num_features, data.snippet_s) == (3, 0.64)
    assert data.splits["test"] == ("t0", "t1")
    assert sorted(data.splits["train"] + data.splits["validation"]) == sorted(layout.splits["train"])
    assert data.videos["t0"].labels == (0, 1)
    assert data.videos["t0"].segments == (Segment(0.0, 0.5, "run"), Segment(1.0, 1.5, "jump"))
    assert (data.videos["t1"].split, data.videos["t1"].num_snippets) == ("test", 7)
    assert [video.name for video in data.ground_truth("test")] == ["t0", "t1"]
    with pytest.raises(ValueError, match="train, validation, test"):
        data.ground_truth("val")


def test_features_are_mapped_and_read_only(layout: Layout) -> None:
    data = load_dataset(layout.write())
    x_TD = data.features("t1")
    assert x_TD.shape == (7, 3) and x_TD.dtype == np.float32
    assert np.array_equal(x_TD, np.load(layout.folder / "test" / "t1.npy"))
    assert isinstance(x_TD.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        x_TD[0] = 0


def test_other_float_types_become_float32(layout: Layout) -> None:
    layout.save("test/t0", np.ones((4, 3), dtype=np.float64))
    x_TD = load_dataset(layout.write()).features("t0")
    assert x_TD.dtype == np.float32 and not x_TD.flags.writeable


def test_rgb_and_flow_folders(layout: Layout) -> None:
    spec = layout.write()
    rgb_first = {}
    for split in ("train", "test"):
        for name in layout.splits[split]:
            rgb = np.load(layout.folder / split / f"{name}.npy")
            layout.save(f"features/{split}/rgb/{name}", rgb)
            layout.save(f"features/{split}/flow/{name}", -rgb[:-1])
            rgb_first[name] = np.concatenate([rgb[:-1], -rgb[:-1]], axis=1)
        shutil.rmtree(layout.folder / split)
    data = load_dataset(spec)
    assert data.num_features == 6
    assert data.videos["t1"].num_snippets == 6
    assert np.array_equal(data.features("t1"), rgb_first["t1"])
    assert not data.features("t1").flags.writeable
    layout.save("features/test/flow/t1", np.ones((5, 3), dtype=np.float32))
    with pytest.raises(DataError, match=r"t1 has 7 RGB snippets .* 5 flow"):
        load_dataset(spec)


def test_meta_json_tells_the_length_of_a_snippet(layout: Layout) -> None:
    spec, meta = layout.write(), layout.folder / "meta.json"
    without = load_dataset(spec)
    meta.write_text('{"snippet_s": 0.32, "people": [1, 2]}')
    data = load_dataset(spec)
    assert data.snippet_s == 0.32
    assert data.fingerprint != without.fingerprint
    meta.write_text('{"people": [1, 2]}')
    assert load_dataset(spec) == without


@pytest.mark.situation(
    "input",
    "meta.json of the data is damaged or makes no sense",
    "nothing starts; the file is named with what it must hold",
)
@pytest.mark.parametrize(
    "content",
    ["{", "[]", *(f'{{"snippet_s": {value}}}' for value in ("0", "-1", "NaN", "1e999", "true", '"1"'))],
)
def test_a_wrong_meta_json_is_named(layout: Layout, content: str) -> None:
    spec = layout.write()
    (layout.folder / "meta.json").write_text(content)
    with pytest.raises(DataError, match=r"meta\.json"):
        load_dataset(spec)


def test_the_video_whose_width_differs_from_the_others_is_named(layout: Layout) -> None:
    layout.save("train/r0", np.ones((5, 4), dtype=np.float32))  # the first of all
    with pytest.raises(DataError, match="video r0 has 4 channels, not 3"):
        load_dataset(layout.write())


@pytest.mark.situation(
    "storage",
    "the cached list of verified feature files is damaged",
    "the data are verified again, and the list is made anew",
)
@pytest.mark.parametrize(
    "damage",
    [
        "[]",
        "null",
        "{}",
        '{"version": 1}',
        '{"version": 1, "files": []}',
        '{"version": 1, "files": {"PATH": 3}}',
        '{"version": 1, "files": {"PATH": [1, 2]}}',
        '{"version": 1, "files": {"PATH": [SIZE, MTIME, "x", 3, "hash"]}}',
    ],
)
def test_a_damaged_list_of_verified_files_is_made_anew(layout: Layout, damage: str) -> None:
    spec = layout.write()
    data = load_dataset(spec)
    (memory,) = (cache_root() / "verified").iterdir()
    whole = memory.read_bytes()
    path = layout.folder / "test" / "t0.npy"
    status = path.stat()
    filled = damage.replace("PATH", str(path)).replace("SIZE", str(status.st_size))
    memory.write_text(filled.replace("MTIME", str(status.st_mtime_ns)))
    assert load_dataset(spec) == data
    assert memory.read_bytes() == whole


def test_validation_list_of_its_own(layout: Layout) -> None:
    layout.add("validation", "v0", "run")
    data = load_dataset(layout.write())
    assert data.splits["validation"] == ("v0",)
    assert len(data.splits["train"]) == 10
    # Authors of such a list often leave the features where the training videos lie.
    shutil.move(layout.folder / "validation" / "v0.npy", layout.folder / "train" / "v0.npy")
    (layout.folder / "validation").rmdir()
    assert load_dataset(layout.write()).fingerprint == data.fingerprint


def test_hold_out_is_stratified_and_follows_the_data_seed(layout: Layout) -> None:
    spec = layout.write()
    drawn = set()
    for seed in range(8):
        data = load_dataset(spec, seed=seed)
        assert {data.videos[name].labels for name in data.splits["validation"]} == {(0,), (1,)}
        assert len(data.splits["validation"]) == 2
        drawn.add(data.splits["validation"])
    assert len(drawn) > 2


def test_hold_out_keeps_the_only_training_video_of_a_class(layout: Layout) -> None:
    layout.add("train", "rare", "swim")
    spec = layout.write()
    assert all("rare" in load_dataset(spec, seed=seed).splits["train"] for seed in range(20))


def test_without_hold_out_all_training_videos_train(layout: Layout) -> None:
    spec = layout.write()
    data = load_dataset(spec, hold_out=False)
    assert data.splits == {"train": tuple(layout.splits["train"]), "validation": (), "test": ("t0", "t1")}
    assert data.ground_truth("validation") == ()
    assert {video.split for video in data.videos.values()} == {"train", "test"}
    assert data.fingerprint != load_dataset(spec).fingerprint
    opened = load_dataset(spec, hold_out=False, verify=False, fingerprint=data.fingerprint)
    assert opened == data
    layout.add("validation", "v0", "run")
    assert load_dataset(layout.write(), hold_out=False).splits["validation"] == ("v0",)


@pytest.mark.situation(
    "input",
    "no training video can be held out for validation",
    "nothing starts; the message asks for split_validation.txt",
)
def test_nothing_to_hold_out(layout: Layout) -> None:
    layout.splits["train"] = ["r0", "j0"]
    with pytest.raises(DataError, match=r"split_validation\.txt"):
        load_dataset(layout.write())


@pytest.mark.situation(
    "input", "annotated segments end after their video", "they are kept as published; one warning counts them"
)
def test_late_segments_are_kept_with_one_counted_warning(layout: Layout) -> None:
    for name in ("r0", "t0"):
        layout.database[name]["annotations"][0]["segment"] = [7.5, 9.0]
    layout.database["elsewhere"] = layout.database["r0"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load_dataset(layout.write())
    assert len(caught) == 1
    assert "3 segments end after their video (2 of them" in str(caught[0].message)
    assert data.videos["t0"].segments[0].end_s == 9.0


def test_fingerprint_follows_everything_that_can_change_a_number(layout: Layout, tmp_path: Path) -> None:
    first = load_dataset(layout.write()).fingerprint
    copy = tmp_path / "copy"
    shutil.copytree(layout.folder, copy)
    assert load_dataset(f"acm:{copy}").fingerprint == first
    assert load_dataset(layout.write(), seed=1).fingerprint != first
    x_TD = np.load(layout.folder / "test" / "t0.npy")
    layout.save("test/t0", x_TD + 1)
    other_features = load_dataset(layout.write()).fingerprint
    layout.save("test/t0", x_TD)
    layout.database["t0"]["annotations"][0]["segment"] = [0.0, 0.75]
    other_annotation = load_dataset(layout.write()).fingerprint
    assert len({first, other_features, other_annotation}) == 3
    with pytest.raises(DataError, match="changed"):
        load_dataset(layout.write(), fingerprint=first)


def test_verified_files_are_not_read_again(layout: Layout) -> None:
    spec = layout.write()
    first = load_dataset(spec)
    path = layout.folder / "test" / "t0.npy"
    before = path.stat()
    layout.save("test/t0", np.full((5, 3), np.nan, dtype=np.float32))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert load_dataset(spec).fingerprint == first.fingerprint
    path.touch()
    with pytest.raises(DataError, match="NaN"):
        load_dataset(spec)


def test_a_trial_opens_without_verifying(layout: Layout) -> None:
    spec = layout.write()
    # As on a machine where nobody has verified anything.
    assert load_dataset(spec, verify=False, fingerprint="trusted").fingerprint == "trusted"
    verified = load_dataset(spec)
    assert load_dataset(spec, verify=False, fingerprint=verified.fingerprint) == verified
    with pytest.raises(DataError, match="fingerprint"):
        load_dataset(spec, verify=False)


def test_a_trial_sees_that_a_file_has_changed_since_it_was_verified(layout: Layout) -> None:
    spec = layout.write()
    verified = load_dataset(spec)
    path = layout.folder / "test" / "t0.npy"
    path.touch()
    assert load_dataset(spec, verify=False, fingerprint=verified.fingerprint) == verified
    layout.save("test/t0", np.load(path) + 1)
    with pytest.raises(DataError, match=r"t0\.npy has changed since it was verified"):
        load_dataset(spec, verify=False, fingerprint=verified.fingerprint)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.unlink(), r"t0\.npy is gone; restore it"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), r"t0\.npy cannot be read any more"),
        (
            lambda path: np.save(path, np.zeros((4, 3), np.float32)),
            r"t0\.npy holds an array of shape \(4, 3\)",
        ),
        (
            lambda path: np.save(path, np.zeros((5, 2), np.float32)),
            r"t0\.npy holds an array of shape \(5, 2\)",
        ),
        (lambda path: np.save(path, np.zeros(15, np.float32)), r"t0\.npy holds an array of shape \(15,\)"),
    ],
)
def test_a_feature_file_that_is_spoilt_while_it_is_used_is_named(
    layout: Layout, spoil: Callable[[Path], object], words: str
) -> None:
    data = load_dataset(layout.write())
    spoil(layout.folder / "test" / "t0.npy")
    with pytest.raises(DataError, match=words):
        data.features("t0")


def test_forms_of_a_specification(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_dataset(layout.write())
    monkeypatch.chdir(layout.folder.parent)
    assert load_dataset("acm:data") == data
    monkeypatch.setenv("HOME", str(layout.folder.parent))
    assert load_dataset("acm:~/data") == data


@pytest.mark.situation(
    "input",
    "--data is misspelt, or names no folder",
    "nothing starts; the message shows the nearest form and all forms",
)
@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("wacth", "did you mean 'watch'"),
        ("thumos:/data", "did you mean 'thumos14'"),
        ("nothing-like-it", "the forms are watch, synthetic, acm:DIR, thumos14:DIR, activitynet:DIR"),
        ("acm", "acm:DIR"),
        ("acm:", "acm:DIR"),
        ("watch:/data", "the forms are"),
        ("acm:/no/such/folder", "does not exist"),
    ],
)
def test_unknown_specifications(spec: str, said: str) -> None:
    with pytest.raises(DataError) as error:
        load_dataset(spec)
    assert said in str(error.value)


@pytest.mark.situation(
    "input",
    "--fold or --data-seed names what the data do not have",
    "nothing starts; the possible values are named",
)
def test_only_watch_has_folds(layout: Layout) -> None:
    for spec in ("synthetic", layout.write()):
        with pytest.raises(DataError, match="fold 1"):
            load_dataset(spec, fold=1)
    with pytest.raises(DataError, match=r"0 \.\.\. 9"):
        load_dataset("watch", fold=10)
    with pytest.raises(DataError, match="seed"):
        load_dataset("synthetic", seed=-1)


THUMOS14 = ["BaseballPitch", "Diving"]


@pytest.mark.situation(
    "input",
    "features have another width than those of the published data set",
    "nothing starts; a video is named, and how many more there are",
)
def test_presets_demand_their_width(layout: Layout) -> None:
    for preset in ("thumos14", "activitynet"):
        for entry in layout.database.values():
            for annotation in entry["annotations"]:
                annotation["label"] = THUMOS14[annotation["label"] in ("run", "Diving")]
        spec = layout.write().replace("acm", preset)
        with pytest.raises(DataError, match=r"video r0 has 3 channels, not 2048.* 11 more"):
            load_dataset(spec)


def test_thumos14_numbers_its_classes_as_published(layout: Layout) -> None:
    spec = layout.write().replace("acm", "thumos14")
    with pytest.raises(DataError, match=r"t0 has the unknown label 'run'.*1 more.*BaseballPitch, .*Volley"):
        load_dataset(spec)
    for split, names in layout.splits.items():
        for name in names:
            layout.save(f"{split}/{name}", np.ones((2, 2048), dtype=np.float16))
            for annotation in layout.database[name]["annotations"]:
                annotation["label"] = THUMOS14[annotation["label"] == "run"]
    layout.write()
    data = load_dataset(spec)
    assert len(data.classes) == 20
    assert data.videos["t0"].labels == (0, 7)
