"""Measurements: models and arrays in, numbers and arrays out."""

from keras_fmm.analysis.channel_importance import ChannelImportance, channel_importance
from keras_fmm.analysis.flops import flops
from keras_fmm.analysis.full_grad import FullGradient, full_grad
from keras_fmm.analysis.logits import logits_model
from keras_fmm.analysis.rank_agreement import RankAgreement, rank_agreement
from keras_fmm.analysis.smooth_full_grad import smooth_full_grad

__all__ = [
    "ChannelImportance",
    "FullGradient",
    "RankAgreement",
    "channel_importance",
    "flops",
    "full_grad",
    "logits_model",
    "rank_agreement",
    "smooth_full_grad",
]
