"""Measurements: models and arrays in, numbers and arrays out."""

from keras_fmm.analysis.flops import flops

__all__ = ["flops"]
