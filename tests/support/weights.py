"""Reading and setting a layer's weights by name."""

import numpy as np


def names(layer):
    """Returns the paths of a layer's weights, without the layer's own name."""
    return [variable.path.split("/", 1)[1] for variable in layer.weights]


def randomise(layer, seed=0, positive=False):
    """Gives every weight a random value, variances and scales positive, and returns them by name.

    Fresh layers have zeros and ones in places where only other values show a fault. With
    `positive`, and positive inputs, no ReLU is off.
    """
    rng = np.random.default_rng(seed)
    values = {}
    for name, variable in zip(names(layer), layer.weights, strict=True):
        value = rng.normal(size=variable.shape)
        if name.endswith(("moving_variance", "gamma")):
            value = rng.uniform(0.5, 1.5, size=variable.shape)
        variable.assign(abs(value) if positive else value)
        values[name] = np.asarray(variable.value).astype("float64")
    return values
