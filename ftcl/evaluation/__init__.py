"""Proposals, non-maximum suppression, detection mAP and the files they travel in. Numpy only."""

from ftcl.evaluation.activitynet import (
    encode_ground_truth,
    read_detections,
    read_ground_truth,
    write_detections,
    write_ground_truth,
)
from ftcl.evaluation.context import oracle_label_windows, random_windows
from ftcl.evaluation.detection import detection_map, match_detections
from ftcl.evaluation.localization import LocalizationConfig, localize
from ftcl.evaluation.metrics import TIOU_THRESHOLDS, metric_thresholds, metrics
from ftcl.evaluation.nms import non_maximum_suppression
from ftcl.evaluation.reference import detection_map_reference
from ftcl.evaluation.types import Detections, DetectionScores, GroundTruth, VideoDetections

__all__ = [
    "TIOU_THRESHOLDS",
    "DetectionScores",
    "Detections",
    "GroundTruth",
    "LocalizationConfig",
    "VideoDetections",
    "detection_map",
    "detection_map_reference",
    "encode_ground_truth",
    "localize",
    "match_detections",
    "metric_thresholds",
    "metrics",
    "non_maximum_suppression",
    "oracle_label_windows",
    "random_windows",
    "read_detections",
    "read_ground_truth",
    "write_detections",
    "write_ground_truth",
]
