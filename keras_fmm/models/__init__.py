"""Backbones, and attention for other models: functions that return a functional `keras.Model`."""

from keras_fmm.models.toy_cnn import ToyCNN
from keras_fmm.models.upgrade import upgrade

__all__ = ["ToyCNN", "upgrade"]
