"""AW-convolution: a convolution whose kernel is gated by attention, sample by sample."""

import math

import keras
from keras import ops

from keras_fmm import checks
from keras_fmm.layers.attention_map import AttentionMapMixin
from keras_fmm.layers.batch_norm import BatchNorm
from keras_fmm.layers.feature_map import FeatureMapMixin
from keras_fmm.layers.integer_form import IntegerFormMixin
from keras_fmm.ops import (
    IMPLEMENTATIONS,
    adaptive_average_pool,
    factored_conv,
    fastest,
    from_channels_last,
    to_channels_last,
)


@keras.saving.register_keras_serializable(package="keras_fmm")
class AWConv2D(IntegerFormMixin, FeatureMapMixin, AttentionMapMixin, keras.layers.Conv2D):
    """Convolves each sample with its own kernel `K + A(x) * K`, gated by attention.

    With a kernel of h x w, C1 input channels and C2 filters (`filters`)::

        A0 = adaptive_average_pool(x)                     (N, h/r_hw, w/r_hw, C1)
        A1 = relu(batch_norm1(pointwise_conv1(A0)))       (N, h/r_hw, w/r_hw, max(1, C1 // r))
        A2 = sigmoid(batch_norm2(pointwise_conv2(A1)))    (N, h/r_hw, w/r_hw, C2/r_C2 * C1/r_C1)
        A  = expand(A2)                                   (N, h, w, C1, C2)
        outputs[n] = activation(conv(x[n], K + A[n] * K) + bias)

    The channels of A2 are read as C2/r_C2 rows of C1/r_C1; `expand` repeats each entry r_C1, r_C2
    and r_hw times consecutively along the input channels, the filters and both sides of the
    kernel.

    Args:
        filters: int, from 1 to 65,535. How many channels the outputs have.
        kernel_size: int or pair of int, each side from 1 to 255. The kernel's height and width.
        strides: int or pair of int, default (1, 1). By how much the kernel moves.
        padding: str, default "valid". "valid" or "same".
        data_format: str or None, default None. "channels_last", "channels_first", or None for
            Keras' setting.
        dilation_rate: int or pair of int, default (1, 1). How far the kernel's entries are apart.
        groups: int, default 1. Must be 1; it is there to keep the places of Conv2D's arguments.
        activation: str, callable or None, default None. Of the outputs.
        use_bias: bool, default True. Whether a bias is added.
        kernel_initializer: str or initializer, default "glorot_uniform". Of K; this and the next
            six leave the attention's weights alone.
        bias_initializer: str or initializer, default "zeros". Of the bias.
        kernel_regularizer: str, regularizer or None, default None. Of K.
        bias_regularizer: str, regularizer or None, default None. Of the bias.
        activity_regularizer: str, regularizer or None, default None. Of the outputs.
        kernel_constraint: str, constraint or None, default None. Of K.
        bias_constraint: str, constraint or None, default None. Of the bias.
        reduction: int, default 16. The paper's r, at least 1: A1 has `max(1, C1 // r)` channels.
        input_reduction: int or None, default None. The paper's r_C1, which divides C1; None is C1,
            the paper's setting in all its experiments.
        output_reduction: int, default 1. The paper's r_C2, which divides `filters`.
        kernel_reduction: int, default 1. The paper's r_hw, which divides both sides of the kernel.
        attention_activation: str or callable, default "sigmoid". The activation of the attention.
        use_residual: bool, default True. False takes the kernel `A(x) * K`.
        implementation: str, default "auto". How the convolution is computed; all give the same
            numbers up to rounding.

            - "auto": `ops.fastest` chooses, by the sizes, between the next two; on PyTorch, and on
              a GPU or TPU with JAX, between the next and the last.
            - "factored": a matrix product for each tap of the kernel, its output multiplied: as
              many multiplications as one plain convolution, and no kernel for each sample. With
              `input_reduction` below C1 the taps of each group of channels by themselves.
              Training holds what each tap sees and gives, twice the kernel's area times a map, but
              for large maps on TensorFlow, see `ops.factored_conv`.
            - "loop": sample by sample, or a few small ones at a time. Holds the kernels of two such
              steps, in training too.
            - "vectorized_map": the formula said plainly, the reference. Training holds
              `batch * size of kernel`; on TensorFlow it cannot be trained with
              `jit_compile=True`.

        synchronized: bool, default False. Whether the batch norms take their statistics over all
            replicas; True on the TensorFlow backend only.
        **kwargs: the arguments of `keras.layers.Layer`.

    `enable_lora` (of `keras.layers.Conv2D`) freezes the kernel and leaves the attention trainable.

    `pointwise_conv1`, `batch_norm1`, `pointwise_conv2`, `batch_norm2`, `kernel` and `bias` are
    attributes of the built layer; its weights are, in order, kernel, bias and those of the four.

    Input shape:
        `(batch, height, width, channels)`, or as `data_format` says; all but the channels may be
        unknown.

    Output shape:
        As `keras.layers.Conv2D`. `attention_map` gives A before it is expanded along the input
        channels, `(batch, h, w, C1 / r_C1, filters)`.

    The batch norms see `batch * h/r_hw * w/r_hw` values a channel. With one such value (a 1x1
    kernel and one image a replica) the attention is the same for every input in training; give
    more images a replica, or `synchronized=True`. A replica without an image leaves them as they
    are.

    Example:

    >>> import keras
    >>> layer = AWConv2D(32, 3, padding="same", reduction=4)
    >>> layer(keras.Input((28, 28, 16))).shape
    (None, 28, 28, 32)
    >>> layer.compute_output_shape((8, 14, 14, 16))
    (8, 14, 14, 32)

    Reference:
        Zhu, Hofstee, Lee, Al-Ars, "An Attention Module for Convolutional Neural Networks",
        equations 4 to 8. Differs from the paper: `kernel_reduction` is our reading of r_hw (pool
        to h/r_hw x w/r_hw, repeat each cell), `expand` along the batch is not offered, and the
        epsilon and momentum of the batch norms, 1e-5 and 0.9, are ours.
        https://arxiv.org/abs/2108.08205
    """

    def __init__(
        self,
        filters,
        kernel_size,
        strides=(1, 1),
        padding="valid",
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
        reduction=16,
        input_reduction=None,
        output_reduction=1,
        kernel_reduction=1,
        attention_activation="sigmoid",
        use_residual=True,
        implementation="auto",
        synchronized=False,
        **kwargs,
    ):
        if checks.positive_integer("groups", groups) != 1:
            raise ValueError(
                "AWConv2D convolves all input channels together, so `groups` must be 1. "
                f"Received: groups={groups}"
            )
        super().__init__(
            filters=checks.positive_integer("filters", filters, checks.CHANNELS),
            kernel_size=kernel_size,
            strides=strides,
            padding=checks.one_of("padding", str(padding).lower(), ("valid", "same")),
            data_format=checks.data_format(data_format),
            dilation_rate=dilation_rate,
            activation=checks.of_keras(activation=activation),
            use_bias=checks.flag("use_bias", use_bias),
            kernel_initializer=checks.of_keras(kernel_initializer=kernel_initializer),
            bias_initializer=checks.of_keras(bias_initializer=bias_initializer),
            kernel_regularizer=checks.of_keras(kernel_regularizer=kernel_regularizer),
            bias_regularizer=checks.of_keras(bias_regularizer=bias_regularizer),
            activity_regularizer=checks.of_keras(activity_regularizer=activity_regularizer),
            kernel_constraint=checks.of_keras(kernel_constraint=kernel_constraint),
            bias_constraint=checks.of_keras(bias_constraint=bias_constraint),
            **kwargs,
        )
        for argument in ("kernel_size", "strides", "dilation_rate"):
            for side in getattr(self, argument):
                checks.positive_integer(argument, side, checks.SIDES)
        # build says what is wrong with an input in one wording for all layers.
        self.input_spec = None
        self.reduction = checks.positive_integer("reduction", reduction)
        if input_reduction is not None:
            input_reduction = checks.positive_integer("input_reduction", input_reduction)
        self.input_reduction = input_reduction
        self.output_reduction = checks.divides(
            "output_reduction",
            checks.positive_integer("output_reduction", output_reduction),
            self.filters,
            "the filters",
        )
        self.kernel_reduction = checks.positive_integer("kernel_reduction", kernel_reduction)
        for size in self.kernel_size:
            checks.divides("kernel_reduction", kernel_reduction, size, "both sides of the kernel")
        self.attention_activation = checks.of_keras(attention_activation=attention_activation)
        self.use_residual = checks.flag("use_residual", use_residual)
        self.implementation = checks.one_of(
            "implementation", implementation, ("auto", *IMPLEMENTATIONS)
        )
        self.synchronized = checks.flag("synchronized", synchronized)

    def build(self, input_shape):
        channels = self.channels_of(input_shape)
        self._groups = self._attention_groups(channels)
        hidden = max(1, channels // self.reduction)
        entries = self._groups * self.filters // self.output_reduction
        self.pointwise_conv1 = self._pointwise_conv(channels, hidden, "pointwise_conv1")
        self.batch_norm1 = self._batch_norm(hidden, "batch_norm1")
        self.pointwise_conv2 = self._pointwise_conv(hidden, entries, "pointwise_conv2")
        self.batch_norm2 = self._batch_norm(entries, "batch_norm2")

        # Last: with `lora_rank` it lets no more sub-layers be made.
        super().build(input_shape)
        self.expect_channels(channels)

    def _attention_groups(self, channels):
        """Returns C1 / r_C1, the groups of input channels that the attention tells apart."""
        if self.input_reduction is None:
            return 1
        return channels // checks.divides(
            "input_reduction", self.input_reduction, channels, "the input channels"
        )

    def _pointwise_conv(self, channels, filters, name):
        # On a list of cells; faster there than a convolution.
        return self.make_sublayer(
            keras.layers.Dense,
            (None, channels),
            units=filters,
            use_bias=False,
            name=name,
        )

    def _batch_norm(self, channels, name):
        return self.make_sublayer(
            BatchNorm,
            (None, channels),
            momentum=0.9,
            epsilon=1e-5,
            synchronized=self.synchronized,
            name=name,
        )

    def compute_attention_map(self, inputs, training):
        """Returns A before Expand along the input channels, from channels-last inputs."""
        grid = [size // self.kernel_reduction for size in self.kernel_size]
        x = adaptive_average_pool(inputs, grid)
        x = ops.reshape(x, (-1, x.shape[-1]))
        x = self.batch_norm1(self.pointwise_conv1(x), training=training)
        x = self.batch_norm2(self.pointwise_conv2(ops.relu(x)), training=training)
        x = self.attention_activation(ops.reshape(x, (-1, *grid, x.shape[-1])))
        rows_of_filters = self.filters // self.output_reduction
        if self._groups == 1:
            x = ops.reshape(x, (-1, *grid, 1, rows_of_filters))
        else:
            x = ops.reshape(x, (-1, *grid, rows_of_filters, self._groups))
            x = ops.transpose(x, (0, 1, 2, 4, 3))
        for axis, repeats in (
            (1, self.kernel_reduction),
            (2, self.kernel_reduction),
            (4, self.output_reduction),
        ):
            if repeats > 1:
                x = ops.repeat(x, repeats, axis=axis)
        return x

    def call(self, inputs, training=None, return_attention_map=False):
        inputs = self.cast_inputs(inputs)
        self.channels_of(inputs.shape)
        inputs = to_channels_last(inputs, self.data_format)
        attention = self.compute_attention_map(inputs, training)
        if return_attention_map:
            return attention
        gain = attention + 1 if self.use_residual else attention
        if max(self.kernel_size) > 1 and set(self.kernel_size) == {self.kernel_reduction}:
            # The same for all entries of the kernel.
            gain = gain[:, :1, :1]
        outputs = self._convolve(inputs, gain)
        if self.activation is not None:
            outputs = self.activation(outputs)
        return from_channels_last(outputs, self.data_format)

    def _convolve(self, inputs, gain):
        """Convolves with each sample's kernel times its gain, adds the bias; channels last."""
        how = (self.strides, self.padding, self.dilation_rate)
        name = self.implementation
        bias = self.bias if self.use_bias else None
        # Where `input_reduction` tells channels apart there is no one sum.
        if self._integer_bits in (8, 16) and gain.shape[3] == 1:
            return factored_conv(inputs, self.kernel, gain, *how, bias, one_sum=True)
        if inputs.shape[0] == 0:
            # There are no samples to go through, and all give the same.
            name = "factored"
        if name == "auto":
            shapes = inputs.shape, self.kernel.shape, gain.shape
            name = fastest(*shapes, *how, dtype=self.compute_dtype)
        return IMPLEMENTATIONS[name](inputs, self.kernel, gain, *how, bias)

    def start_as_convolution(self, kernel, bias=None):
        """Sets the weights of a built layer so that it is the plain convolution of this kernel.

        For a convolution of a trained network. The attention starts at one value,
        `attention_activation(0)`, whatever the inputs, and still learns: the last batch norm's
        gamma and beta are 0. The layer's kernel is the given one divided by what the attention
        multiplies it with, 1.5 by default, so that regularizers and constraints see a smaller one.

        Args:
            kernel: array or tensor of the kernel's shape.
            bias: array, tensor `(filters,)` or None, default None. Must be None with
                `use_bias=False`, and given otherwise.

        Raises:
            ValueError: the layer is not built, a shape differs, `bias` is given without
                `use_bias` or not given with it, or the kernel's factor is 0.

        Example:

        >>> import keras, numpy as np
        >>> kernel, x = np.random.rand(3, 3, 8, 4), np.random.rand(1, 6, 6, 8)
        >>> layer = AWConv2D(4, 3, use_bias=False)
        >>> layer.build(x.shape)
        >>> layer.start_as_convolution(kernel)
        >>> outputs = keras.ops.convert_to_numpy(layer(x))
        >>> expected = keras.ops.convert_to_numpy(keras.ops.conv(x, kernel))
        >>> bool(np.allclose(outputs, expected, atol=1e-4))
        True
        """
        if not self.built:
            raise ValueError(
                "Only a built layer can start as a convolution. "
                f"Received: the layer {self.name!r}. Call it, or its `build`, first."
            )
        if (bias is not None) != self.use_bias:
            raise ValueError(
                "`bias` must be given with `use_bias=True`, and only then. "
                f"Received: bias={bias!r}, use_bias={self.use_bias}"
            )
        # Of all entries: a softmax shares among them.
        zeros = ops.zeros((1, 1, 1, self.batch_norm2.gamma.shape[0]))
        factor = float(self.attention_activation(zeros)[0, 0, 0, 0])
        factor += 1 if self.use_residual else 0
        if factor == 0:
            raise ValueError(
                "The attention must not start at 0 where it is all that multiplies the kernel. "
                f"Received: use_residual={self.use_residual} and an `attention_activation` of 0 "
                f'at 0 in the layer {self.name!r}. Give it attention_activation="sigmoid".'
            )
        kernel = checks.real_array("kernel", kernel)
        self._kernel.assign(ops.convert_to_tensor(kernel, self._kernel.dtype) / factor)
        if self.use_bias:
            # A copy: on JAX two variables of one array lose it when either is trained.
            self.bias.assign(ops.copy(bias))
        for weight in (self.batch_norm2.gamma, self.batch_norm2.beta):
            weight.assign(ops.zeros(weight.shape))

    def multiply_adds(self, input_shape):
        """Returns the multiply-adds of one image as the formula is written.

        The convolution's, those of the two pointwise convolutions, and one for each entry of the
        kernel that the attention multiplies. Pooling, bias, normalisation and activation are not
        counted. `implementation` makes no difference here.

        Args:
            input_shape: tuple of 4, the batch first and ignored, the rest known.

        Raises:
            ValueError: height, width or channels are not known.
        """
        _, _, channels = self.sizes_of(input_shape)
        output_shape = self.compute_output_shape(input_shape)
        outputs = math.prod(output_shape[1:])
        kernel_entries = math.prod(self.kernel_size) * channels * self.filters
        cells = math.prod(size // self.kernel_reduction for size in self.kernel_size)
        hidden = max(1, channels // self.reduction)
        entries = self._attention_groups(channels) * self.filters // self.output_reduction
        return (
            outputs * math.prod(self.kernel_size) * channels
            + cells * hidden * (channels + entries)
            + kernel_entries
        )

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "reduction": self.reduction,
                "input_reduction": self.input_reduction,
                "output_reduction": self.output_reduction,
                "kernel_reduction": self.kernel_reduction,
                "attention_activation": keras.activations.serialize(self.attention_activation),
                "use_residual": self.use_residual,
                "implementation": self.implementation,
                "synchronized": self.synchronized,
            }
        )
        return config
