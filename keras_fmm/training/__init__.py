"""Devices and hosts, run folders that resume exactly, records of what ran; model.fit trains."""

from keras_fmm.training import hosts
from keras_fmm.training.environment import environment
from keras_fmm.training.run import Run
from keras_fmm.training.strategy import (
    BatchPlan,
    batch_plan,
    evaluation_batch_size,
    replicas,
    strategy,
)

__all__ = [
    "BatchPlan",
    "Run",
    "batch_plan",
    "environment",
    "evaluation_batch_size",
    "hosts",
    "replicas",
    "strategy",
]
