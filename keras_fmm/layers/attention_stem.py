"""The first layer of a network of self-attention: values that know their place in the window."""

import math

import keras
from keras import ops

from keras_fmm import checks
from keras_fmm.layers import kernel_arguments
from keras_fmm.layers.attention_in_window import AttentionInWindowMixin
from keras_fmm.layers.feature_map import FeatureMapLayer
from keras_fmm.layers.integer_form import IntegerFormMixin
from keras_fmm.ops import convolved, from_channels_last, to_channels_last
from keras_fmm.ops.pooling import max_pool
from keras_fmm.ops.self_attention.positions import over_the_map
from keras_fmm.ops.self_attention.window import shifted_attention
from keras_fmm.ops.sums import softmax


@keras.saving.register_keras_serializable(package="keras_fmm")
class AttentionStem(IntegerFormMixin, AttentionInWindowMixin, FeatureMapLayer):
    """Attends to a window with values made otherwise at each of its places, and takes maxima.

    A pixel says too little by itself for attention to find an edge by. With the queries q and keys
    k of a head, 1x1 convolutions of the image x without biases, and M matrices V (`mixtures`)::

        p[a, b] = softmax over m of (row[a] + column[b]) . mixture[m]
        v[i, j][a, b] = sum over m of p[a, b][m] * V[m] x[i + a, j + b]
        weights[i, j] = softmax(q[i, j] . k[i + a, j + b])           over the window's (a, b)
        outputs[i, j] = sum of weights[i, j][a, b] * v[i, j][a, b]
        outputs = activation(max_pool(outputs) + bias)

    Args:
        filters: int, from 1 to 65,535. How many channels the outputs have; a multiple of
            `num_heads`.
        kernel_size: int or pair of equal int, default 4. The window's height and width. An even one
            reaches one further down and to the right, as a convolution's with `padding="same"`.
        mixtures: int, default 4. How many matrices the values are mixed of.
        num_heads: int, default 4. How many heads attend, each with channels of its own.
        pool_size: int, default 4. The height and width of the windows that maxima are taken of, and
            how far these are apart; 1 takes none. The last may reach beyond the map.
        use_bias: bool, default False. Whether a bias is added to the outputs.
        mask_padding: bool, default True. Whether positions outside of the map have no weight.
            False: keys and values are 0 there.
        implementation: str, default "auto". "auto" or "shifts": the map is shifted by each entry
            of the window in turn.
        padding: str, default "same". Must be "same".
        activation: str, callable or None, default None. Of the outputs.
        kernel_initializer: str or initializer, default "glorot_uniform". Of queries, keys, values.
        bias_initializer: str or initializer, default "zeros". Of the bias.
        kernel_regularizer: str, regularizer or None, default None. Of queries, keys, values.
        bias_regularizer: str, regularizer or None, default None. Of the bias.
        activity_regularizer: str, regularizer or None, default None. Of the outputs.
        kernel_constraint: str, constraint or None, default None. Of queries, keys, values.
        bias_constraint: str, constraint or None, default None. Of the bias.
        data_format: str or None, default None. "channels_last", "channels_first", or None for
            Keras' setting.
        **kwargs: the arguments of `keras.layers.Layer`.

    `query` and `key`, 1x1 convolutions, `value_kernel` (mixtures, channels, filters),
    `row_embeddings` and `column_embeddings` (kernel_size, filters), from the least offset on,
    `mixture_embeddings` (mixtures, filters) and `bias` are attributes of the built layer.

    Input shape:
        `(batch, height, width, channels)`, or as `data_format` says; all but the channels may be
        unknown.

    Output shape:
        `(batch, ceil(height / pool_size), ceil(width / pool_size), filters)`, or as `data_format`
        says. `attention_map` gives `(batch, queries, heads, kernel_size, kernel_size)`.

    Example:

    >>> import keras
    >>> AttentionStem(64)(keras.Input((224, 224, 3))).shape
    (None, 56, 56, 64)

    Reference:
        Ramachandran, Parmar, Vaswani, Bello, Levskaya, Shlens, "Stand-Alone Self-Attention in
        Vision Models", section 3.2 and the appendix. Differs from the paper, which does not say how
        many numbers an embedding has, nor what lies outside of the map: as many as `filters`, and
        no weight there. Batch norm, which the paper has before the maxima, is a layer of its own.
        https://arxiv.org/abs/1906.05909
    """

    def __init__(
        self,
        filters,
        kernel_size=4,
        mixtures=4,
        num_heads=4,
        pool_size=4,
        use_bias=False,
        mask_padding=True,
        implementation="auto",
        padding="same",
        activation=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        data_format=None,
        **kwargs,
    ):
        super().__init__(
            data_format=data_format,
            activity_regularizer=checks.of_keras(activity_regularizer=activity_regularizer),
            **kwargs,
        )
        self.keep_window(filters, kernel_size, num_heads, padding, use_bias, mask_padding)
        # The values differ from place to place of the window, which blocks do not know.
        self.implementation = checks.one_of("implementation", implementation, ("auto", "shifts"))
        self.mixtures = checks.positive_integer("mixtures", mixtures, checks.CHANNELS)
        self.pool_size = checks.positive_integer("pool_size", pool_size, checks.SIDES)
        self.activation = checks.of_keras(activation=activation)
        kernel_arguments.keep(
            self,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
        )

    def build(self, input_shape):
        super().build(input_shape)
        self.value_kernel = self.add_weight(
            name="value_kernel",
            shape=(self.mixtures, self._channels, self.filters),
            initializer=kernel_arguments.fresh(self.kernel_initializer),
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        sizes = {"row": self.kernel_size, "column": self.kernel_size, "mixture": self.mixtures}
        for name, size in sizes.items():
            table = self.add_weight(
                name=f"{name}_embeddings",
                shape=(size, self.filters),
                initializer=keras.initializers.RandomNormal(stddev=self.filters**-0.5),
            )
            setattr(self, f"{name}_embeddings", table)
        self.make_bias()

    def build_sublayers(self, channels):
        self._channels = channels
        for name in ("query", "key"):
            setattr(self, name, self.make_pointwise(channels, name))

    def call(self, inputs, training=None, return_attention_map=False, queries=None):
        inputs = self.cast_inputs(inputs)
        self.channels_of(inputs.shape)
        inputs = to_channels_last(inputs, self.data_format)
        query, key = convolved(self.query, inputs), convolved(self.key, inputs)
        if return_attention_map:
            return self.look(query, key, queries)
        outputs = shifted_attention(
            query,
            key,
            inputs,
            self.num_heads,
            self.kernel_size,
            kernels=self._kernels(),
            mask_padding=self.mask_padding,
            divide_late=self._integer_bits is not None,
        )
        if self.pool_size > 1:
            outputs = max_pool(outputs, self.pool_size)
        return from_channels_last(self.finish(outputs), self.data_format)

    def _kernels(self):
        """Returns the mixture at each place of the window, `(k, k, channels, filters)`."""
        places = over_the_map(self.row_embeddings, self.column_embeddings)
        size, mixtures = self.kernel_size, self.mixtures
        places = ops.reshape(places, (size * size, self.filters))
        logits = ops.matmul(places, ops.transpose(self.mixture_embeddings))
        shares = ops.cast(softmax(logits), logits.dtype)
        kernels = ops.reshape(self.value_kernel, (mixtures, self._channels * self.filters))
        found = ops.matmul(shares, kernels)
        found = ops.reshape(found, (size, size, self._channels, self.filters))
        return ops.cast(found, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        self.channels_of(input_shape)
        sizes = input_shape[1:3] if self.data_format == "channels_last" else input_shape[2:4]
        size = tuple(None if side is None else -(-side // self.pool_size) for side in sizes)
        if self.data_format == "channels_last":
            return (input_shape[0], *size, self.filters)
        return (input_shape[0], self.filters, *size)

    def multiply_adds(self, input_shape):
        """Returns the multiply-adds of one image.

        Those of queries and keys, of the values at each place of the window, for which the matrices
        are mixed once, of queries with keys and of weights with values. `implementation` makes no
        difference here.

        Args:
            input_shape: tuple of 4, the batch first and ignored, the rest known.

        Raises:
            ValueError: height, width or channels are not known.
        """
        *size, channels = self.sizes_of(input_shape)
        products = math.prod(size) * channels * self.filters
        mixed = self.kernel_size**2 * self.mixtures * channels * self.filters
        return (2 + self.kernel_size**2) * products + mixed + self.attention_multiply_adds(size)

    def get_config(self):
        return {
            **super().get_config(),
            **self.window_config(),
            "mixtures": self.mixtures,
            "pool_size": self.pool_size,
        }
