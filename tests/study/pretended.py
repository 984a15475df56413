"""Studies small enough for a test, and workers that run their agenda without Ray or training."""

import hashlib
import json
import math
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ftcl.recipes.config import configure
from study.agenda import Agenda
from study.assembly import assemble
from study.failures import PolicyKind
from study.job import Job, News
from study.ledger import Ledger
from study.ledger_journal import repair
from study.ledger_storage import open_storage
from study.plan import Plan
from study.records import MANIFEST, write_json

STUDY_ID = "study"

SPACE: dict[str, Any] = {
    "title": "A study for tests",
    "recipe": "ftcl",
    "data": "synthetic",
    "fixed": {"finetune.epochs": 3},
    "objective": {"metric": "mAP@0.1:0.7", "split": "validation"},
    "search": {
        "trials": 6,
        "seeds": 2,
        "confirm": {"top": 2, "seeds": 2},
        "sampler": {"name": "tpe", "startup": 2},
        "batch": 3,
        "early_stopping": {"rungs": [1, 2], "keep": 0.5, "at_least": 2},
        "parameters": {
            "finetune.lambda_lcs": {"float": [0.02, 1.0], "log": True},
            "finetune.fsd_len": {"int": [3, 6]},
        },
    },
    "ablation": {
        "seeds": 2,
        "baseline": "cont",
        "arms": {
            "acmnet": {"finetune.epochs": 0},
            "cont": {"finetune.lambda_fsd": 0.0, "finetune.lambda_lcs": 0.0},
            "FSD+LCS": {},
        },
        "families": [{"name": "losses", "metric": "mAP@0.1:0.7", "arms": ["FSD+LCS"], "against": "cont"}],
    },
}


def acm_folder(folder: Path, **broken: Any) -> Path:
    """A tiny data set in the ACM-Net layout, with one thing broken."""
    (folder / "train").mkdir(parents=True)
    (folder / "test").mkdir()
    database: dict[str, Any] = {}
    names = {"train": [f"train_{i}" for i in range(8)], "test": ["test_0", "test_1"]}
    for split, videos in names.items():
        (folder / f"split_{split}.txt").write_text("\n".join(videos) + "\n")
        for index, name in enumerate(videos):
            np.save(folder / split / f"{name}.npy", np.ones((12, 6), np.float32))
            label = ["Run", "Jump"][index % 2]
            database[name] = {
                "duration": 8.0,
                "subset": "validation" if split == "train" else "test",
                "annotations": [{"segment": broken.get("segment", [1.0, 3.0]), "label": label}],
            }
    (folder / "gt.json").write_text(json.dumps({"database": database}))
    return folder


def open_ledger(plan: Plan) -> Ledger:
    assert plan.store.local is not None and plan.ledger.path is not None
    plan.store.local.mkdir(parents=True, exist_ok=True)
    if not plan.store.exists(MANIFEST):
        write_json(plan.store, MANIFEST, {**plan.manifest, "id": STUDY_ID})
    repair(plan.ledger.path)
    return Ledger(open_storage(plan.ledger), STUDY_ID)


def open_agenda(plan: Plan) -> tuple[Agenda, Ledger]:
    """Open the study as a launch does, watched by nobody."""
    ledger = open_ledger(plan)
    agenda, _, _ = assemble(plan, ledger, 1, Console(quiet=True))
    return agenda, ledger


def pretended_value(job: Job, epoch: int) -> float:
    """Return a validation score that depends on seed, settings and epoch alone, like a real trial's."""
    key = f"{job.seed}/{sorted(job.parameters.items())}/{epoch}"
    return int(hashlib.sha256(key.encode()).hexdigest()[:6], 16) / 0xFFFFFF * 100


class PretendedWorkers:
    """Runs an agenda's jobs epoch by epoch in a random order, as workers of unequal speed would.

    Without `tells_each`, epochs that decide nothing are told together.
    """

    def __init__(
        self,
        plan: Plan,
        seed: int,
        concurrency: int,
        *,
        fails: Callable[[Job], bool] = lambda job: False,
        failure_kind: PolicyKind = "code_error",
        tells_each: bool = True,
    ) -> None:
        self.plan = plan
        self.told = 0  # reports
        self.jobs: list[Job] = []
        self._random = random.Random(seed)
        self._concurrency = concurrency
        self._fails = fails
        self._failure_kind = failure_kind
        self._every_s = 0.0 if tells_each else math.inf
        self._untold: dict[int, dict[int, dict[str, float]]] = defaultdict(dict)

    def run(self, agenda: Agenda, *, max_news: int | None = None) -> bool:
        """Run until nothing is left (True), or until so many news have been told (False: a crash)."""
        running: dict[int, tuple[Job, int]] = {}
        while True:
            while len(running) < self._concurrency and (job := agenda.next_job()) is not None:
                running[job.trial] = (job, 0)
                self.jobs.append(job)
            if not running:
                return True
            if max_news is not None and self.told >= max_news:
                return False
            trial = self._random.choice(sorted(running))
            job, epoch = running[trial]
            if self._advance(agenda, job, epoch):
                del running[trial]
            else:
                running[trial] = (job, epoch + 1)

    def _advance(self, agenda: Agenda, job: Job, epoch: int) -> bool:
        recipe = self.plan.recipe
        stage = recipe.stages[job.stage]
        group = configure(recipe, self.plan.data.preset, job.parameters)[stage.name]
        metric = f"validation/{self.plan.space.objective.metric}"
        if self._fails(job):
            self._tell(agenda, job, failure="it was told to fail", kind=self._failure_kind)
            return True
        if epoch < group.epochs:
            scores = {metric: pretended_value(job, epoch + 1)} if stage.selects_epoch else {"loss/total": 1.0}
            self._untold[job.trial][epoch + 1] = scores
            return job.tells(epoch + 1, group.epochs, 0.0, self._every_s) and self._tell(agenda, job)
        values = [pretended_value(job, e) for e in range(1, group.epochs + 1)]
        metrics = {metric: max(values, default=pretended_value(job, 0))}
        if job.test:
            metrics[metric.replace("validation", "test")] = 1.0
        result: dict[str, Any] = {"metrics": metrics, "chosen_epoch": 1}
        if job.export_key is not None:
            result["export"] = f"pretrained/{job.export_key}"
            self.plan.store.write(result["export"], b"")
        self._tell(agenda, job, result=result)
        return True

    def _tell(self, agenda: Agenda, job: Job, **words: Any) -> bool:
        self.told += 1
        epochs = self._untold.pop(job.trial, {})
        return agenda.take(News(job.trial, job.attempt, "here", epochs=epochs, **words))
