"""Measurements: models and arrays in, numbers and arrays out."""

from keras_fmm.analysis.attention_maps import attention_maps
from keras_fmm.analysis.flops import flops
from keras_fmm.analysis.grad_cam import grad_cam
from keras_fmm.analysis.integrated_gradients import integrated_gradients
from keras_fmm.analysis.logits import logits_model
from keras_fmm.analysis.occlusion_sensitivity import occlusion_sensitivity
from keras_fmm.analysis.smooth_grad import smooth_grad

__all__ = [
    "attention_maps",
    "flops",
    "grad_cam",
    "integrated_gradients",
    "logits_model",
    "occlusion_sensitivity",
    "smooth_grad",
]
