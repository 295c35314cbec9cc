"""What layers of attention in a window around each position share."""

import math

import keras
from keras import ops

from keras_fmm import checks
from keras_fmm.layers import kernel_arguments
from keras_fmm.layers.attention_weights import AttentionWeightsMixin, check_queries
from keras_fmm.ops.self_attention.window import window_weights


class AttentionInWindowMixin(AttentionWeightsMixin):
    """Attends to a window around each position, and shows where it looks.

    For a `FeatureMapLayer`, which calls `keep_window` in its constructor.
    """

    def keep_window(self, filters, kernel_size, num_heads, padding, use_bias, mask_padding):
        """Checks these arguments and keeps them as attributes.

        Raises:
            TypeError: one is of another type.
            ValueError: one is out of range or not known, or the heads do not divide the filters.
        """
        self.filters = checks.positive_integer("filters", filters, checks.CHANNELS)
        if isinstance(kernel_size, (list, tuple)) and len(set(kernel_size)) == 1:
            kernel_size = kernel_size[0]
        self.kernel_size = checks.positive_integer("kernel_size", kernel_size, checks.SIDES)
        num_heads = checks.positive_integer("num_heads", num_heads, checks.CHANNELS)
        self.num_heads = checks.divides("num_heads", num_heads, self.filters, "the filters")
        self.padding = str(padding).lower()
        if self.padding != "same":
            raise ValueError(
                '`padding` must be "same": every position has a window, of which no more counts '
                f"than lies on the map. Received: padding={padding!r}"
            )
        self.use_bias = checks.flag("use_bias", use_bias)
        self.mask_padding = checks.flag("mask_padding", mask_padding)

    def window_config(self):
        """Returns what `keep_window` and `kernel_arguments.keep` have kept."""
        names = "filters kernel_size num_heads padding use_bias mask_padding implementation"
        config = {name: getattr(self, name) for name in names.split()}
        config["activation"] = keras.activations.serialize(self.activation)
        names = (*kernel_arguments.NAMES, "activity_regularizer")
        return config | kernel_arguments.serialized(self, names)

    def make_pointwise(self, channels, name):
        """Returns a built 1x1 convolution to the filters, without a bias."""
        return self.make_sublayer(
            keras.layers.Conv2D,
            (None, None, None, channels),
            filters=self.filters,
            kernel_size=1,
            data_format="channels_last",
            name=name,
            **kernel_arguments.of_sublayer(self, use_bias=False),
        )

    def make_bias(self):
        """Makes the outputs' bias where the layer has one; call it in `build`."""
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.filters,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def finish(self, outputs):
        """Returns outputs with the bias, after the activation."""
        if self.use_bias:
            outputs = outputs + ops.cast(self.bias, outputs.dtype)
        return outputs if self.activation is None else self.activation(outputs)

    def look(self, query, key, queries=None, rows=None, columns=None):
        """Returns the weights, `(batch, queries, heads, kernel_size, kernel_size)`.

        Args:
            query: tensor `(batch, height, width, filters)`.
            key: tensor of the same shape.
            queries: list of pairs of int or None, see `attention_map`.
            rows: tensor or None, as of `window_weights`.
            columns: tensor or None, as of `window_weights`.
        """
        found = window_weights(
            query, key, self.num_heads, self.kernel_size, rows, columns, self.mask_padding
        )
        if queries is not None:
            check_queries(queries, query.shape)
            found = ops.stack([found[:, row, column] for row, column in queries], axis=1)
        sides = (self.num_heads, self.kernel_size, self.kernel_size)
        if queries is None:
            _, height, width, _ = ops.shape(query)
            sides = (height * width, *sides)
        else:
            sides = (len(queries), *sides)
        return ops.cast(ops.reshape(found, (-1, *sides)), query.dtype)

    def attention_multiply_adds(self, size):
        """Returns the multiply-adds of the attention on a map of a size, without positions."""
        return 2 * math.prod(size) * self.kernel_size**2 * self.filters
