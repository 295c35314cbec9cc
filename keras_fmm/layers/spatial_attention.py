"""CBAM's attention over space."""

import keras
from keras import ops

from keras_fmm import checks
from keras_fmm.layers.batch_norm import BatchNorm
from keras_fmm.layers.feature_gate import FeatureGate
from keras_fmm.layers.integer_form import IntegerFormMixin
from keras_fmm.ops import channel_max_and_mean, channel_pool, one_filter_conv
from keras_fmm.ops.sums import is_half


@keras.saving.register_keras_serializable(package="keras_fmm")
class SpatialAttention(IntegerFormMixin, FeatureGate):
    """Gates each position by what its neighbourhood holds at most and on average.

    `g(x) = gate_activation(batch_norm(K * [max(x), mean(x)]))`, with max and mean over channels
    and a "same" convolution without bias.

    Args:
        kernel_size: int, default 7. The side of the convolution's kernel, from 1 to 255.
        use_max_pool: bool, default True. False leaves the max out.
        use_batch_norm: bool, default True. Whether the convolution is normalised, as in the
            authors' code; the paper has no batch norm there. Its epsilon is 1e-5, its momentum
            0.99.
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
        That of the inputs. `attention_map` gives `(batch, height, width, 1)`.

    Example:

    >>> import keras
    >>> layer = SpatialAttention(kernel_size=7)
    >>> layer(keras.Input((None, None, 64))).shape
    (None, None, None, 64)
    >>> tuple(layer.convolution.kernel.shape)
    (7, 7, 2, 1)

    Reference:
        Woo, Park, Lee, Kweon, "CBAM: Convolutional Block Attention Module", equation 3. Differs
        from the paper: the channels of the pooled map are max, mean, as in the authors' code.
        https://arxiv.org/abs/1807.06521
    """

    def __init__(
        self,
        kernel_size=7,
        use_max_pool=True,
        use_batch_norm=True,
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
        self.kernel_size = checks.positive_integer("kernel_size", kernel_size, checks.SIDES)
        self.use_max_pool = checks.flag("use_max_pool", use_max_pool)
        self.use_batch_norm = checks.flag("use_batch_norm", use_batch_norm)
        self.kernel_initializer = checks.of_keras(kernel_initializer=kernel_initializer)
        self.kernel_regularizer = checks.of_keras(kernel_regularizer=kernel_regularizer)

    def build_attention(self, channels):
        # These two hold the weights; `compute_attention_map` calls the batch norm in training and
        # in half precision alone, and the convolution never.
        self.convolution = self.make_sublayer(
            keras.layers.Conv2D,
            (None, None, None, self._pooled_channels()),
            filters=1,
            kernel_size=self.kernel_size,
            padding="same",
            use_bias=False,
            data_format="channels_last",
            kernel_initializer=self.kernel_initializer,
            kernel_regularizer=self.kernel_regularizer,
            name="convolution",
        )
        self.batch_norm = None
        if self.use_batch_norm:
            self.batch_norm = self.make_sublayer(
                BatchNorm,
                (None, None, None, 1),
                epsilon=1e-5,
                name="batch_norm",
            )

    def _pooled_channels(self):
        return 2 if self.use_max_pool else 1

    def compute_attention_map(self, inputs, training=None):
        kernel, offset, norm = self.convolution.kernel, None, self.batch_norm
        # In half precision an offset of its own would be rounded, and shift the whole map.
        if norm is not None and not (training and norm.trainable) and not is_half(inputs):
            # A factor and an offset: as part of the convolution they are no operators of their
            # own, and not rounded where all is integers.
            factor = norm.gamma * ops.rsqrt(norm.moving_variance + norm.epsilon)
            kernel, offset = kernel * factor, norm.beta - norm.moving_mean * factor
            norm = None
        gate = self._convolve(inputs, kernel, offset)
        if inputs.shape[0] is None:
            # A list of positions: of an empty batch TensorFlow's convolution on a CPU has the
            # inputs' shape, and a reshape that is not seen to do anything is left out.
            gate = ops.reshape(gate, (-1, 1))
        if norm is not None:
            gate = norm(gate, training=training)
        gate = self.gate_activation(gate)
        if inputs.shape[0] is None:
            sizes = inputs.shape[1:3]
            # Where they are known, operators to find them are left out.
            sizes = ops.shape(inputs)[1:3] if None in sizes else sizes
            gate = ops.reshape(gate, (-1, *sizes, 1))
        return gate

    def _convolve(self, inputs, kernel, bias=None):
        if not self.use_max_pool:
            return one_filter_conv(ops.mean(inputs, axis=-1, keepdims=True), kernel, bias)
        if self._integer_bits in (8, 16):
            of_max, of_mean = channel_max_and_mean(inputs)
            # What is concatenated has one scale in TFLite, and a maximum has that of its inputs.
            # So the whole map would be cut to the range of its maxima, and its mean, far smaller,
            # be cut into few steps.
            return one_filter_conv(of_max, kernel[:, :, :1], bias) + one_filter_conv(
                of_mean, kernel[:, :, 1:]
            )
        return one_filter_conv(channel_pool(inputs), kernel, bias)

    def neutral_weights(self):
        if self.use_batch_norm:
            # A zero kernel in front of a batch norm would have gradients 1 / sqrt(epsilon) times
            # as large.
            return [self.batch_norm.gamma, self.batch_norm.beta]
        return [self.convolution.kernel]

    def attention_multiply_adds(self, height, width, channels):
        return height * width * self.kernel_size**2 * self._pooled_channels()

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "kernel_size": self.kernel_size,
                "use_max_pool": self.use_max_pool,
                "use_batch_norm": self.use_batch_norm,
                "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
                "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            }
        )
        return config
