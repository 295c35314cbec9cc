"""The FMM paper's residual connection: a product in the place of the sum."""

import math

import keras
from keras import ops

from keras_fmm import checks
from keras_fmm.layers.feature_map import CastInputsMixin

# What each form computes of branch F and shortcut x; those with the depth L are told it.
FORMS = ("product", "centered", "linear", "exponential", "scaled", "sum_product")
_OF_DEPTH = ("exponential", "scaled")
_WEIGHTED = ("centered", "linear", "sum_product")


@keras.saving.register_keras_serializable(package="keras_fmm")
class MultiplicativeResidual(CastInputsMixin, keras.layers.Multiply):
    """Multiplies a residual branch with its shortcut: by default `outputs = F(x) * x`.

    It stands where a residual block has `keras.layers.Add`. Unlike `keras.layers.Multiply` it
    refuses shapes that would broadcast, as far as they are known when it is traced.

    A chain of the FMM paper's plain products explodes: its authors could not train more than seven
    blocks. The other forms, but for the last, multiply the shortcut by a gate that starts at 1 or
    stays near it: an identity path, as the sum has one. `x * (1 + a * F)` is `x + a * x * F`. The
    last starts as the sum, and so can stand in a trained network: `models.upgrade(residual=...)`.

    | form | outputs | at the start | one block multiplies the shortcut by |
    |---|---|---|---|
    | "product" | `F * x` | the product | anything |
    | "centered" | `x * (1 + a * tanh(F))` | `x` | 1 - abs(a) to 1 + abs(a) |
    | "linear" | `x * (1 + a * F)` | `x` | anything |
    | "exponential" | `x * exp(tanh(F) * c)` | near `x` | exp(-c) to exp(c) |
    | "scaled" | `x * (1 + tanh(F) * c)` | near `x` | 1 - c to 1 + c |
    | "sum_product" | `x + F * (1 + b * x)` | `x + F` | anything |

    The weights a and b, one a channel, start at 0; c is 1 / sqrt(`depth`). A chain of
    `depth` blocks of "exponential" or "scaled" makes no value larger than exp(sqrt(`depth`)) times
    what it was.

    Args:
        form: str, default "product". One of the table above.
        depth: int or None, default None. How many such blocks follow one another in the model: for
            "exponential" and "scaled", which need it, and for no other.
        data_format: str or None, default None. Where inputs of three axes or more have the
            channels: "channels_last", "channels_first", or None for Keras' setting.
        **kwargs: the arguments of `keras.layers.Layer`.

    Input shape:
        A list of two tensors, `[branch, shortcut]`, of one shape; sizes may be unknown, but for the
        channels of a form with weights. Of any real dtype, integers and bools too: they are cast to
        the layer's compute dtype, which the outputs have.

    Output shape:
        That of either input.

    Raises:
        TypeError: `depth` is no integer.
        ValueError: `form` is not known; `depth` is less than 1, is missing or not for this form;
            or, when called, the shapes differ, or a form with weights has no known channels, or
            others than it was built for.

    Example:

    >>> import keras, numpy as np
    >>> branch, shortcut = np.array([[1.0, 2.0]]), np.array([[3.0, -1.0]])
    >>> keras.ops.convert_to_numpy(MultiplicativeResidual()([branch, shortcut])).tolist()
    [[3.0, -2.0]]
    >>> centered = MultiplicativeResidual("centered")
    >>> keras.ops.convert_to_numpy(centered([branch, shortcut])).tolist()
    [[3.0, -1.0]]

    Reference:
        Ye, He, Wang, Li, "Towards Understanding the Effectiveness of Attention Mechanism", for the
        product. https://arxiv.org/abs/2106.15067. Weights that start at 0 are those of Bachlechner
        et al., "ReZero is All You Need".
    """

    def __init__(self, form="product", depth=None, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.form = checks.one_of("form", form, FORMS)
        self.depth = _checked_depth(form, depth)
        self.data_format = checks.data_format(data_format)

    def build(self, input_shape):
        self._check_shapes(input_shape)
        if self.form in _WEIGHTED:
            if len(input_shape[0]) < 2:
                raise ValueError(
                    f"MultiplicativeResidual(form={self.form!r}) has a weight for each channel, so "
                    "its inputs must have an axis of them beside the batch. "
                    f"Received: input_shape={input_shape}"
                )
            axis = self._channel_axis(len(input_shape[0]))
            channels = input_shape[0][axis] or input_shape[1][axis]
            if channels is None:
                raise ValueError(
                    f"MultiplicativeResidual(form={self.form!r}) has a weight for each channel, so "
                    f"their number must be known. Received: input_shape={input_shape}"
                )
            self.scale = self.add_weight(name="scale", shape=(channels,), initializer="zeros")
        super().build(input_shape)

    def compute_output_spec(self, inputs):
        # Symbolic calls do not come to `call`.
        self._check_shapes(_shapes(inputs))
        return super().compute_output_spec(inputs)

    def compute_output_shape(self, input_shape):
        self._check_shapes(input_shape)
        return super().compute_output_shape(input_shape)

    def call(self, inputs):
        # Again for each call: a layer built with unknown sizes meets the real ones only here.
        self._check_shapes(_shapes(inputs))
        branch, shortcut = self.cast_inputs(inputs)
        if self.form == "product":
            return super().call([branch, shortcut])
        if self.form == "exponential":
            return shortcut * ops.exp(ops.tanh(branch) * self.depth**-0.5)
        if self.form == "scaled":
            return shortcut * (1 + ops.tanh(branch) * self.depth**-0.5)
        shape = [1] * len(shortcut.shape)
        shape[self._channel_axis(len(shape))] = -1
        scale = ops.reshape(ops.cast(self.scale, self.compute_dtype), shape)
        if self.form == "sum_product":
            return shortcut + branch * (1 + scale * shortcut)
        if self.form == "centered":
            branch = ops.tanh(branch)
        return shortcut * (1 + scale * branch)

    def start_as_sum(self):
        """Sets the weights of the built layer so that it gives branch + shortcut.

        Raises:
            ValueError: the form is not "sum_product", which alone can be the sum, or the layer is
                not built.
        """
        if self.form != "sum_product":
            raise ValueError(
                'Of the forms of MultiplicativeResidual, "sum_product" alone can be the sum. '
                f"Received: form={self.form!r}. Give "
                '`functools.partial(layers.MultiplicativeResidual, "sum_product")`.'
            )
        if not self.built:
            raise ValueError(
                "Only a built MultiplicativeResidual can start as the sum. Received: one without "
                "weights. Call it on, or build it for, an input first."
            )
        self.scale.assign(ops.zeros(self.scale.shape))

    def _check_shapes(self, shapes):
        _check_same_shape(shapes)
        if self.built and self.form in _WEIGHTED:
            rank = len(shapes[0])
            (channels,) = self.scale.shape
            found = {shape[self._channel_axis(rank)] for shape in shapes} if rank > 1 else {1}
            if not found <= {channels, None}:
                raise ValueError(
                    f"A MultiplicativeResidual(form={self.form!r}) that has weights must be called "
                    f"on inputs of as many channels. Received: input_shape={shapes}, for "
                    f"{channels} channels. Make another layer."
                )

    def _channel_axis(self, rank):
        return 1 if self.data_format == "channels_first" and rank > 2 else rank - 1

    def multiply_adds(self, input_shape):
        """Returns the multiply-adds of one sample: one for each entry, or two if it is not F * x.

        Args:
            input_shape: list of two tuples, the batch first and ignored, the rest known.

        Raises:
            ValueError: a size is not known, or the shapes differ.
        """
        self._check_shapes(input_shape)
        sizes = input_shape[0][1:]
        if None in sizes:
            raise ValueError(
                "The cost of MultiplicativeResidual depends on the sizes of its inputs, which "
                f"must be known. Received: input_shape={input_shape}"
            )
        return math.prod(sizes) * (1 if self.form == "product" else 2)

    def get_config(self):
        config = {"form": self.form, "depth": self.depth, "data_format": self.data_format}
        return {**super().get_config(), **config}


def _checked_depth(form, depth):
    if depth is None and form in _OF_DEPTH:
        raise ValueError(
            "`depth`, how many such blocks follow one another in the model, must be given for the "
            f"forms {' and '.join(map(repr, _OF_DEPTH))}. Received: form={form!r}, depth=None. "
            "Give e.g. depth=54."
        )
    if depth is not None and form not in _OF_DEPTH:
        raise ValueError(
            f"`depth` must be left out but for the forms {' and '.join(map(repr, _OF_DEPTH))}. "
            f"Received: form={form!r}, depth={depth!r}"
        )
    return None if depth is None else checks.positive_integer("depth", depth)


def _shapes(inputs):
    if not isinstance(inputs, (list, tuple)):
        return getattr(inputs, "shape", inputs)
    return [tuple(x.shape) if hasattr(x, "shape") else None for x in inputs]


def _check_same_shape(shapes):
    is_list = isinstance(shapes, (list, tuple)) and all(
        isinstance(shape, (list, tuple)) for shape in shapes
    )
    if not is_list or len(shapes) != 2:
        raise ValueError(
            "MultiplicativeResidual must be called on a list of two tensors, [branch, shortcut]. "
            f"Received: input_shape={shapes}"
        )
    branch, shortcut = shapes
    pairs = list(zip(branch, shortcut, strict=False))
    if len(branch) != len(shortcut) or any(a != b and None not in (a, b) for a, b in pairs):
        raise ValueError(
            "The branch and the shortcut of MultiplicativeResidual must have one shape. "
            f"Received: input_shape={shapes}. Project the shortcut with a 1x1 convolution."
        )
    # A side of 1 beside one that is not known is one of a map of one position.
    if any(None in pair and 1 in pair for pair in pairs[1:]):
        raise ValueError(
            "The branch and the shortcut of MultiplicativeResidual must have one shape, and 1 "
            f"beside a size that is not known may broadcast. Received: input_shape={shapes}. A map "
            "of one position is no shortcut of a larger one; else let the inputs of both have "
            "known sizes, or both unknown ones."
        )
    if 0 in branch[1:] or 0 in shortcut[1:]:
        raise ValueError(
            "No size of the branch and the shortcut of MultiplicativeResidual but the batch may "
            f"be 0. Received: input_shape={shapes}"
        )
