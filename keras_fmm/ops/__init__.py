"""Functions of tensors, without weights: the algorithms that the layers are made of."""

from keras_fmm.ops.layout import convolved, from_channels_last, to_channels_last
from keras_fmm.ops.one_filter_conv import one_filter_conv
from keras_fmm.ops.per_sample_conv.choice import IMPLEMENTATIONS, fastest
from keras_fmm.ops.per_sample_conv.factored import factored_conv
from keras_fmm.ops.per_sample_conv.loop import loop_conv
from keras_fmm.ops.per_sample_conv.reference import vectorized_map_conv
from keras_fmm.ops.pooling import adaptive_average_pool
from keras_fmm.ops.statistics import (
    channel_max_and_mean,
    channel_pool,
    normalized,
    scale_channels,
    spatial_max,
    spatial_mean,
    spatial_mean_and_max,
)

__all__ = [
    "IMPLEMENTATIONS",
    "adaptive_average_pool",
    "channel_max_and_mean",
    "channel_pool",
    "convolved",
    "factored_conv",
    "fastest",
    "from_channels_last",
    "loop_conv",
    "normalized",
    "one_filter_conv",
    "scale_channels",
    "spatial_max",
    "spatial_mean",
    "spatial_mean_and_max",
    "to_channels_last",
    "vectorized_map_conv",
]
