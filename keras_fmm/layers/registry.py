"""Layers by name and role: how backbones, `upgrade` and recipes say which they take.

A layer that takes a role's place gets a line in that role's mapping; where presets of
`models.from_preset` are to be named after it, one in `SHORT_NAMES` too.
"""

import dataclasses
import functools
import inspect
import types
import weakref

import keras

from keras_fmm import checks
from keras_fmm.layers.attention_augmented_conv2d import AttentionAugmentedConv2D
from keras_fmm.layers.aw_conv2d import AWConv2D
from keras_fmm.layers.cbam import CBAM
from keras_fmm.layers.channel_attention import ChannelAttention
from keras_fmm.layers.efficient_channel_attention import EfficientChannelAttention
from keras_fmm.layers.local_self_attention2d import LocalSelfAttention2D
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
CONVOLUTIONS = types.MappingProxyType(
    {
        "aw": AWConv2D,
        "attention_augmented": AttentionAugmentedConv2D,
        "local_attention": LocalSelfAttention2D,
    }
)

# The names that `get_residual` knows, each with its class, or a `functools.partial` of it.
RESIDUALS = types.MappingProxyType(
    {
        "add": keras.layers.Add,
        "multiply": MultiplicativeResidual,
        "centered_multiply": functools.partial(MultiplicativeResidual, form="centered"),
    }
)

# The names that `get_block` knows, each with its class; none yet.
BLOCKS = types.MappingProxyType({})

# What gates and convolutions are called in front of a preset's backbone: "se_resnet50". Those
# without a short name have no presets; `get_gate` and its kin take the long names alone.
SHORT_NAMES = types.MappingProxyType(
    {
        "squeeze_excite": "se",
        "eca": "eca",
        "cbam": "cbam",
        "aw": "aw",
        "attention_augmented": "aa",
    }
)


def get_gate(attention, name=None):
    """Returns a fresh gate, or None for None.

    Args:
        attention: str, callable or None. A name among `GATES` (the layer's defaults), or a callable
            without arguments that returns a fresh layer at each call, such as
            `lambda: SqueezeExcite(reduction=8)`. A layer of your own needs `get_config`, or it
            loses `name` when a model is saved.
        name: str or None, default None. What to call the layer; None leaves its own name.

    Raises:
        ValueError: the name is not known, the callable fails or returns a layer already in use, or
            `name` is no str or has a slash.
        TypeError: `attention` is none of these, or the callable takes other arguments or does not
            return a layer.

    Example:

    >>> get_gate("squeeze_excite", name="stage1_attention").name
    'stage1_attention'
    >>> get_gate(lambda: CBAM(use_spatial=False)).use_spatial
    False
    """
    return _named(_GATE, attention, name)


def get_block(block, name=None):
    """Returns a fresh layer that stands between stages, from a map to one of the same shape.

    Args:
        block: str, callable or None. A name among `BLOCKS`, or a callable without arguments that
            returns a fresh layer at each call; None gives None.
        name: str or None, default None. What to call the layer; None leaves its own name.

    Raises:
        ValueError: as `get_gate`.
        TypeError: as `get_gate`.

    Example:

    >>> get_block(lambda: keras.layers.SpatialDropout2D(0.1), name="stage2_block").name
    'stage2_block'
    """
    return _named(_BLOCK, block, name)


def get_convolution(convolution):
    """Returns what makes a backbone's convolutions.

    Args:
        convolution: str, callable or None. None for `keras.layers.Conv2D`, a name among
            `CONVOLUTIONS`, or a callable `(filters, kernel_size, strides, padding, use_bias, name)`
            that returns a fresh layer, such as `functools.partial(AWConv2D, reduction=4)`.

    Returns:
        A callable of those arguments, by keyword. Where it calls one of your own, it raises
        ValueError and TypeError as `get_gate`.

    Raises:
        ValueError: the name is not known.
        TypeError: `convolution` is none of these.

    Example:

    >>> get_convolution("aw")(filters=8, kernel_size=3, name="stage1_conv").name
    'stage1_conv'
    """
    return keras.layers.Conv2D if convolution is None else _maker(_CONVOLUTION, convolution)


