"""Models of which all is known by hand."""

import keras
import numpy as np

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(4, 5, 3, 2)).astype("float32")
CLASSES = np.array([2, 0, 1, 1])


def linear(activation="softmax"):
    """Returns a model whose logits are `sum(images * kernel[class]) + bias[class]`, and these."""
    inputs = keras.Input((5, 3, 2))
    top = keras.layers.Dense(3, activation=activation, name="top")
    model = keras.Model(inputs, top(keras.layers.Flatten()(inputs)))
    kernel = RNG.normal(size=(3, 5, 3, 2)).astype("float32")
    bias = np.array([1.0, -2.0, 0.5], "float32")
    top.set_weights([kernel.reshape(3, -1).T, bias])
    return model, kernel, bias


def quadratic():
    """Returns a model whose logits are `sum(images**2 * kernel[class])`, and the kernel."""
    inputs = keras.Input((5, 3, 2))
    top = keras.layers.Dense(3, use_bias=False)
    model = keras.Model(inputs, top(keras.layers.Flatten()(inputs * inputs)))
    kernel = RNG.normal(size=(3, 5, 3, 2)).astype("float32")
    top.set_weights([kernel.reshape(3, -1).T])
    return model, kernel
