import math
import pickle

import pytest

from study.metrics import Columns


def test_metrics_are_a_mapping() -> None:
    metrics = Columns(["loss/total", "mAP"]).take([0.1, 12])
    assert metrics == {"loss/total": 0.1, "mAP": 12.0}
    assert {**metrics} == dict(metrics.items())
    assert (len(metrics), "mAP" in metrics, metrics.get("gone")) == (2, True, None)
    assert repr(metrics) == "{'loss/total': 0.1, 'mAP': 12.0}"
    assert pickle.loads(pickle.dumps(metrics)) == metrics
    with pytest.raises(KeyError, match="gone"):
        metrics["gone"]


def test_metrics_keep_every_bit() -> None:
    values = [5e-324, -0.0, 1 / 3, math.inf]
    assert list(Columns("abcd").take(values).values()) == values
    assert math.isnan(Columns("a").take([math.nan])["a"])
