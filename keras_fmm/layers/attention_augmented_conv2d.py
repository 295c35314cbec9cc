"""A convolution some of whose filters are self-attention over the whole map."""

import math

import keras
import numpy as np
from keras import ops

from keras_fmm import checks, protocols
from keras_fmm.layers import kernel_arguments
from keras_fmm.layers.attention_everywhere import AttentionEverywhereMixin
from keras_fmm.layers.feature_map import FeatureMapLayer
from keras_fmm.ops import convolved, from_channels_last, to_channels_last
from keras_fmm.ops.pooling import average_pool, resize

# The arguments that name what stands in the place of a convolution in the layer.
_PLACES = ("convolution", "qkv_convolution", "projection_convolution")


@keras.saving.register_keras_serializable(package="keras_fmm")
class AttentionAugmentedConv2D(AttentionEverywhereMixin, FeatureMapLayer):
    """Concatenates a convolution and self-attention over the whole map.

    With dk and dv the depths of keys and values of all heads::

        q, k, v = qkv(x)                          a 1x1 convolution to 2 dk + dv, with the strides
        outputs = [conv(x), projection(attention(q, k, v))]     filters - dv and dv channels
        outputs = activation(outputs + bias)

    The attention is that of `RelativeSelfAttention2D`.

    Args:
        filters: int, from 2 to 65,535. How many channels the outputs have.
        kernel_size: int or pair of int, each side from 1 to 255. The height and width of the
            convolution's kernel.
        strides: int or pair of int, default (1, 1). By how much the kernel moves; the attention
            sees each such position of the map alone.
        padding: str, default "same". Must be "same": with "valid" the convolution and the
            attention, which needs no padding, would differ in size.
        data_format: str or None, default None. "channels_last", "channels_first", or None for
            Keras' setting.
        dilation_rate: int or pair of int, default (1, 1). How far the kernel's entries are apart.
        groups: int, default 1. The groups of channels that the convolution keeps apart; divides
            the channels and `filters - dv`.
        activation: str, callable or None, default None. Of the outputs.
        use_bias: bool, default True. Whether a bias is added to the outputs; the convolutions have
            none of their own.
        kernel_initializer: str or initializer, default "glorot_uniform". Of the three kernels.
        bias_initializer: str or initializer, default "zeros". Of the bias.
        kernel_regularizer: str, regularizer or None, default None. Of the three kernels.
        bias_regularizer: str, regularizer or None, default None. Of the bias.
        activity_regularizer: str, regularizer or None, default None. Of the outputs.
        kernel_constraint: str, constraint or None, default None. Of the three kernels.
        bias_constraint: str, constraint or None, default None. Of the bias.
        num_heads: int, default 8. How many heads attend.
        key_ratio: float, default 0.2. dk is `round(key_ratio * filters / num_heads) * num_heads`,
            but at least `min_key_dim` a head.
        value_ratio: float, default 0.1. dv is `round(value_ratio * filters / num_heads) *
            num_heads`; at least one a head, and less than `filters`.
        min_key_dim: int, default 20. The least channels of a head's keys, as far as `key_ratio`
            says how many.
        key_dim: int or None, default None. The channels of a head's keys, in the place of
            `key_ratio` and `min_key_dim`.
        value_dim: int or None, default None. The channels of a head's values, in the place of
            `value_ratio`.
        positions: str or None, default "relative". What tells positions apart, as of
            `RelativeSelfAttention2D`: None, "relative", "sinusoidal", "coordinates" or "absolute".
        position_size: int, pair of int or None, default None. The height and width that the tables
            are for: of the map that is attended to, behind strides and `attention_pool`, or for
            "absolute" of the one that `qkv` convolves. None: the map's when the layer is built.
        interpolate_positions: bool, default True. Whether a larger map has the tables
            interpolated; False: it is refused. As of `RelativeSelfAttention2D`.
        attention_pool: int or None, default None. 2 averages the map over windows of 3x3 with a
            stride of 2 before the attention, which then holds a sixteenth of the weights, and
            resizes what it gives bilinearly to the convolution's size; n takes windows of 2n - 1
            and a stride of n.
        implementation: str, default "auto". How the attention is computed, as of
            `RelativeSelfAttention2D`.
        convolution: str, callable or None, default None. What stands in the place of `conv`: a
            name or callable as of `layers.get_convolution`, such as "aw". It is given filters,
            kernel size, strides, padding, `use_bias=False` and a name, and has else its own
            defaults. A callable must be registered with Keras to be saved.
        qkv_convolution: str, callable or None, default None. The same, in the place of `qkv`.
        projection_convolution: str, callable or None, default None. The same, in the place of
            `projection`.
        **kwargs: the arguments of `keras.layers.Layer`.

    `conv`, `qkv` (queries, keys, values in this order, in each one head after the other),
    `projection`, `bias`, `row_embeddings` (2H-1, key_dim) and `column_embeddings` (2W-1, key_dim)
    are attributes of the built layer; offset `j - i` has the row `j - i + H - 1`.

    Input shape:
        `(batch, height, width, channels)`, or as `data_format` says; all but the channels may be
        unknown where `position_size` is given or `positions` has no table.

    Output shape:
        As `keras.layers.Conv2D` with `padding="same"`. `attention_map` gives
        `(batch, queries, heads, height, width)` of the map that is attended to.

    Example:

    >>> import keras
    >>> layer = AttentionAugmentedConv2D(64, 3, strides=2)
    >>> layer(keras.Input((28, 28, 32))).shape
    (None, 14, 14, 64)
    >>> tuple(layer.row_embeddings.shape)
    (27, 20)

    Reference:
        Bello, Zoph, Vaswani, Shlens, Le, "Attention Augmented Convolutional Networks", equations 1
        to 6 and section 4. Differs from the paper: maps of other sizes than the tables'.
        https://arxiv.org/abs/1904.09925
    """

    def __init__(
        self,
        filters,
        kernel_size,
        strides=(1, 1),
        padding="same",
        data_format=None,
        dilation_rate=(1, 1),
        groups=1,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        num_heads=8,
        key_ratio=0.2,
        value_ratio=0.1,
        min_key_dim=20,
        key_dim=None,
        value_dim=None,
        positions="relative",
        position_size=None,
        interpolate_positions=True,
        attention_pool=None,
        implementation="auto",
        convolution=None,
        qkv_convolution=None,
        projection_convolution=None,
        **kwargs,
    ):
        super().__init__(
            data_format=data_format,
            activity_regularizer=checks.of_keras(activity_regularizer=activity_regularizer),
            **kwargs,
        )
        self.filters = checks.positive_integer("filters", filters, checks.CHANNELS)
        self.use_bias = checks.flag("use_bias", use_bias)
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
        self.keep_attention(
            num_heads, positions, position_size, interpolate_positions, implementation
        )
        self._keep_depths(key_ratio, value_ratio, min_key_dim, key_dim, value_dim)
        self.padding = str(padding).lower()
        if self.padding != "same":
            raise ValueError(
                '`padding` must be "same": with another the convolution would be smaller than the '
                f"attention, which needs no padding. Received: padding={padding!r}"
            )
        self._keep_kernel(kernel_size, strides, dilation_rate, groups)
        if attention_pool is not None:
            attention_pool = checks.integer(
                "attention_pool", attention_pool, "None or an integer from 2 to 127", 2, 128
            )
        self.attention_pool = attention_pool
        given = (convolution, qkv_convolution, projection_convolution)
        for name, choice in zip(_PLACES, given, strict=True):
            if isinstance(choice, dict):
                choice = keras.saving.deserialize_keras_object(choice)
            setattr(self, name, choice)
            self._maker(name)
        is_plain = set(self.dilation_rate) == {1} and self.groups == 1
        if self.convolution is not None and not is_plain:
            raise ValueError(
                "With `convolution` the layer must have neither `dilation_rate` nor `groups`, "
                f"which not every convolution takes. Received: convolution={convolution!r}, "
                f"dilation_rate={dilation_rate}, groups={groups}. Let a callable set them."
            )

    def _keep_depths(self, key_ratio, value_ratio, min_key_dim, key_dim, value_dim):
        """Keeps these arguments, and the channels of a head's keys and values."""
        self.key_ratio = _ratio("key_ratio", key_ratio)
        self.value_ratio = _ratio("value_ratio", value_ratio)
        self.min_key_dim = checks.positive_integer("min_key_dim", min_key_dim, checks.CHANNELS)
        for name, value in (("key_dim", key_dim), ("value_dim", value_dim)):
            if value is not None:
                value = checks.positive_integer(name, value, checks.CHANNELS)
            setattr(self, name, value)
        of_head = self.filters / self.num_heads
        self._key_dim = self.key_dim or max(round(self.key_ratio * of_head), self.min_key_dim)
        self._value_dim = self.value_dim or round(self.value_ratio * of_head)
        values = self._value_dim * self.num_heads
        if not 0 < values < self.filters:
            raise ValueError(
                "The attention must have at least one channel of values a head, and fewer in all "
                f"than `filters`. Received: filters={self.filters}, num_heads={self.num_heads}, "
                f"value_ratio={value_ratio}, value_dim={value_dim}, which gives {values}. Give "
                "another `value_dim`, the channels of a head, or fewer heads."
            )

    def _keep_kernel(self, kernel_size, strides, dilation_rate, groups):
        """Keeps what Keras' convolution makes of these arguments, which says what is wrong."""
        groups = checks.positive_integer("groups", groups, checks.CHANNELS)
        values = self._value_dim * self.num_heads
        checks.divides("groups", groups, self.filters - values, "the filters of the convolution")
        plain = keras.layers.Conv2D(
            self.filters - values,
            kernel_size,
            strides=strides,
            dilation_rate=dilation_rate,
            groups=groups,
            name="conv",
        )
        self.groups = groups
        for name in ("kernel_size", "strides", "dilation_rate"):
            sides = getattr(plain, name)
            for side in sides:
                checks.positive_integer(name, side, checks.SIDES)
            setattr(self, name, sides)

    def build(self, input_shape):
        super().build(input_shape)
        size, channels = self.map_of(input_shape)
        size = _strided(size, (self.attention_pool or 1,) * 2)
        self.make_positions(size, channels, _strided(size, self.strides), self._key_dim)
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.filters,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def build_sublayers(self, channels):
        if self.groups > 1:
            checks.divides("groups", self.groups, channels, "the input channels")
        for name, (seen, _, _) in self._places(channels).items():
            layer = self.make_sublayer(
                lambda trainable, dtype, name: self._convolution(name, trainable, dtype),
                (None, None, None, seen),
                name=name,
            )
            setattr(self, name, layer)

    def _places(self, channels):
        """Returns channels, filters and strides of the three convolutions, by their names."""
        _, _, values = depths = self._depths()
        return {
            "conv": (channels, self.filters - values, self.strides),
            "qkv": (self.seen_channels(channels), sum(depths), self.strides),
            "projection": (values, values, (1, 1)),
        }

    def _depths(self):
        """Returns how many channels queries, keys and values have, of all heads."""
        keys = self._key_dim * self.num_heads
        return keys, keys, self._value_dim * self.num_heads

    def _maker(self, argument):
        """Returns what makes the convolution that an argument names."""
        # Which knows this layer too.
        from keras_fmm.layers.registry import get_convolution

        return get_convolution(getattr(self, argument))

    def _convolution(self, name, trainable=True, dtype=None):
        """Returns a fresh convolution for one of the three places."""
        argument = "convolution" if name == "conv" else f"{name}_convolution"
        _, filters, strides = self._places(1)[name]
        arguments = {"use_bias": False}
        if getattr(self, argument) is None:
            arguments = kernel_arguments.of_sublayer(self, use_bias=False)
            if name == "conv":
                arguments |= {"dilation_rate": self.dilation_rate, "groups": self.groups}
        layer = self._maker(argument)(
            filters=filters,
            kernel_size=self.kernel_size if name == "conv" else 1,
            strides=strides,
            padding="same",
            name=name,
            **arguments,
        )
        layer.trainable = trainable
        if dtype is not None:
            layer.dtype_policy = dtype
        if hasattr(layer, "data_format"):
            layer.data_format = "channels_last"
        return layer

    def call(self, inputs, training=None, return_attention_map=False, queries=None):
        inputs = self.cast_inputs(inputs)
        self.channels_of(inputs.shape)
        inputs = to_channels_last(inputs, self.data_format)
        x = inputs if self.attention_pool is None else average_pool(inputs, self.attention_pool)
        x = convolved(self.qkv, self.with_positions(x), self.strides)
        if return_attention_map:
            return self.look(x, self._depths(), queries)
        outputs = convolved(self.conv, inputs, self.strides)
        attended = convolved(self.projection, self.attend(x, self._depths()))
        if self.attention_pool is not None:
            attended = resize(attended, ops.shape(outputs)[1:3])
        outputs = ops.concatenate([outputs, attended], axis=3)
        if self.use_bias:
            outputs = outputs + ops.cast(self.bias, outputs.dtype)
        if self.activation is not None:
            outputs = self.activation(outputs)
        return from_channels_last(outputs, self.data_format)

    def start_near_convolution(self, kernel, bias=None):
        """Sets the weights of a built layer to those of a convolution, as far as it is one.

        The first `filters - dv` channels are the convolution's. The others start as the mean over
        the map of what the convolution gives there, each entry of the kernel seeing all of the
        map: no attention can tell one position exactly. For that the queries are 0, the values the
        sums of the kernel's entries, and the projection the identity. With "sinusoidal" and
        "absolute" positions a mean of these comes to it.

        Args:
            kernel: array or tensor `(height, width, channels, filters)`.
            bias: array, tensor `(filters,)` or None, default None. Must be None with
                `use_bias=False`, and given otherwise.

        Returns:
            int, `filters - dv`.

        Raises:
            ValueError: the layer is not built, a shape differs, `bias` is given without `use_bias`
                or not given with it, or another layer than a convolution stands in a place.

        Example:

        >>> import keras, numpy as np
        >>> kernel, x = np.random.rand(3, 3, 4, 8), np.random.rand(1, 6, 6, 4)
        >>> layer = AttentionAugmentedConv2D(8, 3, num_heads=2, value_dim=1, use_bias=False)
        >>> layer.build(x.shape)
        >>> layer.start_near_convolution(kernel)
        6
        """
        if not self.built:
            raise ValueError(
                "Only a built layer can start near a convolution. "
                f"Received: the layer {self.name!r}. Call it, or its `build`, first."
            )
        if (bias is not None) != self.use_bias:
            raise ValueError(
                "`bias` must be given with `use_bias=True`, and only then. "
                f"Received: bias={bias!r}, use_bias={self.use_bias}"
            )
        others = [x for x in (self.qkv, self.projection) if type(x) is not keras.layers.Conv2D]
        is_plain = type(self.conv) is keras.layers.Conv2D and self.groups == 1
        if others or not (is_plain or isinstance(self.conv, protocols.ReplacesConvolution)):
            raise ValueError(
                "Only convolutions of one group, or beside the attention what can start as one, "
                f"start near a convolution. Received: the layer {self.name!r} with {self.conv!r}, "
                f"{self.qkv!r} and {self.projection!r}."
            )
        kernel = checks.real_array("kernel", kernel)
        keys, _, values = self._depths()
        beside = self.filters - values
        if is_plain:
            self.conv.kernel.assign(kernel[..., :beside])
        else:
            self.conv.start_as_convolution(kernel[..., :beside])
        qkv = np.array(ops.convert_to_numpy(self.qkv.kernel))
        qkv[..., :keys] = 0
        qkv[..., 2 * keys :] = 0
        qkv[0, 0, : kernel.shape[2], 2 * keys :] = kernel[..., beside:].sum(axis=(0, 1))
        self.qkv.kernel.assign(qkv)
        self.projection.kernel.assign(np.eye(values)[None, None])
        if bias is not None:
            # A copy: on JAX two variables of one array lose it when either is trained.
            self.bias.assign(ops.copy(bias))
        return beside

    def compute_output_shape(self, input_shape):
        self.channels_of(input_shape)
        size, _ = self.map_of(input_shape)
        size = _strided(size, self.strides)
        if self.data_format == "channels_last":
            return (input_shape[0], *size, self.filters)
        return (input_shape[0], self.filters, *size)

    def multiply_adds(self, input_shape):
        """Returns the multiply-adds of one image as the formula is written.

        Those of the three convolutions, of queries with keys and with the tables' rows, and of
        weights with values. Pooling and resizing are not counted. `implementation` makes no
        difference here.

        Args:
            input_shape: tuple of 4, the batch first and ignored, the rest known.

        Raises:
            ValueError: height, width or channels are not known.
        """
        *size, channels = self.sizes_of(input_shape)
        pooled = _strided(size, (self.attention_pool or 1,) * 2)
        attended = _strided(pooled, self.strides)
        cost = self.attention_multiply_adds(attended, self._depths())
        sizes = {"conv": size, "qkv": pooled, "projection": attended}
        for name, (seen, filters, strides) in self._places(channels).items():
            layer = self._convolution(name)
            if type(layer) is keras.layers.Conv2D:
                kernel = math.prod(layer.kernel_size) * seen // layer.groups
                cost += math.prod(_strided(sizes[name], strides)) * kernel * filters
            elif isinstance(layer, protocols.HasCost):
                cost += layer.multiply_adds((None, *sizes[name], seen))
            else:
                raise ValueError(
                    "The cost of what stands in a convolution's place must be known. Received: a "
                    f"{type(layer).__name__} in the place of {name!r}. Give the class a method "
                    "`multiply_adds(input_shape)`."
                )
        return cost

    def get_config(self):
        config = super().get_config() | self.attention_config() | kernel_arguments.serialized(self)
        names = (
            "filters kernel_size strides padding dilation_rate groups use_bias key_ratio "
            "value_ratio min_key_dim key_dim value_dim attention_pool"
        )
        config |= {name: getattr(self, name) for name in names.split()}
        config["activation"] = keras.activations.serialize(self.activation)
        config |= kernel_arguments.serialized(self, ["activity_regularizer"])
        for name in _PLACES:
            choice = getattr(self, name)
            is_name = choice is None or isinstance(choice, str)
            config[name] = choice if is_name else keras.saving.serialize_keras_object(choice)
        return config


def _ratio(name, value):
    found = checks.number(name, value)
    if not 0 < found <= 1:
        raise ValueError(f"`{name}` must be above 0 and at most 1. Received: {name}={value!r}")
    return found


def _strided(size, strides):
    """Returns the size of what a stride leaves of a map; of None it leaves None."""
    return tuple(
        None if side is None else -(-side // stride)
        for side, stride in zip(size, strides, strict=True)
    )
