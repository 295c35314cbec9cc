"""Gates and convolutions that join a model, and at the start change nothing."""

import contextlib

import keras
import numpy as np

from keras_fmm import layers
from keras_fmm.models.upgrading.rebuilding import custom_objects

# How far a gate may be from its inputs and count as the identity.
_TOLERANCE = 1e-4


def make_convolution(convolution, path, argument):
    """Returns a fresh AWConv2D with all arguments of a Conv2D.

    Args:
        convolution: `keras.layers.Conv2D`.
        path: str, its name in the error.
        argument: a name or callable, see `layers.get_convolution`; what it says of the attention
            is kept.

    Raises:
        ValueError: the callable returns another layer, or what it says does not fit.
    """
    try:
        fresh = layers.get_convolution(argument)(
            filters=convolution.filters,
            kernel_size=convolution.kernel_size,
            strides=convolution.strides,
            padding=convolution.padding,
            use_bias=convolution.use_bias,
            name=convolution.name,
        )
    except ValueError as error:
        raise ValueError(
            "`convolution` must fit every chosen convolution. "
            f"Received: {path!r}, for which it says: {error}"
        ) from error
    if not isinstance(fresh, layers.AWConv2D):
        raise ValueError(
            "`convolution` must give an AWConv2D, the one convolution that is known to start as "
            f"another one. Received: convolution={argument!r}, which gives a "
            f"{type(fresh).__name__}. Give a `functools.partial(layers.AWConv2D, reduction=4)`."
        )
    # The attention trains where the convolution is frozen.
    config = {**fresh.get_config(), **convolution.get_config(), "trainable": True}
    with keras.saving.custom_object_scope(custom_objects(convolution) | custom_objects(fresh)):
        return type(fresh).from_config(config)


def make_gate(structure, operation, argument):
    """Returns a fresh gate, with the name, data format and dtype policy for its place.

    Args:
        structure: `Structure` of the model.
        operation: the layer, operation or nested model that it follows.
        argument: a name or callable, see `layers.get_gate`.
    """
    call = structure.calls[structure.last[id(operation)]]
    gate = layers.get_gate(argument, name=_free_name(structure, operation))
    gate.dtype_policy = _float_policy(call.dtype_policy)
    if hasattr(gate, "data_format"):
        gate.data_format = call.data_format
    return gate


def start_as_identity(gate, shape):
    """Makes a built gate give back its inputs, and tries whether it does.

    Args:
        gate: `keras.layers.Layer`; one without `start_as_identity` may be the identity already.
        shape: tuple, of its inputs; None where a size is unknown.

    Raises:
        ValueError: the outputs differ from the inputs.
    """
    start = getattr(gate, "start_as_identity", None)
    # The base of the gates has the method to say that a class must write it.
    with contextlib.suppress(NotImplementedError):
        if start is not None:
            start()
    sizes = [shape[0] or 2, *(size or 8 for size in shape[1:])]
    example = np.random.default_rng(0).standard_normal(sizes, dtype="float32")
    example = keras.ops.convert_to_tensor(example, gate.compute_dtype)
    outputs = gate(example)
    same = tuple(outputs.shape) == tuple(example.shape)
    if not same or not float(keras.ops.max(keras.ops.abs(outputs - example))) <= _TOLERANCE:
        raise ValueError(
            "A gate added to a model must start as the identity, or the model computes something "
            f"else. Received: {gate.name!r} of class {type(gate).__name__}, whose outputs differ "
            "from its inputs. Give the class a method `start_as_identity()` that sets its "
            "weights so; see `layers.FeatureGate.start_as_identity`."
        )


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
