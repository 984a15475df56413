"""A search space with one of everything, and what is wrong with one that was changed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from study.spec import SpecError, load_space

GOOD = """\
title: A space for tests
recipe: ftcl
data: watch
fixed:
  acmnet.dropout: 0.5
objective: {metric: "mAP@0.1:0.7", split: validation}
search:
  trials: 6
  seeds: 2
  confirm: {top: 2, seeds: 3}
  sampler: {name: tpe, startup: 3}
  batch: 2
  early_stopping: {rungs: [2, 4], keep: 0.5, at_least: 2}
  parameters:
    finetune.alignment: {choice: [dp, mean]}
    finetune.lambda_fsd: {float: [0.05, 2.0], log: true}
    finetune.lcs_len: {int: [10, 40], step: 5}
    finetune.fsd_gamma: {float: [0.01, 1.0], when: {finetune.alignment: [dp]}}
    finetune.fsd_background: {choice: [next_ranked, least_attended], when: {finetune.lcs_len: [30, 40]}}
ablation:
  seeds: 8
  baseline: cont
  arms:
    cont: {finetune.lambda_fsd: 0, finetune.lambda_lcs: 0}
    +FSD: {finetune.lambda_lcs: 0}
    both: {}
    random pairs: {finetune.pair_labels: random}
  families:
    - {name: losses, metric: "mAP@0.1:0.7", arms: [+FSD, both], against: cont}
  controls: {arms: [random pairs], against: [both]}
gate: null
resources:
  pretrain: {cpus: 1, gpus: 1, memory_gb: 1.5}
  finetune: {cpus: 2, gpus: 0.25, memory_gb: 1.5}
"""


Write = Callable[..., Path]


def error_of(path: Path) -> str:
    with pytest.raises(SpecError) as caught:
        load_space(str(path))
    return str(caught.value)
