"""The one table of all layers, one row a way of using one: every contract runs over it."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_fmm import layers

# The formats that a layer can be written in; `export.to_tflite(quantization="int8")` is the last.
EXPORTS = ("saved_model", "tflite", "onnx", "int8")


@dataclasses.dataclass(frozen=True)
class Row:
    """A layer with arguments, what it is called on, and what it must then be.

    Args:
        layer: type. The class.
        role: str. "gate", "convolution", "residual", "block", or "map" for a layer of none of them.
        arguments: dict. Of the class.
        input_shape: tuple of 4. The batch, height, width, channels of what it is called on.
        weights: dict. The names of its weights, each with its shape, in order.
        zeros: tuple of str, default (). The names of the weights that are 0 where the layer starts
            as the identity, or as a plain convolution: those that learn first.
        neutral: float, default 1. What a gate's activation must give at 0 for its outputs to be its
            inputs: 1 for a factor, 0 for a summand, 0.5 for a sum of two factors.
        sizes: str, default "any". "any", or "fixed" where it is built for one height and width.
        exports: tuple of str, default all of `EXPORTS`. The formats it can be written in.
        inputs: int, default 1. How many tensors it is called on.
    """

    layer: type
    role: str
    arguments: dict
    input_shape: tuple
    weights: dict
    zeros: tuple = ()
    neutral: float = 1
    sizes: str = "any"
    exports: tuple = EXPORTS
    inputs: int = 1

    def make(self, **arguments):
        return self.layer(**{**self.arguments, **arguments})

    def make_built(self, **arguments):
        layer = self.make(**arguments)
        layer.build(self.input_shapes)
        return layer

    def model(self, layer=None, unknown_sizes=True):
        """Returns a functional model of the layer alone, with height and width unknown or known."""
        shape = self.input_shape[1:]
        if unknown_sizes and self.sizes == "any":
            shape = (None, None, shape[2])
        inputs = [keras.Input(shape) for _ in range(self.inputs)]
        inputs = inputs if self.inputs > 1 else inputs[0]
        return keras.Model(inputs, (layer or self.make())(inputs))

    @property
    def input_shapes(self):
        """What `build` and `compute_output_shape` take."""
        return self.input_shape if self.inputs == 1 else [self.input_shape] * self.inputs

    @property
    def other_shape(self):
        """Another batch of other sizes, as far as the layer takes them."""
        _, height, width, channels = self.input_shape
        return (
            (1, height + 3, width + 2, channels)
            if self.sizes == "any"
            else (1, *self.input_shape[1:])
        )

    def example(self, seed=0, shape=None, dtype="float32"):
        """Returns random inputs: an array, or a list of them."""
        rng = np.random.default_rng(seed)
        arrays = [rng.normal(size=shape or self.input_shape) for _ in range(self.inputs)]
        arrays = [array.astype(dtype) for array in arrays]
        return arrays[0] if self.inputs == 1 else arrays


def _batch_norm(name, channels):
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    return {f"{name}/{weight}": (channels,) for weight in names}


def _mlp(channels, hidden, bias=True, prefix=""):
    weights = {
        f"{prefix}squeeze/kernel": (channels, hidden),
        f"{prefix}squeeze/bias": (hidden,),
        f"{prefix}excite/kernel": (hidden, channels),
        f"{prefix}excite/bias": (channels,),
    }
    return {name: shape for name, shape in weights.items() if bias or "bias" not in name}


def _aw(kernel, bias, channels, hidden, entries):
    return {
        "kernel": kernel,
        **({"bias": (kernel[-1],)} if bias else {}),
        "pointwise_conv1/kernel": (channels, hidden),
        **_batch_norm("batch_norm1", hidden),
        "pointwise_conv2/kernel": (hidden, entries),
        **_batch_norm("batch_norm2", entries),
    }


def _attention(channels, depths, tables, seen=None, bias=True):
    keys, values = depths
    found = {f"{name}_embeddings": shape for name, shape in tables.items()}
    for name, shape in (
        ("qkv", (seen or channels, 2 * keys + values)),
        ("projection", (values, channels)),
    ):
        found[f"{name}/kernel"] = shape
        found |= {f"{name}/bias": shape[1:]} if bias else {}
    return found


def _augmented(conv, depths, tables, bias=()):
    *_, channels, _ = conv
    keys, values, _ = depths
    names = ("row_embeddings", "column_embeddings")
    return {
        **{name: (size, depths[2]) for name, size in zip(names, tables, strict=True)},
        **({"bias": bias} if bias else {}),
        "conv/kernel": conv,
        "qkv/kernel": (1, 1, channels, 2 * keys + values),
        "projection/kernel": (1, 1, values, values),
    }


MLP_ENDS = ("excite/kernel", "excite/bias")

ROWS = (
    Row(
        layers.SqueezeExcite,
        "gate",
        {"reduction": 4},
        (2, 5, 6, 8),
        _mlp(8, 2),
        MLP_ENDS,
    ),
    Row(
        layers.SqueezeExcite,
        "gate",
        {"reduction": 99, "activation": None, "use_bias": False, "merge": "add"},
        (2, 1, 3, 4),
        _mlp(4, 1, bias=False),
        ("excite/kernel",),
        neutral=0,
    ),
    Row(
        layers.EfficientChannelAttention,
        "gate",
        {},
        (2, 5, 6, 64),
        {"convolution/kernel": (3, 1, 1)},
        ("convolution/kernel",),
    ),
    Row(
        layers.EfficientChannelAttention,
        "gate",
        {"kernel_size": 5, "merge": "add"},
        (2, 5, 6, 4),
        {"convolution/kernel": (5, 1, 1)},
        ("convolution/kernel",),
        neutral=0,
    ),
    Row(
        layers.ChannelAttention,
        "gate",
        {"reduction": 2},
        (2, 5, 6, 6),
        _mlp(6, 3),
        MLP_ENDS,
    ),
    Row(
        layers.ChannelAttention,
        "gate",
        {"reduction": 2, "use_max_pool": False, "merge": "add"},
        (2, 5, 6, 6),
        _mlp(6, 3),
        MLP_ENDS,
        neutral=0,
    ),
    Row(
        layers.SpatialAttention,
        "gate",
        {"kernel_size": 3},
        (2, 5, 6, 4),
        {"convolution/kernel": (3, 3, 2, 1), **_batch_norm("batch_norm", 1)},
        ("batch_norm/gamma", "batch_norm/beta"),
    ),
    Row(
        layers.SpatialAttention,
        "gate",
        {"kernel_size": 2, "use_max_pool": False, "use_batch_norm": False, "merge": "add"},
        (2, 5, 6, 4),
        {"convolution/kernel": (2, 2, 1, 1)},
        ("convolution/kernel",),
        neutral=0,
    ),
    Row(
        layers.CBAM,
        "gate",
        {"reduction": 2, "kernel_size": 3},
        (2, 5, 6, 4),
        {
            **_mlp(4, 2, prefix="channel_attention/"),
            "spatial_attention/convolution/kernel": (3, 3, 2, 1),
            **_batch_norm("spatial_attention/batch_norm", 1),
        },
        (
            "channel_attention/excite/kernel",
            "channel_attention/excite/bias",
            "spatial_attention/batch_norm/gamma",
            "spatial_attention/batch_norm/beta",
        ),
    ),
    Row(
        layers.CBAM,
        "gate",
        {
            "reduction": 2,
            "use_max_pool": False,
            "use_spatial": False,
            "gate_activation": layers.twice_sigmoid,
        },
        (2, 5, 6, 4),
        _mlp(4, 2, prefix="channel_attention/"),
        ("channel_attention/excite/kernel", "channel_attention/excite/bias"),
    ),
    Row(
        layers.AWConv2D,
        "convolution",
        {"filters": 6, "kernel_size": 3, "padding": "same", "reduction": 2},
        (2, 6, 5, 4),
        _aw((3, 3, 4, 6), True, 4, 2, 6),
        ("batch_norm2/gamma", "batch_norm2/beta"),
    ),
    Row(
        layers.AWConv2D,
        "convolution",
        {
            "filters": 4,
            "kernel_size": (2, 4),
            "strides": 2,
            "padding": "same",
            "reduction": 3,
            "input_reduction": 3,
            "output_reduction": 2,
            "kernel_reduction": 2,
            "use_residual": False,
            "use_bias": False,
        },
        (3, 7, 6, 6),
        _aw((2, 4, 6, 4), False, 6, 2, 4),
        ("batch_norm2/gamma", "batch_norm2/beta"),
    ),
    Row(
        layers.AWConv2D,
        "convolution",
        {"filters": 2, "kernel_size": 2, "dilation_rate": 2, "activation": "relu"},
        (2, 6, 5, 4),
        _aw((2, 2, 4, 2), True, 4, 1, 2),
        ("batch_norm2/gamma", "batch_norm2/beta"),
    ),
    Row(
        layers.AttentionAugmentedConv2D,
        "convolution",
        {"filters": 6, "kernel_size": 3, "num_heads": 2, "key_dim": 3, "value_dim": 1},
        (2, 5, 6, 4),
        _augmented((3, 3, 4, 4), (6, 2, 3), (9, 11), bias=(6,)),
        sizes="fixed",
    ),
    Row(
        layers.AttentionAugmentedConv2D,
        "convolution",
        {
            "filters": 8,
            "kernel_size": (3, 2),
            "strides": 2,
            "num_heads": 2,
            "value_ratio": 0.5,
            "min_key_dim": 2,
            "position_size": (3, 2),
            "attention_pool": 2,
            "use_bias": False,
            "activation": "relu",
        },
        (2, 7, 6, 4),
        _augmented((3, 2, 4, 4), (4, 4, 2), (5, 3)),
    ),
    Row(
        layers.LocalSelfAttention2D,
        "convolution",
        {"filters": 6, "kernel_size": 3, "num_heads": 3},
        (2, 5, 6, 4),
        {
            "row_embeddings": (3, 3, 1),
            "column_embeddings": (3, 3, 1),
            **{f"{name}/kernel": (1, 1, 4, 6) for name in ("query", "key", "value")},
        },
    ),
    Row(
        layers.LocalSelfAttention2D,
        "convolution",
        {
            "filters": 4,
            "kernel_size": 5,
            "num_heads": 4,
            "strides": (2, 3),
            "positions": None,
            "use_bias": True,
            "mask_padding": False,
        },
        (2, 4, 7, 3),
        {
            "bias": (4,),
            **{f"{name}/kernel": (1, 1, 3, 4) for name in ("query", "key", "value")},
        },
    ),
    Row(
        layers.RelativeSelfAttention2D,
        "map",
        {"num_heads": 2, "key_dim": 3},
        (2, 4, 5, 6),
        _attention(6, (6, 6), {"row": (7, 3), "column": (9, 3)}),
        sizes="fixed",
    ),
    Row(
        layers.RelativeSelfAttention2D,
        "map",
        {
            "num_heads": 1,
            "key_dim": 2,
            "value_dim": 4,
            "positions": "coordinates",
            "use_bias": False,
        },
        (2, 4, 5, 3),
        _attention(3, (2, 4), {}, seen=6, bias=False),
    ),
    Row(
        layers.RelativeSelfAttention2D,
        "map",
        {"num_heads": 2, "key_dim": 2, "positions": "absolute", "position_size": (5, 3)},
        (2, 4, 5, 6),
        _attention(6, (4, 4), {"row": (5, 6), "column": (3, 6)}),
    ),
    Row(
        layers.AttentionStem,
        "map",
        {"filters": 4, "num_heads": 2, "mixtures": 3, "pool_size": 2},
        (2, 5, 6, 3),
        {
            "value_kernel": (3, 3, 4),
            "row_embeddings": (4, 4),
            "column_embeddings": (4, 4),
            "mixture_embeddings": (3, 4),
            "query/kernel": (1, 1, 3, 4),
            "key/kernel": (1, 1, 3, 4),
        },
    ),
    Row(
        layers.MultiplicativeResidual,
        "residual",
        {},
        (2, 5, 6, 4),
        {},
        inputs=2,
        exports=("saved_model", "tflite", "onnx"),
    ),
    Row(
        layers.MultiplicativeResidual,
        "residual",
        {"form": "centered"},
        (2, 5, 6, 4),
        {"scale": (4,)},
        inputs=2,
        exports=("saved_model", "tflite", "onnx"),
    ),
    Row(
        layers.MultiplicativeResidual,
        "residual",
        {"form": "exponential", "depth": 3},
        (2, 5, 6, 4),
        {},
        inputs=2,
        exports=("saved_model", "tflite", "onnx"),
    ),
)


# The first way of using each layer, for what costs much and hangs on the layer alone.
FIRST_ROWS = tuple({row.layer: row for row in reversed(ROWS)}.values())[::-1]


def rows_of(*roles, rows=ROWS):
    """Returns the rows of these roles."""
    return [row for row in rows if row.role in roles]


def first_row(layer):
    """Returns the first row of a class."""
    return next(row for row in ROWS if row.layer is layer)


def label(row):
    """Returns the row's name in a test's: its layer and its place in the table, if it is there."""
    return f"{row.layer.__name__}-{ROWS.index(row) if row in ROWS else 'own'}"


def over(rows):
    """Runs a test once for each of these rows, as its argument `row`."""
    return pytest.mark.parametrize("row", rows, ids=label)


every_row = over(ROWS)
every_layer = over(FIRST_ROWS)


def each(function, inputs):
    """Applies a function to the inputs, or to each of a list of them."""
    return [function(array) for array in inputs] if isinstance(inputs, list) else function(inputs)
