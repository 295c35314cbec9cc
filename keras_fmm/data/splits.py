"""How the examples of a dataset are divided: by permuting their indices, never by moving them."""

import numpy as np

NAMES = ("train", "validation", "test")
TEST_FRACTION = 0.2
TEST_SEED = 1797


def cut(indices, fraction, seed, labels=None):
    """Divides indices in two at random.

    The same arguments give the same division on every machine and NumPy version: `RandomState`
    is the generator whose streams NumPy keeps as they are.

    Args:
        indices: int64 array `(n,)`, increasing.
        fraction: float in [0, 1), the part to take; at least one index is left.
        seed: int, at least 0 and below `2**32`.
        labels: int array, indexed by what is in `indices`; with it each class is cut in the same
            proportion, to within one example.

    Returns:
        Two int64 arrays, both increasing: what is left, and the `round(fraction * n)` taken.

    Example:

    >>> left, taken = cut(np.arange(6), 0.5, seed=0, labels=np.array([0, 0, 1, 1, 2, 2]))
    >>> len(left), (taken // 2).tolist()
    (3, [0, 1, 2])
    """
    order = np.random.RandomState(seed).permutation(indices)
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    number = min(round(fraction * len(order)), len(order) - 1)
    # Evenly spaced places in a list sorted by class take the same part of every class.
    places = np.arange(number) * len(order) // max(number, 1)
    return np.sort(np.delete(order, places)), np.sort(order[places])
