"""Self-attention over a window around each position, in the place of a convolution."""

import math

import keras
from keras import ops

from keras_fmm import checks
from keras_fmm.layers import kernel_arguments
from keras_fmm.layers.attention_in_window import AttentionInWindowMixin
from keras_fmm.layers.feature_map import FeatureMapLayer
from keras_fmm.layers.integer_form import IntegerFormMixin
from keras_fmm.ops import convolved, from_channels_last, to_channels_last
from keras_fmm.ops.pooling import average_pool
from keras_fmm.ops.self_attention.blocks import block_attention
from keras_fmm.ops.self_attention.choice import IN_WINDOW, attend_in_window


@keras.saving.register_keras_serializable(package="keras_fmm")
class LocalSelfAttention2D(IntegerFormMixin, AttentionInWindowMixin, FeatureMapLayer):
    """Lets every position attend to a window around it, as a convolution sees it.

    With the queries q, keys k and values v of a head, 1x1 convolutions of the map without biases::

        weights[i, j] = softmax(q[i, j] . (k[a, b] + r[a - i, b - j]))    over the window's (a, b)
        outputs[i, j] = sum of weights[i, j][a, b] * v[a, b]
        outputs = activation(average_pool(outputs, strides) + bias)

    r has the row's embedding in the first half of a head's channels and the column's in the second.

    Args:
        filters: int, from 2 to 65,535. How many channels the outputs have; a multiple of
            `num_heads`, and with "relative" positions of twice that.
        kernel_size: int or pair of equal int, default 7. The window's height and width; odd.
        num_heads: int, default 8. How many heads attend, each with channels of its own.
        strides: int or pair of int, default 1. The outputs are averaged over such windows, which
            gives the sizes of a convolution with these strides.
        positions: str or None, default "relative". "relative", or None: the order of the window's
            positions makes no difference.
        use_bias: bool, default False. Whether a bias is added to the outputs.
        mask_padding: bool, default True. Whether positions outside of the map have no weight.
            False: keys and values are 0 there, as some ports have it.
        implementation: str, default "auto". How it is computed; all give the same numbers up to
            rounding.

            - "auto": "blocks" where the map's sizes are known, else "shifts".
            - "shifts": the map shifted by each entry of the window in turn.
            - "blocks": matrix products of blocks of positions with all that they see; what lies
              outside of a window is left out. A map of sizes unknown when traced goes by shifts.

        padding: str, default "same". Must be "same".
        activation: str, callable or None, default None. Of the outputs.
        kernel_initializer: str or initializer, default "glorot_uniform". Of the three kernels.
        bias_initializer: str or initializer, default "zeros". Of the bias.
        kernel_regularizer: str, regularizer or None, default None. Of the three kernels.
        bias_regularizer: str, regularizer or None, default None. Of the bias.
        activity_regularizer: str, regularizer or None, default None. Of the outputs.
        kernel_constraint: str, constraint or None, default None. Of the three kernels.
        bias_constraint: str, constraint or None, default None. Of the bias.
        data_format: str or None, default None. "channels_last", "channels_first", or None for
            Keras' setting.
        **kwargs: the arguments of `keras.layers.Layer`.

    `query`, `key` and `value`, 1x1 convolutions, `row_embeddings` and `column_embeddings`
    `(kernel_size, num_heads, filters / num_heads / 2)`, from the least offset on, and `bias` are
    attributes of the built layer.

    Input shape:
        `(batch, height, width, channels)`, or as `data_format` says; all but the channels may be
        unknown.

    Output shape:
        As `keras.layers.Conv2D` with `padding="same"`. `attention_map` gives
        `(batch, queries, heads, kernel_size, kernel_size)`, of the windows before the strides.

    Example:

    >>> import keras
    >>> layer = LocalSelfAttention2D(64, strides=2)
    >>> layer(keras.Input((28, 28, 32))).shape
    (None, 14, 14, 64)

    Reference:
        Ramachandran, Parmar, Vaswani, Bello, Levskaya, Shlens, "Stand-Alone Self-Attention in
        Vision Models", equations 2 and 3. Differs from the paper, which does not say what lies
        outside of the map: no weight there.
        https://arxiv.org/abs/1906.05909
    """

    def __init__(
        self,
        filters,
        kernel_size=7,
        num_heads=8,
        strides=1,
        positions="relative",
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
        self.implementation = checks.one_of("implementation", implementation, ("auto", *IN_WINDOW))
        checks.positive_odd_integer("kernel_size", self.kernel_size)
        self.positions = checks.one_of("positions", positions, (None, "relative"))
        if self.positions and self.filters // self.num_heads % 2:
            raise ValueError(
                "A head must have an even number of channels, the first half for the rows' "
                f"positions, the second for the columns'. Received: filters={filters}, "
                f"num_heads={num_heads}. Give other heads, or `positions=None`."
            )
        if not isinstance(strides, (list, tuple)):
            strides = (strides, strides)
        self.strides = checks.pair("strides", strides, checks.SIDES)
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
        if self.positions:
            of_head = self.filters // self.num_heads
            for name in ("row_embeddings", "column_embeddings"):
                table = self.add_weight(
                    name=name,
                    shape=(self.kernel_size, self.num_heads, of_head // 2),
                    initializer=keras.initializers.RandomNormal(stddev=of_head**-0.5),
                )
                setattr(self, name, table)
        self.make_bias()

    def build_sublayers(self, channels):
        for name in ("query", "key", "value"):
            setattr(self, name, self.make_pointwise(channels, name))

    def call(self, inputs, training=None, return_attention_map=False, queries=None):
        inputs = self.cast_inputs(inputs)
        self.channels_of(inputs.shape)
        inputs = to_channels_last(inputs, self.data_format)
        query, key = convolved(self.query, inputs), convolved(self.key, inputs)
        if return_attention_map:
            return self.look(query, key, queries, *self._tables())
        arguments = (query, key, convolved(self.value, inputs), self.num_heads, self.kernel_size)
        if self._integer_bits:
            outputs = block_attention(
                *arguments, *self._tables(), mask_padding=self.mask_padding, divide_late=True
            )
        else:
            outputs = attend_in_window(
                *arguments,
                *self._tables(),
                mask_padding=self.mask_padding,
                implementation=self.implementation,
            )
        if self.strides != (1, 1):
            outputs = average_pool(outputs, self.strides, self.strides)
        return from_channels_last(self.finish(outputs), self.data_format)

    def _tables(self):
        if not self.positions:
            return None, None
        tables = self.row_embeddings, self.column_embeddings
        return tuple(ops.cast(table, self.compute_dtype) for table in tables)

    def compute_output_shape(self, input_shape):
        self.channels_of(input_shape)
        sizes = input_shape[1:3] if self.data_format == "channels_last" else input_shape[2:4]
        size = tuple(
            None if side is None else -(-side // stride)
            for side, stride in zip(sizes, self.strides, strict=True)
        )
        if self.data_format == "channels_last":
            return (input_shape[0], *size, self.filters)
        return (input_shape[0], self.filters, *size)

    def multiply_adds(self, input_shape):
        """Returns the multiply-adds of one image as the formula is written.

        Those of the three convolutions, of queries with keys and with the embeddings, and of
        weights with values, whether or not a position lies on the map. Pooling is not counted.
        `implementation` makes no difference here.

        Args:
            input_shape: tuple of 4, the batch first and ignored, the rest known.

        Raises:
            ValueError: height, width or channels are not known.
        """
        *size, channels = self.sizes_of(input_shape)
        cost = math.prod(size) * 3 * channels * self.filters + self.attention_multiply_adds(size)
        if self.positions:
            # Half of a head's channels with each row of the window, half with each column.
            cost += math.prod(size) * self.kernel_size * self.filters
        return cost

    def get_config(self):
        return {
            **super().get_config(),
            **self.window_config(),
            "strides": self.strides,
            "positions": self.positions,
        }
