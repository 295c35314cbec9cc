"""Gates, convolutions and residuals that join a model, and at the start change nothing."""

import contextlib
import inspect

import keras
import numpy as np

from keras_fmm import layers
from keras_fmm.models.upgrading.rebuilding import custom_objects, rebuild
from keras_fmm.protocols import (
    ReplacesConvolution,
    StartsAsIdentity,
    StartsAsSum,
    StartsNearConvolution,
)

# How far what is new may be from what it starts as, for outputs of about 1.
_TOLERANCE = 1e-4
_HALF_TOLERANCE = 5e-2

# What the arguments of a convolution say that a backbone gives every replacement.
_GIVEN = ("filters", "kernel_size", "strides", "padding", "use_bias", "name")

# What no longer matters when the weights are set.
_INITIALIZERS = ("kernel_initializer", "bias_initializer")

# What Keras' base says in the config of any layer.
_OF_ANY_LAYER = ("trainable", "dtype")


def make_convolution(convolution, path, argument):
    """Returns a fresh replacement of a Conv2D, with all of its arguments.

    Args:
        convolution: `keras.layers.Conv2D`.
        path: str, its name in the error.
        argument: a name or callable, see `layers.get_convolution`; what it says of more than a
            Conv2D has is kept as far as the layer's config has it.

    Raises:
        ValueError: the layer cannot start as a convolution, does not take an argument of this one
            that is not Keras' default, or what the callable says does not fit.
        TypeError: the callable takes other arguments or gives no layer.
    """
    try:
        fresh = layers.get_convolution(argument)(
            filters=convolution.filters,
            kernel_size=_one_if_alike(convolution.kernel_size),
            strides=_one_if_alike(convolution.strides),
            padding=convolution.padding,
            use_bias=convolution.use_bias,
            name=convolution.name,
        )
    except ValueError as error:
        raise ValueError(
            "`convolution` must fit every chosen convolution. "
            f"Received: {path!r}, for which it says: {error}"
        ) from error
    if not isinstance(fresh, (ReplacesConvolution, StartsNearConvolution)):
        raise ValueError(
            "`convolution` must give a layer that can start as the convolution in whose place it "
            "stands, by a method `start_as_convolution(kernel, bias=None)` that sets its weights. "
            f"Received: convolution={argument!r}, which gives a {type(fresh).__name__} without. "
            "Write the method, or `start_near_convolution`, or give a "
            "`functools.partial(layers.AWConv2D, reduction=4)`."
        )
    return _with_arguments_of(convolution, fresh, path)


def _one_if_alike(sizes):
    # As backbones give them.
    return sizes[0] if len(set(sizes)) == 1 else sizes


def _with_arguments_of(convolution, fresh, path):
    """Returns a layer as `fresh` with the arguments that it shares with a convolution."""
    # Says what is wrong where the convolution has no config.
    rebuild(convolution, path)
    config, old = fresh.get_config(), convolution.get_config()
    usual = keras.layers.Conv2D(convolution.filters, convolution.kernel_size).get_config()
    lost = [
        f"{key}={value!r}"
        for key, value in old.items()
        if key not in (*config, *_GIVEN, *_INITIALIZERS, "trainable", "dtype")
        and value != usual[key]
    ]
    if lost:
        raise ValueError(
            "`convolution` must give a layer that takes all arguments of every chosen convolution "
            f"which differ from Keras' defaults. Received: {path!r} with {', '.join(lost)}, which "
            f"the config of {type(fresh).__name__} does not have. Choose others by "
            "`convolution_where`, or give the class these arguments."
        )
    config |= {key: value for key, value in old.items() if key in config and key not in _GIVEN}
    taken = inspect.signature(type(fresh).__init__).parameters.values()
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken):
        # Keras' base puts these into the config of every class; they are set below.
        names = {parameter.name for parameter in taken}
        config = {key: config[key] for key in config if key in names or key not in _OF_ANY_LAYER}
    with keras.saving.custom_object_scope(custom_objects(convolution) | custom_objects(fresh)):
        try:
            layer = type(fresh).from_config(config)
        except TypeError as error:
            raise ValueError(
                "`convolution` must give layers that are made again from their config. "
                f"Received: a {type(fresh).__name__} in the place of {path!r}, which is not: "
                f"{error}. Let `get_config` say what the constructor takes, and no more."
            ) from error
    layer.name, layer.dtype_policy = convolution.name, convolution.dtype_policy
    # What is new trains where the convolution is frozen.
    layer.trainable = True
    return layer


