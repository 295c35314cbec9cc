"""Functions of tensors, without weights: the algorithms that the layers are made of."""

from keras_fmm.ops.layout import from_channels_last, to_channels_last
from keras_fmm.ops.per_sample_conv import (
    batched_matmul_conv,
    factored_conv,
    vectorized_map_conv,
)
from keras_fmm.ops.pooling import adaptive_average_pool

__all__ = [
    "adaptive_average_pool",
    "batched_matmul_conv",
    "factored_conv",
    "from_channels_last",
    "to_channels_last",
    "vectorized_map_conv",
]
