"""Curves along ellipses through images and of random networks, and how smooth they are."""

import keras
import numpy as np

from keras_fmm import analysis, layers
from recipes.lab import trials

POINTS = 300
MEASURES = ("total_variation", "second_difference", "argmax_changes", "monotone_pieces")


def trajectories(dataset, kind, count):
    """Returns ellipses through test images, the same for every network, `(count, points, ...)`."""
    images, labels = trials.examples(dataset, "test")
    labels = labels.argmax(-1)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        if kind == "single-class":
            of_class = np.flatnonzero(labels == rng.choice(dataset.classes))
            rows = rng.choice(of_class, 3, replace=False)
        else:
            classes = rng.choice(dataset.classes, 3, replace=False)
            rows = [rng.choice(np.flatnonzero(labels == c)) for c in classes]
        found.append(analysis.ellipse(*images[rows], points=POINTS))
    return np.stack(found)


def random_networks(candidate, count, seed):
    """Returns what random networks of one input give along a line, `(count, points, 1)`."""
    line = np.linspace(-1, 1, POINTS, dtype="float32").reshape(POINTS, 1, 1, 1)
    inputs = x = keras.Input((1, 1, 1))
    for _ in range(3):
        x = keras.layers.Conv2D(64, 1, activation="relu")(x)
        if candidate == "AM":
            x = layers.SqueezeExcite(reduction=4)(x)
    model = keras.Model(inputs, keras.layers.Flatten()(keras.layers.Conv2D(1, 1)(x)))
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        for weight in model.weights:
            deviation = 0.5 if len(weight.shape) == 1 else np.sqrt(2 / weight.shape[-2])
            weight.assign(rng.normal(0, deviation, weight.shape))
        found.append(model.predict_on_batch(line))
    return np.stack(found)


def names(kind):
    """Returns the names of the measures of one kind of curve, a list.

    Those that scale with the logits are given both ways.
    """
    both = ("total_variation", "second_difference")
    return [
        f"{kind}, {measure}{how}"
        for measure in MEASURES
        for how in (("", ", relative") if measure in both else ("",))
    ]


def measures(drawn):
    """Returns the mean of each measure over the ellipses of each kind, and its spread, a dict."""
    found = {}
    for kind, values in drawn.items():
        for relative in (False, True):
            smooth = analysis.smoothness(values, kind != "random", relative)
            for measure in MEASURES:
                name = f"{kind}, {measure}{', relative' if relative else ''}"
                if name in names(kind):
                    numbers = getattr(smooth, measure)
                    found[name] = float(np.mean(numbers))
                    found[f"{name}, deviation"] = float(np.std(numbers))
    return found
