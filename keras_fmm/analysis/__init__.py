"""Measurements: models and arrays in, numbers and arrays out."""

from keras_fmm.analysis.attention_maps import attention_maps
from keras_fmm.analysis.estimate import Estimate
from keras_fmm.analysis.flops import flops
from keras_fmm.analysis.full_gradients.channel_importance import (
    ChannelImportance,
    channel_importance,
)
from keras_fmm.analysis.full_gradients.full_grad import FullGradient, full_grad
from keras_fmm.analysis.full_gradients.smooth_full_grad import smooth_full_grad
from keras_fmm.analysis.landscape.curve import curve
from keras_fmm.analysis.landscape.ellipse import ellipse
from keras_fmm.analysis.landscape.jacobian import jacobian_norms, jacobian_sensitivity
from keras_fmm.analysis.landscape.output_sensitivity import output_sensitivity
from keras_fmm.analysis.landscape.smoothness import Smoothness, smoothness
from keras_fmm.analysis.logits import logits_model
from keras_fmm.analysis.rank_agreement import RankAgreement, rank_agreement
from keras_fmm.analysis.saliency.grad_cam import grad_cam
from keras_fmm.analysis.saliency.integrated_gradients import integrated_gradients
from keras_fmm.analysis.saliency.occlusion_sensitivity import occlusion_sensitivity
from keras_fmm.analysis.saliency.smooth_grad import smooth_grad

__all__ = [
    "ChannelImportance",
    "Estimate",
    "FullGradient",
    "RankAgreement",
    "Smoothness",
    "attention_maps",
    "channel_importance",
    "curve",
    "ellipse",
    "flops",
    "full_grad",
    "grad_cam",
    "integrated_gradients",
    "jacobian_norms",
    "jacobian_sensitivity",
    "logits_model",
    "occlusion_sensitivity",
    "output_sensitivity",
    "rank_agreement",
    "smooth_full_grad",
    "smooth_grad",
    "smoothness",
]
