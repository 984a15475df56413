"""The simulated workers: what a trial reports and when, from recorded trials."""

import hashlib
import random
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from benchmarks.scale.curves import Curve, Curves, to_unit
from study.job import Job
from study.spec import Space

_NOISE: Final = 0.5  # of the objective, in points of mAP; recorded runs of one proposal differ by more


class Workers:
    """Knows of every trial how long its epochs take and what they score.

    A fine-tuning has the curve of the recorded proposal whose settings are nearest, with a little noise of
    its own; times are recorded ones, all multiplied so that a fine-tuning of all epochs takes `trial_s`.
    """

    def __init__(self, space: Space, trial_s: float) -> None:
        self._space = space
        self._curves = Curves.load()
        self.scale = trial_s / self._curves.mean_finetune_s
        self._points = np.array([to_unit(space, s) for s in self._curves.settings.values()])
        self._by_proposal: dict[int, list[Curve]] = {}
        for curve in self._curves.finetune:
            assert curve.proposal is not None
            self._by_proposal.setdefault(curve.proposal, []).append(curve)
        self._numbers = list(self._curves.settings)

    def curve(self, job: Job) -> Curve:
        """Return the recorded trial that a trial repeats."""
        chance = random.Random(f"{job.seed}/{sorted(job.parameters.items())}")
        if job.stage == 0:
            return chance.choice(self._curves.pretrain)
        searched = [job.parameters.get(name, 0.0) for name in self._space.search.parameters]
        if min(searched) <= 0:  # an arm without one of the losses
            return chance.choice(self._curves.finetune)
        point = to_unit(self._space, job.parameters)
        nearest = int(((self._points - point) ** 2).sum(axis=1).argmin())
        return chance.choice(self._by_proposal[self._numbers[nearest]])

    def metrics(self, job: Job, curve: Curve, epoch: int, wall_s: float) -> Mapping[str, float]:
        """Return what an epoch reports: as many metrics as a real one."""
        stage = "pretrain" if job.stage == 0 else "finetune"
        chance = random.Random(f"{job.seed}/{sorted(job.parameters.items())}/{epoch}")
        metrics = {name: 100 * chance.random() for name in self._curves.metrics[stage]}
        metrics |= {"wall_s": wall_s, "cpu_s": wall_s, "gpu_s": wall_s}
        if curve.objective:
            metrics["validation/mAP@0.1:0.7"] = curve.objective[epoch - 1] + chance.gauss(0.0, _NOISE)
        return metrics

    def result(self, job: Job, best: float) -> dict[str, Any]:
        """Return what a trial reports at its end, as much as a real one."""
        digest = hashlib.sha256(f"{job.run_key}".encode()).hexdigest()
        names = [name for name in self._curves.metrics["finetune"] if name.startswith("validation/")]
        metrics = {name: 100 * int(digest[:6], 16) / 0xFFFFFF for name in names}
        if job.test:
            metrics |= {name.replace("validation", "test"): value for name, value in metrics.items()}
        metrics["validation/mAP@0.1:0.7"] = best
        return {
            "metrics": metrics,
            "chosen_epoch": 1,
            "last_lap": {"wall_s": 0.01, "cpu_s": 0.01, "gpu_s": 0.0},
            "export": None
            if job.export_key is None
            else f"pretrained/{job.export_key}-0001-{digest[:16]}.pt",
            "checkpoint": f"checkpoints/{job.run_key}",
            "environment": {"device": "cuda", "num_threads": 1},
            "notes": [],
        }
