"""The table of all layers, one row a way of using one: every contract test runs over it."""

import dataclasses

import numpy as np

from keras_fmm import layers


@dataclasses.dataclass(frozen=True)
class Row:
    """A layer with arguments, what it is called on, and the weights it must then have."""

    layer: type
    arguments: dict
    input_shape: tuple
    weights: dict  # name -> shape, in order
    inputs: int = 1

    def make(self, **arguments):
        return self.layer(**{**self.arguments, **arguments})

    def make_built(self, **arguments):
        layer = self.make(**arguments)
        layer.build(self.input_shapes)
        return layer

    @property
    def input_shapes(self):
        """What `build` and `compute_output_shape` take."""
        return self.input_shape if self.inputs == 1 else [self.input_shape] * self.inputs

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


ROWS = (
    Row(layers.SqueezeExcite, {"reduction": 4}, (2, 5, 6, 8), _mlp(8, 2)),
    Row(
        layers.SqueezeExcite,
        {"reduction": 99, "activation": None, "use_bias": False, "merge": "add"},
        (2, 1, 3, 4),
        _mlp(4, 1, bias=False),
    ),
    Row(
        layers.EfficientChannelAttention,
        {},
        (2, 5, 6, 64),
        {"convolution/kernel": (3, 1, 1)},
    ),
    Row(
        layers.EfficientChannelAttention,
        {"kernel_size": 5, "merge": "add"},
        (2, 5, 6, 4),
        {"convolution/kernel": (5, 1, 1)},
    ),
    Row(layers.ChannelAttention, {"reduction": 2}, (2, 5, 6, 6), _mlp(6, 3)),
    Row(
        layers.ChannelAttention,
        {"reduction": 2, "use_max_pool": False, "merge": "add"},
        (2, 5, 6, 6),
        _mlp(6, 3),
    ),
    Row(
        layers.SpatialAttention,
        {"kernel_size": 3},
        (2, 5, 6, 4),
        {"convolution/kernel": (3, 3, 2, 1), **_batch_norm("batch_norm", 1)},
    ),
    Row(
        layers.SpatialAttention,
        {"kernel_size": 2, "use_max_pool": False, "use_batch_norm": False, "merge": "add"},
        (2, 5, 6, 4),
        {"convolution/kernel": (2, 2, 1, 1)},
    ),
    Row(
        layers.CBAM,
        {"reduction": 2, "kernel_size": 3},
        (2, 5, 6, 4),
        {
            **_mlp(4, 2, prefix="channel_attention/"),
            "spatial_attention/convolution/kernel": (3, 3, 2, 1),
            **_batch_norm("spatial_attention/batch_norm", 1),
        },
    ),
    Row(
        layers.CBAM,
        {
            "reduction": 2,
            "use_max_pool": False,
            "use_spatial": False,
            "gate_activation": layers.twice_sigmoid,
        },
        (2, 5, 6, 4),
        _mlp(4, 2, prefix="channel_attention/"),
    ),
    Row(
        layers.AWConv2D,
        {"filters": 6, "kernel_size": 3, "padding": "same", "reduction": 2},
        (2, 6, 5, 4),
        _aw((3, 3, 4, 6), True, 4, 2, 6),
    ),
    Row(
        layers.AWConv2D,
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
    ),
    Row(
        layers.AWConv2D,
        {"filters": 2, "kernel_size": 2, "dilation_rate": 2, "activation": "relu"},
        (2, 6, 5, 4),
        _aw((2, 2, 4, 2), True, 4, 1, 2),
    ),
    Row(layers.MultiplicativeResidual, {}, (2, 5, 6, 4), {}, inputs=2),
)


# The first way of using each layer, for what costs much and hangs on the layer alone.
FIRST_ROWS = tuple({row.layer: row for row in reversed(ROWS)}.values())[::-1]


def label(row):
    """Returns the row's name in a test's: its layer and its place in the table."""
    return f"{row.layer.__name__}-{ROWS.index(row)}"
