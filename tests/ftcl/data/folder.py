"""A folder of features and annotations for tests to read and to spoil."""

import json
from pathlib import Path

import numpy as np


class Layout:
    """A small folder of the ACM-Net layout that a test can spoil."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database: dict = {}
        self.splits: dict[str, list[str]] = {"train": [], "test": []}

    def add(self, split: str, name: str, *labels: str, num_snippets: int = 5) -> None:
        segments = [{"segment": [i, i + 0.5], "label": label} for i, label in enumerate(labels)]
        self.database[name] = {"duration": 8.0, "subset": "any", "annotations": segments}
        self.splits.setdefault(split, []).append(name)
        rng = np.random.default_rng(len(self.database))
        self.save(f"{split}/{name}", rng.normal(size=(num_snippets, 3)).astype(np.float32))

    def save(self, where: str, array: np.ndarray, *, allow_pickle: bool = False) -> Path:
        path = self.folder / f"{where}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, array, allow_pickle=allow_pickle)
        return path

    def write(self) -> str:
        (self.folder / "gt.json").write_text(json.dumps({"database": self.database}))
        for split, names in self.splits.items():
            (self.folder / f"split_{split}.txt").write_text("\n".join(names) + "\n")
        return f"acm:{self.folder}"