def start_as_convolution(layer, convolution, path, shape):
    """Makes a built layer compute what a convolution does, and tries whether it does.

    Of a layer that is a convolution in part, the channels that it says.

    Args:
        layer: what `make_convolution` gave.
        convolution: `keras.layers.Conv2D`.
        path: str, the convolution's name in the error.
        shape: tuple, of its inputs; None where a size is unknown.

    Raises:
        ValueError: the outputs differ.
    """
    # Copies: on JAX two variables of one array lose it when either is trained.
    bias = keras.ops.copy(convolution.bias) if convolution.use_bias else None
    is_whole = isinstance(layer, ReplacesConvolution)
    method = "start_as_convolution" if is_whole else "start_near_convolution"
    count = _ask(layer, path, method, keras.ops.copy(convolution.kernel), bias)
    for name in ("kernel", "bias"):
        # A replacement may hold them elsewhere, or not at all.
        new, old = getattr(layer, name, None), getattr(convolution, name)
        if isinstance(new, keras.Variable) and old is not None:
            new.trainable = old.trainable
    reach = (
        1 + rate * (size - 1)
        for rate, size in zip(convolution.dilation_rate, convolution.kernel_size, strict=True)
    )
    example = _example(shape, layer.compute_dtype, max(8, *reach))
    found, expected = layer(example), convolution(example)
    if not is_whole:
        axis = -1 if convolution.data_format == "channels_last" else 1
        found, expected = (keras.ops.take(x, range(count), axis=axis) for x in (found, expected))
    if not _is_near(found, expected, _rounding(expected)):
        raise ValueError(
            "A layer in a convolution's place must start as that convolution, or the model "
            f"computes something else. Received: a {type(layer).__name__} in the place of "
            f"{path!r}, whose outputs differ after its `start_as_convolution(kernel, bias)`. Let "
            "this set the weights with which `layer(x)` is `keras.ops.conv(x, kernel) + bias`."
        )


def make_residual(structure, operation, argument):
    """Returns a fresh layer for the place of a sum, with its name, dtype policy and regularizer.

    Args:
        structure: `Structure` of the model.
        operation: `keras.layers.Add` or a bare sum.
        argument: a name or callable, see `layers.get_residual`.
    """
    layer = layers.get_residual(argument, operation.name)
    layer.name = operation.name
    regularizer = getattr(operation, "activity_regularizer", None)
    if regularizer is not None and layer.activity_regularizer is None:
        layer.activity_regularizer = regularizer
    _adapt(layer, structure.calls[structure.last[id(operation)]])
    return layer


def start_as_sum(layer, path, shape):
    """Makes a built residual give branch + shortcut, and tries whether it does.

    Args:
        layer: `keras.layers.Layer`; one without `start_as_sum` may be the sum already.
        path: str, the name of what it replaces in the error.
        shape: tuple, of either input; None where a size is unknown.

    Raises:
        ValueError: the outputs differ from the sum.
    """
    if isinstance(layer, StartsAsSum):
        _ask(layer, path, "start_as_sum")
    branch = _example(shape, layer.compute_dtype)
    shortcut = _example(shape, layer.compute_dtype, seed=1)
    expected = branch + shortcut
    if not _is_near(layer([branch, shortcut]), expected, _rounding(expected)):
        raise ValueError(
            "A residual added to a model must start as the sum, or the model computes something "
            f"else. Received: a {type(layer).__name__} in the place of {path!r}, whose outputs "
            "differ from branch + shortcut. Give the class a method `start_as_sum()` that sets "
            "its weights so that they are alike, such as a zero factor in "
            "`shortcut + branch * (1 + factor * shortcut)`; one that has no such start works in a "
            "backbone of its own, `models.WideResNet(residual=...)`."
        )


