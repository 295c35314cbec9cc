"""Attention layers: subclasses of `keras.layers.Layer` for any Keras model."""

from keras_fmm.layers.attention_augmented_conv2d import AttentionAugmentedConv2D
from keras_fmm.layers.attention_stem import AttentionStem
from keras_fmm.layers.aw_conv2d import AWConv2D
from keras_fmm.layers.cbam import CBAM
from keras_fmm.layers.channel_attention import ChannelAttention
from keras_fmm.layers.efficient_channel_attention import EfficientChannelAttention
from keras_fmm.layers.feature_gate import FeatureGate
from keras_fmm.layers.local_self_attention2d import LocalSelfAttention2D
from keras_fmm.layers.multiplicative_residual import MultiplicativeResidual
from keras_fmm.layers.registry import (
    BLOCKS,
    CONVOLUTIONS,
    GATES,
    RESIDUALS,
    SHORT_NAMES,
    get_block,
    get_convolution,
    get_gate,
    get_residual,
)
from keras_fmm.layers.relative_self_attention2d import RelativeSelfAttention2D
from keras_fmm.layers.spatial_attention import SpatialAttention
from keras_fmm.layers.squeeze_excite import SqueezeExcite
from keras_fmm.layers.twice_sigmoid import twice_sigmoid

__all__ = [
    "BLOCKS",
    "CBAM",
    "CONVOLUTIONS",
    "GATES",
    "RESIDUALS",
    "SHORT_NAMES",
    "AWConv2D",
    "AttentionAugmentedConv2D",
    "AttentionStem",
    "ChannelAttention",
    "EfficientChannelAttention",
    "FeatureGate",
    "LocalSelfAttention2D",
    "MultiplicativeResidual",
    "RelativeSelfAttention2D",
    "SpatialAttention",
    "SqueezeExcite",
    "get_block",
    "get_convolution",
    "get_gate",
    "get_residual",
    "twice_sigmoid",
]
