"""Backbones: functions that return a plain functional `keras.Model`."""

from keras_fmm.models.toy_cnn import ToyCNN

__all__ = ["ToyCNN"]
