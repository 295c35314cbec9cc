"""Each family of backbones with one block a stage, narrow and on small images."""

import functools

import keras

from keras_fmm import models

FAMILIES = {
    "bottleneck_resnet": functools.partial(
        models.ResNet, (1, 1, 1, 1), filters=4, input_shape=(16, 16, 3)
    ),
    "basic_resnet": functools.partial(
        models.ResNet,
        (1, 1, 1, 1),
        bottleneck=False,
        filters=4,
        input_shape=(32, 32, 3),
        stem="imagenet",
    ),
    "wide_resnet": functools.partial(models.WideResNet, 10, 1, input_shape=(8, 8, 3)),
    "fmmnet": functools.partial(
        models.WideResNet, 10, 1, input_shape=(8, 8, 3), residual="multiply"
    ),
    "mobilenet": functools.partial(models.MobileNet, input_shape=(32, 32, 3), alpha=0.125),
}

# JAX compiles each operation for each shape: there the whole of a network is tried on one family,
# and tests/models/test_networks.py runs every block.
WHOLE = tuple(FAMILIES) if keras.backend.backend() == "tensorflow" else ("fmmnet",)


def small(family, **arguments):
    """Returns the small model of a family, with three classes."""
    return FAMILIES[family](**{"classes": 3, **arguments})
