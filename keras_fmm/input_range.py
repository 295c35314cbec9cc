"""Whether images are in the range that a model's first layers expect."""

import keras
import numpy as np

from keras_fmm import graph

# Scaled images spread less than this where they were scaled before, and more than that where
# they never are: an image of 0..1 that is divided by 255 spreads by 0.004 at most.
_LEAST_SPREAD = 0.02
_GREATEST_VALUE = 20.0


def scaling_layer(model):
    """Returns the `Rescaling` or `Normalization` layer that a model's input goes to, or None.

    One at the start of a nested model counts where the input goes there.
    """
    read = graph.read(model)
    for call in read.calls:
        if isinstance(call.operation, (keras.layers.Rescaling, keras.layers.Normalization)):
            tensors = keras.tree.flatten((call.args, call.kwargs))
            if any(x is read.inputs[0] for x in tensors):
                return call.operation
    return None


def scaling_problem(model, images):
    """Says what the model's scaling layer makes of images that were scaled before, or never.

    Args:
        model: functional or Sequential `keras.Model` of one input.
        images: float array, a batch of what the model takes; the first 100 are looked at.

    Returns:
        str, to be put behind "Received: ", with the cure; None where there is no such layer or
        the images look right to it.
    """
    layer = scaling_layer(model)
    if layer is None:
        return None
    images = images[:100]
    scaled = np.asarray(layer(images))
    spread, greatest = float(np.std(scaled)), float(np.abs(scaled).max())
    too_flat = images.std() > 0 and spread < _LEAST_SPREAD
    if not too_flat and greatest <= _GREATEST_VALUE:
        return None
    return (
        f"images from {images.min():.3g} to {images.max():.3g}, which the model's layer "
        f"{layer.name!r} scales to a spread of {spread:.2g} and values up to {greatest:.2g}. "
        "Give images as they are stored (0 to 255 for most), not scaled."
    )
