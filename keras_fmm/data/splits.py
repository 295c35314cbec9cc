"""How the examples of a dataset are divided: by permuting their indices, never by moving them."""

import hashlib
import unicodedata

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


def by_name(names, labels, fraction, salt, leave=1):
    """Says which examples to take, by their names alone: those added later move none of them.

    An example is taken where the hash of its name is among the lowest `fraction` of all hashes. So
    of each class about that part is taken. Of a class so small that this would take none, or leave
    too few, it takes or leaves one more, which an example that is added may then replace.

    Args:
        names: sequence of str, `n` of them.
        labels: int array `(n,)`.
        fraction: float in [0, 1).
        salt: str. Another one takes others.
        leave: int, how many of each class are left at least.

    Returns:
        bool array `(n,)`.

    Example:

    >>> names = [f"{number}.jpg" for number in range(1000)]
    >>> taken = by_name(names, np.zeros(1000, int), 0.2, "test")
    >>> fewer = by_name(names[:500], np.zeros(500, int), 0.2, "test")
    >>> int(taken.sum()), bool((taken[:500] == fewer).all())
    (216, True)
    """
    chances = np.array([_chance(f"{salt}/{name}") for name in names])
    taken = chances < fraction
    for label in np.unique(labels) if fraction else ():
        places = np.flatnonzero(labels == label)
        places = places[chances[places].argsort()]
        taken[places[:1]] = True
        taken[places[max(0, len(places) - leave) :]] = False
    return taken


def divided(given, names, labels, validation_fraction, test_fraction, seed):
    """Returns the split of each example; what nobody has divided is divided by name.

    Args:
        given: sequence of str or None, `n` of them. The split where it is known.
        names: as of `by_name`.
        labels: as of `by_name`.
        validation_fraction: float in [0, 1), the part of train to take where none is validation.
        test_fraction: float in [0, 1), the part of train to take where none is test.
        seed: int. Which examples are validation.

    Returns:
        dict, by split the places of its examples, an int64 array, increasing.
    """
    given = np.array([split or "train" for split in given], object)
    names = np.array(names, object)
    # Of three in a class each part has one.
    is_validated = validation_fraction > 0 and "validation" not in given
    for split, fraction, salt, leave in (
        ("test", test_fraction, "test", 1 + is_validated),
        ("validation", validation_fraction, f"validation {seed}", 1),
    ):
        if split not in given:
            left = np.flatnonzero(given == "train")
            taken = by_name(names[left], labels[left], fraction, salt, leave)
            given[left[taken]] = split
    return {split: np.flatnonzero(given == split) for split in NAMES}


def _chance(text):
    """Returns a number from 0 to less than 1 that a text has on every machine."""
    # Systems write accents in two ways.
    content = unicodedata.normalize("NFC", text).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(content, digest_size=6).digest(), "big") / 2**48