def get_residual(residual, name=None):
    """Returns a fresh layer that merges a residual branch with its shortcut.

    Args:
        residual: str or callable. A name among `RESIDUALS`, or a callable that takes `name` and
            returns a fresh layer, which is called on `[branch, shortcut]`, such as
            `functools.partial(MultiplicativeResidual, "linear")`.
        name: str or None, default None. What to call the layer; None leaves its own name.

    Raises:
        ValueError: as `get_gate`.
        TypeError: as `get_gate`.

    Example:

    >>> get_residual("multiply", name="stage1_block1_multiply").name
    'stage1_block1_multiply'
    """
    return _maker(_RESIDUAL, residual)(name=name)


@dataclasses.dataclass(frozen=True)
class _Role:
    argument: str  # as errors call it
    known: types.MappingProxyType
    takes: str  # what a callable takes
    cure: str
    may_be_none: bool = True


_GATE = _Role(
    "attention",
    GATES,
    "without arguments",
    "For a layer of your own choice give `lambda: layers.SqueezeExcite(reduction=8)`.",
)
_BLOCK = _Role(
    "block",
    BLOCKS,
    "without arguments",
    "For a layer of your own give `lambda: MyBlock(channels=64)`.",
)
_CONVOLUTION = _Role(
    "convolution",
    CONVOLUTIONS,
    "taking what Conv2D takes",
    "For a layer of your own choice give `functools.partial(layers.AWConv2D, reduction=4)`.",
)
_RESIDUAL = _Role(
    "residual",
    RESIDUALS,
    "taking `name`",
    "Give the class, such as `layers.MultiplicativeResidual`, or a `functools.partial` of it.",
    may_be_none=False,
)

# What callables of users' own have returned: one that returns a layer again is found out.
_returned = weakref.WeakSet()


def _named(role, choice, name):
    if choice is None:
        return None
    # Keras looks at those that a constructor is given alone.
    if name is not None and (not isinstance(name, str) or "/" in name):
        raise ValueError(
            f"`name` must be None or a str without a slash. Received: name={name!r}. Give e.g. "
            f'"stage1_{role.argument}".'
        )
    layer = _maker(role, choice)()
    if name is not None:
        layer.name = name
    return layer


def _maker(role, choice):
    """Returns the class of a name, or a user's own callable, checked at each call."""
    none = "None, " if role.may_be_none else ""
    if isinstance(choice, str):
        if choice not in role.known:
            known = ", ".join(repr(name) for name in role.known)
            raise ValueError(
                f"`{role.argument}` must be {none}{known and f'one of {known}, or '}a callable "
                f"{role.takes} that returns a layer. "
                f"Received: {role.argument}={choice!r}. {role.cure}"
            )
        return role.known[choice]
    if isinstance(choice, keras.layers.Layer) or not callable(choice):
        raise TypeError(
            f"`{role.argument}` must be {none}a name or a callable {role.takes}. "
            f"Received: {role.argument}={choice!r}. {role.cure}"
        )
    return functools.partial(_checked, role, choice)


def _checked(role, choice, **arguments):
    """Returns the fresh layer that a user's own callable gives."""
    given = f" with {', '.join(arguments)}" if arguments else ""
    must = f"The callable given as `{role.argument}` must"
    received = f"Received: {role.argument}={choice!r}, which"
    if not checks.takes(choice, **arguments):
        raise TypeError(
            f"{must} be one {role.takes} and return a layer. {received} cannot be called"
            f"{given or ' without arguments'}: it takes {inspect.signature(choice)}. {role.cure}"
        )
    try:
        layer = choice(**arguments)
    # It is the user's code.
    except Exception as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"{must} be one {role.takes} and return a layer. {received}, called{given}, raised "
            f"{type(error).__name__}: {error}. {role.cure}"
        ) from error
    if not isinstance(layer, keras.layers.Layer):
        raise TypeError(
            f"{must} return a `keras.layers.Layer`. {received} returned {layer!r}. {role.cure}"
        )
    # A layer without weights counts as built from the start.
    is_used = (layer.built and layer.weights) or layer in _returned
    if is_used:
        how = "again" if layer in _returned else "which is built already"
        raise ValueError(
            f"{must} return a fresh layer at each call. {received} returned the layer "
            f"{layer.name!r} {how}. Make the layer in the callable, not before it. {role.cure}"
        )
    _returned.add(layer)
    return layer
