"""Experiments, one a file, run as `python -m recipes.NAME`."""

import os

# Before TensorFlow is imported: its start-up log is longer than what a recipe prints. Say
# TF_CPP_MIN_LOG_LEVEL=0 to see it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Also before: TensorFlow turns oneDNN on by itself only where the CPU has AVX-512. Without it,
# training takes two to six times as long, and grouped convolutions have no gradient at all.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
