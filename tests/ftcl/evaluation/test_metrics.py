import numpy as np
import pytest

from ftcl.evaluation import TIOU_THRESHOLDS, DetectionScores, metric_thresholds, metrics


def scores(thresholds, values):
    values = np.asarray(values, dtype=float)
    return DetectionScores(
        np.asarray(thresholds), ("a", "b"), np.stack([values, 0 * values], axis=1), np.ones(2, int)
    )


def test_names_and_percent_values_of_the_usual_thresholds():
    named = metrics(scores(TIOU_THRESHOLDS, np.arange(9, 0, -1) / 10))
    assert list(named) == [
        *(f"mAP@0.{i}" for i in range(1, 10)),
        "mAP@0.1:0.5",
        "mAP@0.3:0.7",
        "mAP@0.1:0.7",
        "mAP@0.1:0.9",
    ]
    assert named["mAP@0.1"] == pytest.approx(45)  # mean over classes of 0.9 and 0
    assert named["mAP@0.1:0.5"] == pytest.approx(35)
    assert named["mAP@0.3:0.7"] == pytest.approx(25)
    assert named["mAP@0.1:0.7"] == pytest.approx(30)
    assert named["mAP@0.1:0.9"] == pytest.approx(25)


def test_activitynet_average():
    for thresholds in (np.linspace(0.5, 0.95, 10), np.arange(0.5, 0.975, 0.05)):
        named = metrics(scores(thresholds, np.linspace(1, 0.1, 10)))
        assert named["mAP@0.5:0.95"] == pytest.approx(27.5)
        assert named["mAP@0.55"] == pytest.approx(45)
        assert "mAP@0.1:0.7" not in named


def test_thresholds_are_the_floats_of_arange():
    assert (np.arange(0.1, 1.0, 0.1) == TIOU_THRESHOLDS).all()
    assert TIOU_THRESHOLDS[2] != 0.3


@pytest.mark.parametrize("thresholds", [TIOU_THRESHOLDS, np.arange(0.5, 1.0, 0.05)])
def test_the_thresholds_of_a_metric_are_those_that_it_averages(thresholds):
    values = np.linspace(0.9, 0.2, len(thresholds))
    for name, percent in metrics(scores(thresholds, values)).items():
        scored = [float(values[np.isclose(thresholds, t)][0]) for t in metric_thresholds(name)]
        assert percent == pytest.approx(50 * np.mean(scored)), name
    assert set(metric_thresholds("mAP@0.1:0.7")) == set(TIOU_THRESHOLDS[:7])
    with pytest.raises(ValueError, match="accuracy is no mean average precision"):
        metric_thresholds("accuracy")
