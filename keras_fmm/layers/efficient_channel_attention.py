"""Efficient channel attention (ECA)."""

import math

import keras
from keras import ops

from keras_fmm import checks
from keras_fmm.layers.feature_gate import FeatureGate
from keras_fmm.ops import spatial_mean


@keras.saving.register_keras_serializable(package="keras_fmm")
class EfficientChannelAttention(FeatureGate):
    """Gates each channel by what its neighbours hold on average.

    `g(x) = gate_activation(w * mean(x))`, a one-dimensional convolution without bias across the
    channels of the mean over space, zero beyond the first and last channel.

    Args:
        kernel_size: int or None, default None. How many neighbouring channels meet, an odd
            number below 256; None takes `int(abs((log2(channels) + beta) / gamma))`, plus one if
            that is even: 3 for 64 channels, 5 for 128 to 1024, 7 for 2048.
        gamma: float, default 2. Of that rule; not zero.
        beta: float, default 1. Of that rule.
        gate_activation: str or callable, default "sigmoid". The activation of the gate; None is
            the identity.
        merge: str, default "multiply". "multiply" or "add", see `FeatureGate`.
        kernel_initializer: str or initializer, default "glorot_uniform". Of the convolution.
        kernel_regularizer: str, regularizer or None, default None. Of the convolution.
        data_format: str or None, default None. "channels_last", "channels_first", or None for
            Keras' setting.
        **kwargs: the arguments of `keras.layers.Layer`.

    Input shape:
        `(batch, height, width, channels)`, or as `data_format` says; all but the channels may be
        unknown.

    Output shape:
        That of the inputs. `attention_map` gives `(batch, 1, 1, channels)`.

    Example:

    >>> import keras
    >>> layer = EfficientChannelAttention()
    >>> layer(keras.Input((14, 14, 256))).shape
    (None, 14, 14, 256)
    >>> layer.count_params()
    5

    Reference:
        Wang, Wu, Zhu, Li, Zuo, Hu, "ECA-Net: Efficient Channel Attention for Deep Convolutional
        Neural Networks", equations 7 and 12.
        https://arxiv.org/abs/1910.03151
    """

    def __init__(
        self,
        kernel_size=None,
        gamma=2,
        beta=1,
        gate_activation="sigmoid",
        merge="multiply",
        kernel_initializer="glorot_uniform",
        kernel_regularizer=None,
        data_format=None,
        **kwargs,
    ):
        super().__init__(
            merge=merge, data_format=data_format, gate_activation=gate_activation, **kwargs
        )
        if kernel_size is not None:
            kernel_size = checks.positive_odd_integer("kernel_size", kernel_size, checks.SIDES)
        gamma, beta = checks.number("gamma", gamma), checks.number("beta", beta)
        if gamma == 0:
            raise ValueError(
                f"`gamma` must not be zero. Received: gamma={gamma!r}. The default is 2."
            )
        self.kernel_size = kernel_size
        self.gamma = gamma
        self.beta = beta
        self.kernel_initializer = checks.of_keras(kernel_initializer=kernel_initializer)
        self.kernel_regularizer = checks.of_keras(kernel_regularizer=kernel_regularizer)

    def build_attention(self, channels):
        self.convolution = self.make_sublayer(
            keras.layers.Conv1D,
            (None, channels, 1),
            filters=1,
            kernel_size=self._kernel_size(channels),
            padding="same",
            use_bias=False,
            data_format="channels_last",
            kernel_initializer=self.kernel_initializer,
            kernel_regularizer=self.kernel_regularizer,
            name="convolution",
        )

    def _kernel_size(self, channels):
        if self.kernel_size is not None:
            return self.kernel_size
        found = abs((math.log2(channels) + self.beta) / self.gamma)
        if found >= checks.SIDES - 1:
            raise ValueError(
                "`gamma` and `beta` must give a kernel of less than "
                f"{checks.SIDES} channels. Received: gamma={self.gamma}, beta={self.beta}, which "
                f"give {found:.3g} for {channels} channels. Give `kernel_size`, or a `gamma` and "
                "`beta` nearer to the defaults, 2 and 1."
            )
        size = int(found)
        return size if size % 2 else size + 1

    def compute_attention_map(self, inputs, training=None):
        channels = inputs.shape[-1]
        mean = ops.reshape(spatial_mean(inputs, keepdims=True), (-1, 1, channels, 1))
        # As an image of one row: TensorFlow has no other convolution.
        kernel = ops.cast(ops.reshape(self.convolution.kernel, (1, -1, 1, 1)), mean.dtype)
        gate = ops.conv(mean, kernel, padding="same", data_format="channels_last")
        return self.gate_activation(ops.reshape(gate, (-1, 1, 1, channels)))

    def neutral_weights(self):
        return [self.convolution.kernel]

    def attention_multiply_adds(self, height, width, channels):
        return channels * self._kernel_size(channels)

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "kernel_size": self.kernel_size,
                "gamma": self.gamma,
                "beta": self.beta,
                "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
                "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            }
        )
        return config
