"""Experiments, one a file, run as `python -m recipes.NAME`."""

import os

# Before TensorFlow is imported: its start-up log is longer than what a recipe prints. Say
# TF_CPP_MIN_LOG_LEVEL=0 to see it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
