import itertools
import math

import numpy as np
import pytest

from keras_fmm.analysis import rank_agreement

RNG = np.random.default_rng(0)


def tau_by_pairs(one, other):
    concordant = discordant = only_one = only_other = 0
    for (a, b), (c, d) in itertools.combinations(zip(one, other, strict=True), 2):
        if a == c and b == d:
            continue
        if a == c:
            only_one += 1
        elif b == d:
            only_other += 1
        elif (a < c) == (b < d):
            concordant += 1
        else:
            discordant += 1
    ordered = concordant + discordant
    return (concordant - discordant) / math.sqrt((ordered + only_one) * (ordered + only_other))


def cosine_by_loop(one, other):
    product = length = other_length = 0.0
    for a, b in zip(one, other, strict=True):
        product += a * b
        length += a * a
        other_length += b * b
    return product / math.sqrt(length * other_length)


@pytest.mark.parametrize("channels", [2, 3, 16])
def test_against_pairs_and_loops_with_ties(channels):
    attention = RNG.integers(0, 5, (20, channels)).astype("float32")
    attention[:, :2] = [0, 1]
    importance = RNG.integers(-3, 3, (20, channels))
    importance[:, :2] = [2, 1]
    found = rank_agreement(attention, importance)
    pairs = list(zip(attention.tolist(), importance.tolist(), strict=True))
    np.testing.assert_allclose(found.kendall, [tau_by_pairs(*pair) for pair in pairs], atol=1e-12)
    np.testing.assert_allclose(found.cosine, [cosine_by_loop(*pair) for pair in pairs], atol=1e-12)


def test_by_hand():
    """Of the pairs of 1 2 3 3 and 1 3 2 4: four alike, one against, one tied in the first."""
    found = rank_agreement([[1, 2, 3, 3]], [[1, 3, 2, 4]])
    np.testing.assert_allclose(found.kendall, [3 / math.sqrt(5 * 6)])
    np.testing.assert_allclose(found.cosine, [25 / math.sqrt(23 * 30)])


def test_a_gates_map_and_the_extremes():
    ranks = np.arange(1.0, 6.0)[None]
    alike = rank_agreement(ranks.reshape(1, 1, 1, 5), ranks * 7)
    np.testing.assert_allclose([alike.kendall, alike.cosine], [[1], [1]])
    np.testing.assert_allclose(rank_agreement(ranks, -ranks).kendall, [-1])
    np.testing.assert_allclose(rank_agreement(ranks, -ranks).cosine, [-1])


@pytest.mark.filterwarnings("error")
def test_constant_and_zero_vectors_have_no_rank_or_angle():
    found = rank_agreement([[0.5, 0.5], [0, 0], [1, 2]], [[1, 2], [1, 2], [1, 2]])
    np.testing.assert_array_equal(np.isnan(found.kendall), [True, True, False])
    np.testing.assert_array_equal(np.isnan(found.cosine), [False, True, False])


ONES = np.ones((2, 3))


@pytest.mark.parametrize(
    ("attention", "importance", "error", "message"),
    [
        (ONES, np.ones((2, 4)), ValueError, r"same samples.*\(2, 3\) and \(2, 4\)"),
        (ONES, np.ones((3, 3)), ValueError, r"same samples.*\(2, 3\) and \(3, 3\)"),
        (ONES[:, :1], ONES[:, :1], ValueError, r"two channels.*shape \(2, 1\)"),
        (ONES[0], ONES[0], ValueError, r"`attention` must be.*shape \(3,\)"),
        (ONES[:0], ONES[:0], ValueError, r"at least one sample.*shape \(0, 3\)"),
        (np.ones((2, 4, 4, 1)), ONES, ValueError, r"shape \(2, 4, 4, 1\)"),
        (ONES, ONES * np.nan, ValueError, "`importance` must be finite.*6 entries"),
        (ONES.astype(str), ONES, TypeError, "`attention` must be an array of real numbers"),
    ],
)
def test_refused(attention, importance, error, message):
    with pytest.raises(error, match=message):
        rank_agreement(attention, importance)
