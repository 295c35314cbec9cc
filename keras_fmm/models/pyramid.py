"""Feature maps of a backbone, for detection, segmentation and Grad-CAM."""

import difflib
import re

import keras


def feature_model(model, names=None):
    """Returns a model that gives feature maps from inside another; the layers are shared.

    Args:
        model: functional `keras.Model`.
        names: sequence of str: names of stages ("stage2" is the end of the second stage of a
            backbone of this package, with its activation where it has one) or of layers. None:
            every stage, the first first.

    Returns:
        `keras.Model` from the inputs of `model` to a list of maps, in the order of `names`.

    Raises:
        ValueError: the model is not functional, has no stages, or no layer of a name.

    Example:

    >>> from keras_fmm import models
    >>> backbone = models.ResNet18(include_top=False, input_shape=(64, 64, 3), stem="imagenet")
    >>> [x.shape for x in feature_model(backbone).outputs]
    [(None, 16, 16, 64), (None, 8, 8, 128), (None, 4, 4, 256), (None, 2, 2, 512)]
    """
    if not getattr(model, "inputs", None):
        raise ValueError(
            "`model` must be a functional `keras.Model`. "
            f"Received: model={model!r}. Call it on a `keras.Input`, and give "
            "`keras.Model(inputs, outputs)`."
        )
    # The layers are in the order in which they run, so that the last one of a stage ends it.
    ends = {}
    for layer in model.layers:
        match = re.match(r"(stage\d+)_", layer.name)
        if match is not None:
            ends[match.group(1)] = layer
    if names is None and not ends:
        raise ValueError(
            "`names` must name layers where a model has no stages. "
            f"Received: names=None for the model {model.name!r}. Give a list of layers' names."
        )
    names = list(ends) if names is None else list(names)
    known = {layer.name: layer for layer in model.layers} | ends
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=5) or list(ends)
            raise ValueError(
                "`names` must be names of stages or layers of the model. "
                f"Received: {name!r} for the model {model.name!r}. Near it: {', '.join(close)}."
            )
    return keras.Model(model.input, [known[name].output for name in names], name=model.name)
