"""Devices and hosts, run folders that resume exactly, records of what ran; model.fit trains."""

from keras_fmm.training import hosts
from keras_fmm.training.augmentation import Augmentation
from keras_fmm.training.class_weights import class_weights
from keras_fmm.training.environment import environment
from keras_fmm.training.run import Run
from keras_fmm.training.schedules import SCHEDULES, schedule, slow_down
from keras_fmm.training.strategy import (
    BatchPlan,
    batch_plan,
    evaluation_batch_size,
    replicas,
    strategy,
)

__all__ = [
    "SCHEDULES",
    "Augmentation",
    "BatchPlan",
    "Run",
    "batch_plan",
    "class_weights",
    "environment",
    "evaluation_batch_size",
    "hosts",
    "replicas",
    "schedule",
    "slow_down",
    "strategy",
]
