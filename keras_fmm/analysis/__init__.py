"""Measurements: models and arrays in, numbers and arrays out."""

from keras_fmm.analysis.flops import flops
from keras_fmm.analysis.logits import logits_model

__all__ = ["flops", "logits_model"]
