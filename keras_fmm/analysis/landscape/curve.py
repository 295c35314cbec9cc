"""What a model gives along a trajectory through its input."""

import keras
import numpy as np

from keras_fmm import checks, hints
from keras_fmm.analysis.class_scores import class_logits, compiled
from keras_fmm.analysis.images import over_batches, prepared
from keras_fmm.graph import check_model


def curve(
    model: keras.Model,
    trajectory: hints.ArrayLike,
    of: str = "logits",
    batch_size: int = 128,
    verbose: hints.Verbose = "auto",
) -> np.ndarray:
    """Returns the last layer's neurons along a trajectory, or along several.

    Args:
        model: functional or Sequential `keras.Model` of one input that gives one score for each
            class, as logits or with a softmax.
        trajectory: array of numbers, `(points, height, width, channels)` or `(points, ...)` of
            what the model takes, as `ellipse` gives it; or several, `(trajectories, points, ...)`.
        of: "logits" or "probabilities", default "logits". Probabilities are the softmax of the
            logits.
        batch_size: int, at least 1, default 128. The points taken at once.
        verbose: "auto", 0, 1 or 2, default "auto". When progress is shown. "auto" shows a bar after
            five seconds, 0 never, 1 from the first step on; 2 writes one line at the end.

    Returns:
        float32 array, `(points, classes)`, or `(trajectories, points, classes)`.

    Raises:
        TypeError: `trajectory` holds no numbers, or `batch_size` is no integer.
        ValueError: the model's logits cannot be told, or an argument does not fit.

    Example:

    >>> import keras, numpy as np
    >>> from keras_fmm import analysis
    >>> inputs = keras.Input((2,))
    >>> layer = keras.layers.Dense(2, activation="softmax", kernel_initializer="identity")
    >>> model = keras.Model(inputs, layer(inputs))
    >>> line = np.linspace([0, 0], [2, 4], 3)
    >>> curve(model, line).tolist()
    [[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]]

    Reference:
        Novak, Bahri, Abolafia, Pennington, Sohl-Dickstein, "Sensitivity and Generalization in
        Neural Networks: an Empirical Study".
    """
    check_model(model)
    checks.positive_integer("batch_size", batch_size)
    trajectory = checks.real_array("trajectory", trajectory)
    leading = trajectory.shape[:1]
    if trajectory.ndim == len(model.inputs[0].shape) + 1:
        leading = trajectory.shape[:2]
        trajectory = trajectory.reshape(leading[0] * leading[1], *trajectory.shape[2:])
    model, points = prepared(model, trajectory, "trajectory")
    logits = compiled(class_logits(model, points, of, takes_floats=True))

    def scores(batch):
        found = logits(batch)
        return found if of == "logits" else keras.ops.softmax(found)

    values = over_batches(scores, [points], batch_size, verbose)
    return values.reshape(*leading, -1)
