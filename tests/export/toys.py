"""Tiny models of plain Keras layers, and images for them."""

import keras
import numpy as np
from keras import layers


def images(n=5, size=8, seed=0):
    return np.random.default_rng(seed).normal(size=(n, size, size, 3)).astype("float32")


def cnn(size=8, head=None, **arguments):
    """A convolution, batch norm with moved statistics, an optional layer, pooling and 4 classes."""
    inputs = keras.Input((size, size, 3))
    x = layers.Conv2D(6, 3, activation="relu")(inputs)
    x = layers.BatchNormalization()(x)
    x = head(x) if head else x
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(4, **arguments)(x), name="toy")
    for variable in model.weights:
        if "moving" in variable.name:
            variable.assign(variable + 0.3)
    return model
