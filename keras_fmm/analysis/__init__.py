"""Measurements: models and arrays in, numbers and arrays out."""

from keras_fmm.analysis.attention_maps import attention_maps
from keras_fmm.analysis.channel_importance import ChannelImportance, channel_importance
from keras_fmm.analysis.flops import flops
from keras_fmm.analysis.full_grad import FullGradient, full_grad
from keras_fmm.analysis.grad_cam import grad_cam
from keras_fmm.analysis.integrated_gradients import integrated_gradients
from keras_fmm.analysis.logits import logits_model
from keras_fmm.analysis.occlusion_sensitivity import occlusion_sensitivity
from keras_fmm.analysis.rank_agreement import RankAgreement, rank_agreement
from keras_fmm.analysis.smooth_full_grad import smooth_full_grad
from keras_fmm.analysis.smooth_grad import smooth_grad

__all__ = [
    "ChannelImportance",
    "FullGradient",
    "RankAgreement",
    "attention_maps",
    "channel_importance",
    "flops",
    "full_grad",
    "grad_cam",
    "integrated_gradients",
    "logits_model",
    "occlusion_sensitivity",
    "rank_agreement",
    "smooth_full_grad",
    "smooth_grad",
]
