"""Measurements: models and arrays in, numbers and arrays out."""

from keras_fmm.analysis.curve import curve
from keras_fmm.analysis.ellipse import ellipse
from keras_fmm.analysis.estimate import Estimate
from keras_fmm.analysis.flops import flops
from keras_fmm.analysis.jacobian import jacobian_norms, jacobian_sensitivity
from keras_fmm.analysis.logits import logits_model
from keras_fmm.analysis.output_sensitivity import output_sensitivity
from keras_fmm.analysis.smoothness import Smoothness, smoothness

__all__ = [
    "Estimate",
    "Smoothness",
    "curve",
    "ellipse",
    "flops",
    "jacobian_norms",
    "jacobian_sensitivity",
    "logits_model",
    "output_sensitivity",
    "smoothness",
]
