"""Videos as the learner sees them: features, annotations and splits. Nothing here imports torch."""

from ftcl.data.cache import cache_root
from ftcl.data.datasets import load_dataset
from ftcl.data.videos import DataError, Segment, Video, VideoDataset

__all__ = ["DataError", "Segment", "Video", "VideoDataset", "cache_root", "load_dataset"]
