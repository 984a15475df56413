"""From a data specification (`watch`, `thumos14:DIR`, ...) to an open data set."""

import difflib
import json
import math
from dataclasses import dataclass
from pathlib import Path

from ftcl.data import synthetic, watch
from ftcl.data.annotations import read_text
from ftcl.data.layout import load_layout
from ftcl.data.videos import DataError, VideoDataset

# 16 frames a snippet at 25 frames a second.
_PUBLISHED_SNIPPET_S = 16 / 25

_THUMOS14_CLASSES = (
    *("BaseballPitch", "BasketballDunk", "Billiards", "CleanAndJerk", "CliffDiving", "CricketBowling"),
    *("CricketShot", "Diving", "FrisbeeCatch", "GolfSwing", "HammerThrow", "HighJump", "JavelinThrow"),
    *("LongJump", "PoleVault", "Shotput", "SoccerPenalty", "TennisSwing", "ThrowDiscus"),
    "VolleyballSpiking",
)


@dataclass(frozen=True)
class _Layout:
    classes: tuple[str, ...] | None
    num_features: int | None


_LAYOUTS = {
    "acm": _Layout(classes=None, num_features=None),
    "thumos14": _Layout(classes=_THUMOS14_CLASSES, num_features=2048),
    "activitynet": _Layout(classes=None, num_features=2048),
}
_FORMS = ("watch", "synthetic", *(f"{name}:DIR" for name in _LAYOUTS))


def load_dataset(
    spec: str,
    *,
    fold: int = 0,
    seed: int = 0,
    hold_out: bool = True,
    verify: bool = True,
    fingerprint: str | None = None,
) -> VideoDataset:
    """Open the data set that `spec` names.

    - `watch`: real shoulder exercises, built on this machine. `fold` in 0 ... 9 rotates the people.
    - `synthetic`: tiny; its classes differ only in the order of their parts.
    - `acm:DIR`: features and annotations in the layout of ACM-Net, of any width.
    - `thumos14:DIR`, `activitynet:DIR`: the same with 2048 channels. THUMOS14 has its 20 classes, numbered
      alphabetically as ACM-Net and FTCL number them; ActivityNet's labels are sorted, which for the whole
      data set is ACM-Net's order too.

    `seed` is the data seed: it composes `watch` and `synthetic`, and holds out validation videos where the
    data list none; with `hold_out=False` they stay in training, as the authors train, and the validation
    split is empty. `verify` reads and checks everything and computes the fingerprint (once, in a driver);
    `verify=False` trusts a driver that did, takes its `fingerprint`, and only opens. Raises DataError for
    unusable data.
    """
    if seed < 0:
        raise DataError(f"the data seed is {seed}; it must be 0 or more")
    if not verify and fingerprint is None:
        raise DataError("data that are not verified need the fingerprint of the run that verified them")
    name, _, directory = spec.partition(":")
    if spec not in ("watch", "synthetic") and not (name in _LAYOUTS and directory):
        raise DataError(_unknown(spec, name))
    num_folds = watch.NUM_FOLDS if spec == "watch" else 1
    if not 0 <= fold < num_folds:
        raise DataError(f"{spec} has no fold {fold}; {_folds(num_folds)}")
    if spec == "watch":
        folder, snippet_s, layout = watch.build(fold, seed), watch.SNIPPET_S, _LAYOUTS["acm"]
    elif spec == "synthetic":
        folder, snippet_s, layout = synthetic.build(seed), _PUBLISHED_SNIPPET_S, _LAYOUTS["acm"]
    else:
        folder, layout = Path(directory).expanduser().resolve(), _LAYOUTS[name]
        snippet_s = _declared_snippet_s(folder) if name == "acm" else _PUBLISHED_SNIPPET_S
        spec = f"{name}:{folder}"
    return load_layout(
        folder,
        spec=spec,
        preset=name,
        classes=layout.classes,
        num_features=layout.num_features,
        snippet_s=snippet_s,
        fold=fold,
        seed=seed,
        hold_out=hold_out,
        verify=verify,
        fingerprint=fingerprint,
    )


def _declared_snippet_s(folder: Path) -> float:
    """Seconds of a snippet as `meta.json` of the folder tells, or else those of the published data."""
    path = folder / "meta.json"
    if not path.is_file():
        return _PUBLISHED_SNIPPET_S
    try:
        meta = json.loads(read_text(path, "the description of the data"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not valid JSON: {error}; restore or remove the file") from error
    snippet_s = meta.get("snippet_s", _PUBLISHED_SNIPPET_S) if isinstance(meta, dict) else None
    if not isinstance(snippet_s, int | float) or isinstance(snippet_s, bool) or not 0 < snippet_s < math.inf:
        raise DataError(
            f'{path} must be {{"snippet_s": seconds of a snippet, above 0}}; correct or remove it'
        )
    return float(snippet_s)


def _unknown(spec: str, name: str) -> str:
    if name in _LAYOUTS:
        return f"the data {spec!r} name no folder; write {name}:DIR with the folder that holds gt.json"
    near = difflib.get_close_matches(name, ["watch", "synthetic", *_LAYOUTS], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown data {spec!r}; {hint}the forms are {', '.join(_FORMS)}"


def _folds(num_folds: int) -> str:
    return f"choose 0 ... {num_folds - 1}" if num_folds > 1 else "only fold 0 exists, only watch has more"
