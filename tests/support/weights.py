"""Reading and setting a layer's weights by name."""

import numpy as np


def names(layer):
    """Returns the paths of a layer's weights, without the layer's own name."""
    return [variable.path.split("/", 1)[1] for variable in layer.weights]


def randomise(layer, seed=0, positive=False):
    """Gives every weight a random value, variances and scales positive, and returns them by name.

    Fresh layers have zeros and ones in places where only other values show a fault. With
    `positive`, and positive inputs, no ReLU is off; but of those behind a batch norm, in training,
    a part: what shifts or scales all alike is lost in the next batch norm.
    """
    rng = np.random.default_rng(seed)
    values = {}
    for name, variable in zip(names(layer), layer.weights, strict=True):
        # All positive, they must be small: where a sigmoid is all but 1, its gradient is all but 0.
        value = rng.normal(scale=0.3 if positive else 1.0, size=variable.shape)
        if name.endswith(("moving_variance", "gamma")):
            value = rng.uniform(0.5, 1.5, size=variable.shape)
        if positive and name.endswith("beta"):
            # Less than 1 / sqrt(7) of gamma: of eight normalised values the least is below.
            value = rng.uniform(0.05, 0.15, size=variable.shape)
        variable.assign(abs(value) if positive else value)
        values[name] = np.asarray(variable.value).astype("float64")
    return values


def enliven(model, seed=0):
    """Gives a whole model random weights with which its outputs stay of moderate size."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        name = variable.path.split("/")[-1]
        shape = tuple(variable.shape)
        if "int" in str(variable.dtype):
            continue
        if name.endswith(("variance", "gamma")):
            variable.assign(rng.uniform(0.5, 1.5, size=shape))
        elif len(shape) > 1:
            variable.assign(rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1])))
        else:
            variable.assign(rng.normal(scale=0.3, size=shape))
    return model
