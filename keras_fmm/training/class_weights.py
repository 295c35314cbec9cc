"""How much the examples of each class count."""

import difflib
from collections.abc import Mapping, Sequence

import numpy as np

from keras_fmm import checks, hints


def class_weights(
    weights: str | Mapping[str, float],
    class_names: Sequence[str],
    labels: hints.ArrayLike | None = None,
) -> dict[int, float]:
    """Returns what `fit` takes as `class_weight`.

    Args:
        weights: str, or dict by the classes' names of numbers above 0. "balanced" weighs a class by
            `n / (classes * its n)`, so that all classes count the same together, and the mean
            weight of an example is 1. Another str is `name=number, ...`. A class that is not named
            weighs 1.
        class_names: list or tuple of str.
        labels: int array `(n,)`, default None. Those of the training images, for "balanced".

    Returns:
        Dict by label of float.

    Raises:
        TypeError: `weights` is neither, or a weight no number.
        ValueError: a class that is not there, or twice; a weight that is not above 0; a str that is
            none of these; "balanced" without labels.

    Example:

    >>> class_weights("balanced", ["cat", "dog"], labels=[0, 0, 0, 1])
    {0: 0.6666666666666666, 1: 2.0}
    >>> class_weights("dog=3", ["cat", "dog"])
    {0: 1.0, 1: 3.0}
    """
    class_names = checks.listed("class_names", class_names, str)
    if isinstance(weights, str) and weights.strip() == "balanced":
        if labels is None:
            raise ValueError('`labels` must be given for "balanced". Received: labels=None')
        counts = np.bincount(np.asarray(labels), minlength=len(class_names))
        # A class without an example has none to weigh.
        rows = enumerate(counts.tolist())
        return {i: len(labels) / (len(counts) * n) if n else 1.0 for i, n in rows}
    pairs = _pairs(weights) if isinstance(weights, str) else list(_items(weights))
    found = dict.fromkeys(range(len(class_names)), 1.0)
    names = [name for name, _ in pairs]
    for name, value in pairs:
        if name not in class_names:
            close = difflib.get_close_matches(str(name), class_names, 3) or class_names[:10]
            raise ValueError(
                "`weights` must name classes of the dataset. "
                f"Received: {name!r}. Did you mean {', '.join(map(repr, close))}?"
            )
        if names.count(name) > 1:
            raise ValueError(f"`weights` must name a class once. Received: {name!r} twice")
        value = checks.number(f"weights[{name!r}]", value)
        if value <= 0:
            raise ValueError(f"A class' weight must be above 0. Received: {name}={value}")
        found[class_names.index(name)] = value
    return found


def _items(weights):
    return checks.mapping("weights", weights).items()


def _pairs(text):
    try:
        pairs = [part.rsplit("=", 1) for part in text.split(",")]
        return [(name.strip(), float(value)) for name, value in pairs]
    except ValueError as error:
        raise ValueError(
            '`weights` must be "balanced", or a number for each class that is not to weigh 1, '
            f"with commas between. Received: {text!r}. Write e.g. 'cat=2, dog=0.5'."
        ) from error