def make_gate(structure, operation, argument):
    """Returns a fresh gate, with the name, data format and dtype policy for its place.

    Args:
        structure: `Structure` of the model.
        operation: the layer, operation or nested model that it follows.
        argument: a name or callable, see `layers.get_gate`.
    """
    call = structure.calls[structure.last[id(operation)]]
    gate = layers.get_gate(argument, name=_free_name(structure, operation))
    _adapt(gate, call)
    return gate


def _adapt(layer, call):
    """Gives a layer the dtype policy and data format of the call that it stands at."""
    layer.dtype_policy = _float_policy(call.dtype_policy)
    if hasattr(layer, "data_format"):
        layer.data_format = call.data_format


def _ask(layer, path, method, *arguments):
    """Returns what a method of `keras_fmm.protocols` gives, which a user may have written wrong."""
    try:
        return getattr(layer, method)(*arguments)
    except ValueError as error:
        raise ValueError(f"At {path!r}: {error}") from error
    except (AttributeError, TypeError) as error:
        given = "(kernel, bias)" if arguments else "()"
        raise ValueError(
            f"`{method}{given}` of a layer must set its weights, see `keras_fmm.protocols`. "
            f"Received: that of a {type(layer).__name__} at {path!r}, which fails: {error}"
        ) from error


def start_as_identity(gate, path, shape):
    """Makes a built gate give back its inputs, and tries whether it does.

    Args:
        gate: `keras.layers.Layer`; one without `start_as_identity` may be the identity already.
        path: str, what it follows, in the error.
        shape: tuple, of its inputs; None where a size is unknown.

    Raises:
        ValueError: the outputs differ from the inputs.
    """
    if isinstance(gate, StartsAsIdentity):
        # The base of the gates has the method to say that a class must write it.
        with contextlib.suppress(NotImplementedError):
            _ask(gate, path, "start_as_identity")
    example = _example(shape, gate.compute_dtype)
    if not _is_near(gate(example), example, _TOLERANCE):
        raise ValueError(
            "A gate added to a model must start as the identity, or the model computes something "
            f"else. Received: a {type(gate).__name__} behind {path!r}, whose outputs differ from "
            "its inputs. Give the class a method `neutral_weights()`, or all of "
            "`start_as_identity()`, that says so; see `layers.FeatureGate.start_as_identity`."
        )


def _example(shape, dtype, size=8, seed=0):
    """Returns random numbers of a shape, in which unknown sides have a size."""
    sizes = [shape[0] or 2, *(known or size for known in shape[1:])]
    example = np.random.default_rng(seed).standard_normal(sizes, dtype="float32")
    return keras.ops.convert_to_tensor(example, dtype)


def _largest(x):
    # In float32: TensorFlow makes no array of a single bfloat16.
    largest = keras.ops.cast(keras.ops.max(keras.ops.abs(x)), "float32")
    return float(keras.ops.convert_to_numpy(largest))


def _rounding(expected):
    """Returns how far from these outputs others may be that only round otherwise."""
    is_half = keras.backend.standardize_dtype(expected.dtype) in ("float16", "bfloat16")
    largest = _largest(expected)
    return (_HALF_TOLERANCE if is_half else _TOLERANCE) * max(1.0, largest)


def _is_near(outputs, expected, tolerance):
    """Says whether two tensors are alike; False where the first is none."""
    if not hasattr(outputs, "shape") or tuple(outputs.shape) != tuple(expected.shape):
        return False
    difference = keras.ops.cast(outputs, "float32") - keras.ops.cast(expected, "float32")
    return _largest(difference) <= tolerance


def _free_name(structure, operation):
    """Returns a name for the gate that no neighbour has, on whatever level the layer stands."""
    levels = {path.rpartition("/")[0] for path in structure.paths(operation)}
    split = [path.rpartition("/") for path in structure.places]
    taken = {name for level, _, name in split if level in levels}
    name, number = f"{operation.name}_attention", 1
    while name in taken:
        number += 1
        name = f"{operation.name}_attention_{number}"
    return name


def _float_policy(policy):
    """Returns a policy, or that of a quantized layer before it was quantized."""
    if policy.quantization_mode is None:
        return policy
    if policy.compute_dtype == policy.variable_dtype:
        return keras.DTypePolicy(policy.compute_dtype)
    return keras.DTypePolicy(f"mixed_{policy.compute_dtype}")
