"""Layers made from what users choose, and errors where a choice gives something else."""

import keras

from keras_fmm import layers


def convolution(choice, **arguments):
    """Returns a fresh layer for a convolution's place.

    Args:
        choice: as of `layers.get_convolution`.
        **arguments: filters, kernel_size, strides, padding, use_bias and name.

    Raises:
        TypeError: the callable does not take these, or does not return a layer.
        ValueError: it returns a layer in use, or says that an argument does not fit.
    """
    maker = layers.get_convolution(choice)
    try:
        layer = maker(**arguments)
    except TypeError as error:
        raise TypeError(
            f"`convolution` must take {', '.join(arguments)} by keyword and return a layer. "
            f"Received: convolution={choice!r}, which says: {error}"
        ) from error
    if not isinstance(layer, keras.layers.Layer):
        raise TypeError(
            "The callable given as `convolution` must return a `keras.layers.Layer`. "
            f"Received: convolution={choice!r}, which returned {layer!r}"
        )
    if layer.built and layer.weights:
        raise _not_fresh(layer, "convolution")
    layer.name = arguments["name"]
    return layer


def called(layer, inputs, shape, argument, choice):
    """Returns the outputs of a fresh layer, which must have a shape.

    Args:
        layer: `keras.layers.Layer`.
        inputs: a tensor, or a list of them.
        shape: sequence of ints and None, where a size is not known.
        argument: str, the name of the argument that `choice` was given as.
        choice: what the layer was made of, for the error.

    Raises:
        TypeError, ValueError: it cannot be called so, or its outputs are others.
    """
    received = f"Received: {argument}={choice!r}, whose layer {layer.name!r}"
    form = "[branch, shortcut]" if argument == "residual" else "feature maps"
    # A layer without weights is not known by being built.
    if layer._inbound_nodes:
        raise _not_fresh(layer, argument)
    try:
        outputs = layer(inputs)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"`{argument}` must give a layer that is called on {form}. {received}, called so, "
            f"says: {error}"
        ) from error
    given = tuple(getattr(outputs, "shape", ()))
    fits = hasattr(outputs, "shape") and len(given) == len(shape)
    for size, other in zip(given, shape, strict=False):
        fits = fits and (size == other or size is None or other is None)
    if not fits:
        raise ValueError(
            f"`{argument}` must give a layer whose outputs here have the shape {tuple(shape)}. "
            f"{received} gives {given if hasattr(outputs, 'shape') else outputs!r}."
        )
    return outputs


def _not_fresh(layer, argument):
    return ValueError(
        f"The callable given as `{argument}` must return a fresh layer at each call. "
        f"Received: the layer {layer.name!r}, which is in use already."
    )
