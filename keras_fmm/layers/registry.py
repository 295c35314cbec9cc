"""Layers by name and role: how backbones and recipes say which attention they take."""

import types

import keras

from keras_fmm.layers.aw_conv2d import AWConv2D
from keras_fmm.layers.cbam import CBAM
from keras_fmm.layers.channel_attention import ChannelAttention
from keras_fmm.layers.efficient_channel_attention import EfficientChannelAttention
from keras_fmm.layers.multiplicative_residual import MultiplicativeResidual
from keras_fmm.layers.spatial_attention import SpatialAttention
from keras_fmm.layers.squeeze_excite import SqueezeExcite

# The names that `get_gate` knows, each with its class.
GATES = types.MappingProxyType(
    {
        "squeeze_excite": SqueezeExcite,
        "eca": EfficientChannelAttention,
        "channel_attention": ChannelAttention,
        "spatial_attention": SpatialAttention,
        "cbam": CBAM,
    }
)

# The names that `get_convolution` knows, each with its class.
CONVOLUTIONS = types.MappingProxyType({"aw": AWConv2D})

# The names that `get_residual` knows, each with its class.
RESIDUALS = types.MappingProxyType({"add": keras.layers.Add, "multiply": MultiplicativeResidual})


def get_gate(attention, name=None):
    """Returns a fresh gate, or None for None.

    Args:
        attention: None, a name among `GATES` (the layer's defaults), or a callable without
            arguments that returns a fresh layer, such as `lambda: SqueezeExcite(reduction=8)`. A
            layer of your own needs `get_config`, or it loses `name` when a model is saved.
        name: str, what to call the layer; None leaves its own name.

    Raises:
        ValueError: the name is not known, or the callable returns a layer already in use.
        TypeError: `attention` is none of these, or the callable does not return a layer.

    Example:

    >>> get_gate("squeeze_excite", name="stage1_attention").name
    'stage1_attention'
    >>> get_gate(lambda: CBAM(use_spatial=False)).use_spatial
    False
    """
    if attention is None:
        return None
    if isinstance(attention, str):
        if attention not in GATES:
            known = ", ".join(repr(known) for known in GATES)
            raise ValueError(
                f"`attention` must be one of {known}, or a callable that returns a layer. "
                f"Received: attention={attention!r}"
            )
        gate = GATES[attention]()
    elif isinstance(attention, keras.layers.Layer) or not callable(attention):
        raise TypeError(
            "`attention` must be None, a name or a callable without arguments. "
            f"Received: attention={attention!r}. "
            "For a layer of your own choice give `lambda: layers.SqueezeExcite(reduction=8)`."
        )
    else:
        gate = attention()
        if not isinstance(gate, keras.layers.Layer):
            raise TypeError(
                "The callable given as `attention` must return a `keras.layers.Layer`. "
                f"Received: attention={attention!r}, which returned {gate!r}"
            )
        # A layer without weights counts as built from the start.
        if gate.built and gate.weights:
            raise ValueError(
                "The callable given as `attention` must return a fresh layer at each call. "
                f"Received: the layer {gate.name!r}, which is built already."
            )
    if name is not None:
        gate.name = name
    return gate


def get_convolution(convolution):
    """Returns what makes a backbone's convolutions.

    Args:
        convolution: None for `keras.layers.Conv2D`, a name among `CONVOLUTIONS`, or a callable
            `(filters, kernel_size, strides, padding, use_bias, name)` that returns a fresh layer,
            such as `functools.partial(AWConv2D, reduction=4)`.

    Returns:
        A callable of those arguments, by keyword.

    Raises:
        ValueError: the name is not known.
        TypeError: `convolution` is none of these.

    Example:

    >>> get_convolution("aw")(filters=8, kernel_size=3, name="stage1_conv").name
    'stage1_conv'
    """
    if convolution is None:
        return keras.layers.Conv2D
    if isinstance(convolution, str):
        if convolution not in CONVOLUTIONS:
            known = ", ".join(repr(known) for known in CONVOLUTIONS)
            raise ValueError(
                f"`convolution` must be None, one of {known}, or a callable. "
                f"Received: convolution={convolution!r}"
            )
        return CONVOLUTIONS[convolution]
    if isinstance(convolution, keras.layers.Layer) or not callable(convolution):
        raise TypeError(
            "`convolution` must be None, a name or a callable that takes what Conv2D takes. "
            f"Received: convolution={convolution!r}. "
            "For a layer of your own choice give `functools.partial(layers.AWConv2D, reduction=4)`."
        )
    return convolution


def get_residual(residual, name=None):
    """Returns a fresh layer that merges a residual branch with its shortcut.

    Args:
        residual: a name among `RESIDUALS`, or a callable that takes `name` and returns a fresh
            layer, which is called on `[branch, shortcut]`, such as `MultiplicativeResidual`.
        name: str, what to call the layer; None leaves its own name.

    Raises:
        ValueError: the name is not known, or the callable returns a layer already in use.
        TypeError: `residual` is none of these, or the callable does not return a layer.

    Example:

    >>> get_residual("multiply", name="stage1_block1_multiply").name
    'stage1_block1_multiply'
    """
    if isinstance(residual, str):
        if residual not in RESIDUALS:
            known = ", ".join(repr(known) for known in RESIDUALS)
            raise ValueError(
                f"`residual` must be one of {known}, or a callable. Received: residual={residual!r}"
            )
        return RESIDUALS[residual](name=name)
    if isinstance(residual, keras.layers.Layer) or not callable(residual):
        raise TypeError(
            "`residual` must be a name or a callable that takes `name`. "
            f"Received: residual={residual!r}. Give the class, such as "
            "`layers.MultiplicativeResidual`, or a `functools.partial` of it."
        )
    layer = residual(name=name)
    if not isinstance(layer, keras.layers.Layer):
        raise TypeError(
            "The callable given as `residual` must return a `keras.layers.Layer`. "
            f"Received: residual={residual!r}, which returned {layer!r}"
        )
    if layer.built and layer.weights:
        raise ValueError(
            "The callable given as `residual` must return a fresh layer at each call. "
            f"Received: the layer {layer.name!r}, which is built already."
        )
    return layer
