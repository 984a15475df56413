"""A study's pictures: drawn once with matplotlib for report, notebooks, TensorBoard and paper."""
