"""The arguments of Conv2D that speak of kernels and biases, for layers made of convolutions."""

import keras

from keras_fmm import checks

NAMES = tuple(
    f"{weight}_{kind}"
    for kind in ("initializer", "regularizer", "constraint")
    for weight in ("kernel", "bias")
)


def keep(layer, **arguments):
    """Checks these arguments and keeps each as an attribute of the layer.

    Raises:
        ValueError: Keras makes nothing of one.
    """
    for name, value in arguments.items():
        setattr(layer, name, checks.of_keras(**{name: value}))


def of_sublayer(layer, use_bias):
    """Returns a layer's arguments for a convolution in it."""
    names = [name for name in NAMES if use_bias or name.startswith("kernel")]
    # Of one initializer all kernels of a shape would have the same values.
    return {"use_bias": use_bias, **{name: fresh(getattr(layer, name)) for name in names}}


def fresh(argument):
    """Returns a copy of an initializer that draws other numbers; anything else as it is."""
    is_own = isinstance(argument, keras.initializers.Initializer)
    return argument.clone() if is_own else argument


def serialized(layer, names=NAMES):
    """Returns these arguments for a config."""
    found = {}
    for name in names:
        kind = name.rpartition("_")[2] + "s"
        found[name] = getattr(keras, kind).serialize(getattr(layer, name))
    return found
