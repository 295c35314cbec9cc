"""Self-attention over all positions of a map, told apart by where they lie to each other."""

import keras

from keras_fmm import checks
from keras_fmm.layers import kernel_arguments
from keras_fmm.layers.attention_everywhere import AttentionEverywhereMixin
from keras_fmm.layers.feature_map import FeatureMapLayer
from keras_fmm.ops import from_channels_last, to_channels_last


@keras.saving.register_keras_serializable(package="keras_fmm")
class RelativeSelfAttention2D(AttentionEverywhereMixin, FeatureMapLayer):
    """Lets every position of a map attend to every position, as `MultiHeadAttention` of the map.

    With the queries q, keys k and values v of a head, d (`key_dim`) the size of a query::

        q, k, v = qkv(x)
        weights[i, j] = softmax(q[i, j] . (k[a, b] + rows[a - i] + columns[b - j]) / sqrt(d))
        outputs = projection(concatenate over heads of sum of weights[i, j][a, b] * v[a, b])

    Args:
        num_heads: int, at least 1. How many heads attend, each with channels of its own.
        key_dim: int, at least 1. The channels of a head's queries and keys.
        value_dim: int or None, default None. The channels of a head's values; None: `key_dim`.
        positions: str or None, default "relative". What tells positions apart.

            - None: nothing; the outputs follow any exchange of positions.
            - "relative": learned rows for the offsets, `row_embeddings` (2H-1, `key_dim`) and
              `column_embeddings` (2W-1, `key_dim`), shared by the heads; offset `a - i` has the row
              `a - i + H - 1`. Two positions weigh each other alike wherever on the map they are.
            - "sinusoidal": sines and cosines of row and column are added to the inputs.
            - "coordinates": row and column from -1 to 1, and the distance from the centre, are
              three more channels of the inputs.
            - "absolute": learned rows are added to the inputs, `row_embeddings` (H, channels) and
              `column_embeddings` (W, channels).

        position_size: int, pair of int or None, default None. H and W of the tables; None: the
            map's when the layer is built. A smaller map has the centre of the tables: the same
            offset, the same row.
        interpolate_positions: bool, default True. Whether a larger map has the tables
            interpolated; False: it is refused. Weights of another size are loaded alike, so that
            the layer says what the saved one would say on its maps.
        implementation: str, default "auto". How it is computed; all give the same numbers up to
            rounding.

            - "auto": by backend and size one of the next two; "plain" where a size is not known
              when traced.
            - "plain": the formula said plainly. Training holds a few numbers for each head and pair
              of positions.
            - "parts": some heads of one sample after the others, computed again for the gradient;
              one head where a size is not known. Single samples are computed as "plain".

        use_bias: bool, default True. Whether `qkv` and `projection` have biases.
        kernel_initializer: str or initializer, default "glorot_uniform". Of both kernels.
        bias_initializer: str or initializer, default "zeros". Of both biases.
        kernel_regularizer: str, regularizer or None, default None. Of both kernels.
        bias_regularizer: str, regularizer or None, default None. Of both biases.
        kernel_constraint: str, constraint or None, default None. Of both kernels.
        bias_constraint: str, constraint or None, default None. Of both biases.
        data_format: str or None, default None. "channels_last", "channels_first", or None for
            Keras' setting.
        **kwargs: the arguments of `keras.layers.Layer`.

    `qkv` (queries, keys, values in this order, in each one head after the other) and `projection`,
    of class `keras.layers.Dense`, are attributes of the built layer, as are the tables.

    Input shape:
        `(batch, height, width, channels)`, or as `data_format` says; all but the channels may be
        unknown where `position_size` is given or `positions` has no table.

    Output shape:
        As the input's. `attention_map` gives `(batch, queries, heads, height, width)`.

    Example:

    >>> import keras
    >>> layer = RelativeSelfAttention2D(num_heads=2, key_dim=8)
    >>> layer(keras.Input((14, 14, 16))).shape
    (None, 14, 14, 16)
    >>> layer.attention_map(keras.Input((14, 14, 16)), queries=[(0, 0), (7, 7)]).shape
    (None, 2, 2, 14, 14)

    Reference:
        Bello, Zoph, Vaswani, Shlens, Le, "Attention Augmented Convolutional Networks", equations 1
        to 5. Differs from the paper: biases, unless `use_bias=False`; maps of other sizes than the
        tables'; "absolute" is ours.
        https://arxiv.org/abs/1904.09925
    """

    def __init__(
        self,
        num_heads,
        key_dim,
        value_dim=None,
        positions="relative",
        position_size=None,
        interpolate_positions=True,
        implementation="auto",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        data_format=None,
        **kwargs,
    ):
        super().__init__(data_format=data_format, **kwargs)
        self.keep_attention(
            num_heads, positions, position_size, interpolate_positions, implementation
        )
        self.key_dim = checks.positive_integer("key_dim", key_dim, checks.CHANNELS)
        if value_dim is not None:
            value_dim = checks.positive_integer("value_dim", value_dim, checks.CHANNELS)
        self.value_dim = value_dim
        self.use_bias = checks.flag("use_bias", use_bias)
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
        size, channels = self.map_of(input_shape)
        self.make_positions(size, channels, size, self.key_dim)

    def build_sublayers(self, channels):
        _, _, values = depths = self._depths()
        self.qkv = self._pointwise(self.seen_channels(channels), sum(depths), "qkv")
        self.projection = self._pointwise(values, channels, "projection")

    def _depths(self):
        """Returns how many channels queries, keys and values have, of all heads."""
        depth = self.num_heads * self.key_dim
        return depth, depth, self.num_heads * (self.value_dim or self.key_dim)

    def _pointwise(self, channels, filters, name):
        return self.make_sublayer(
            keras.layers.Dense,
            (None, None, None, channels),
            units=filters,
            name=name,
            **kernel_arguments.of_sublayer(self, self.use_bias),
        )

    def call(self, inputs, training=None, return_attention_map=False, queries=None):
        inputs = self.cast_inputs(inputs)
        self.channels_of(inputs.shape)
        inputs = to_channels_last(inputs, self.data_format)
        x = self.qkv(self.with_positions(inputs))
        if return_attention_map:
            return self.look(x, self._depths(), queries)
        # On PyTorch a Dense of float64 gives float32 (Keras 3.15.1).
        outputs = self.projection(self.attend(x, self._depths()))
        outputs = keras.ops.cast(outputs, self.compute_dtype)
        return from_channels_last(outputs, self.data_format)

    def multiply_adds(self, input_shape):
        """Returns the multiply-adds of one image as the formula is written.

        Those of `qkv` and `projection`, of queries with keys and with the tables' rows, and of
        weights with values. `implementation` makes no difference here.

        Args:
            input_shape: tuple of 4, the batch first and ignored, the rest known.

        Raises:
            ValueError: height, width or channels are not known.
        """
        height, width, channels = self.sizes_of(input_shape)
        _, _, values = depths = self._depths()
        pointwise = self.seen_channels(channels) * sum(depths) + values * channels
        return height * width * pointwise + self.attention_multiply_adds((height, width), depths)

    def get_config(self):
        return {
            **super().get_config(),
            **self.attention_config(),
            **kernel_arguments.serialized(self),
            "key_dim": self.key_dim,
            "value_dim": self.value_dim,
            "use_bias": self.use_bias,
        }
