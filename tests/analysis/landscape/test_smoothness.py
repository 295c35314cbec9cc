import dataclasses

import numpy as np
import pytest

from keras_fmm.analysis import smoothness

ANGLES = 2 * np.pi * np.arange(300) / 300


def column(*values):
    return np.array(values, "float64")[:, None]


def measures(*arguments, **options):
    return dataclasses.astuple(smoothness(*arguments, **options))


@pytest.mark.parametrize("waves", [1, 3])
def test_of_a_sine(waves):
    found = smoothness(column(*np.sin(waves * ANGLES)))
    assert found.total_variation == pytest.approx(4 * waves, rel=1e-3)
    # |v''| h^2, whose mean over the circle is 2 / pi.
    assert found.second_difference == pytest.approx(
        2 / np.pi * (waves * 2 * np.pi / 300) ** 2, rel=1e-3
    )
    assert (found.argmax_changes, found.monotone_pieces) == (0, 2 * waves)


@pytest.mark.parametrize(
    ("values", "closed", "expected"),
    [
        # (total variation, mean absolute second difference, pieces)
        ((0, 1, 0, 1), True, (4, 2, 4)),
        ((0, 1, 0, 1), False, (3, 2, 3)),
        ((0, 0, 1, 1), True, (2, 1, 2)),
        ((0, 0, 1, 1), False, (1, 1, 1)),
        ((0, 1, 2), True, (4, (0 + 3 + 3) / 3, 2)),
        ((0, 1, 2), False, (2, 0, 1)),
        ((5, 5, 5), True, (0, 0, 1)),
        ((5, 5, 5), False, (0, 0, 1)),
        # Up, level, up, level, down: the level parts make no piece of their own.
        ((0, 1, 1, 2, 2, 1), True, (4, (2 + 1 + 1 + 1 + 1 + 0) / 6, 2)),
        ((0, 1, 1, 2, 2, 1), False, (3, (1 + 1 + 1 + 1) / 4, 2)),
        # Down, up, down: closed, the last piece goes on into the first.
        ((3, 1, 5, 4), True, (8, (1 + 6 + 5 + 0) / 4, 2)),
        ((3, 1, 5, 4), False, (7, (6 + 5) / 2, 3)),
    ],
)
def test_by_hand(values, closed, expected):
    variation, second, changes, pieces = measures(column(*values), closed)
    assert (variation, pytest.approx(second), pieces) == expected
    assert changes == 0


def test_neurons_are_averaged_and_trajectories_are_not():
    zigzag, step = column(0, 1, 0, 1), column(0, 0, 1, 1)
    both = np.concatenate([zigzag, step], axis=1)
    assert smoothness(both).total_variation == 3
    assert smoothness(both).monotone_pieces == 3
    found = smoothness(np.stack([both, np.concatenate([step, step], axis=1)]))
    np.testing.assert_array_equal(found.total_variation, [3, 2])
    np.testing.assert_array_equal(found.second_difference, [1.5, 1])
    np.testing.assert_array_equal(found.monotone_pieces, [3, 2])
    assert found.argmax_changes.shape == (2,)
    assert smoothness(both[None]).total_variation.shape == (1,)


def test_argmax_changes():
    # The greatest neuron is in turn 0, 0, 2, 1; from the last to the first it changes again.
    values = np.array([[3, 1, 0], [3, 2, 1], [0, 1, 2], [0, 5, 1]])
    assert smoothness(values).argmax_changes == 3
    assert smoothness(values, closed=False).argmax_changes == 2
    # Of equals the first counts.
    assert smoothness(np.array([[1, 1], [1, 0], [1, 1]])).argmax_changes == 0


def test_relative_measures_do_not_know_the_scale():
    values = np.random.default_rng(0).normal(size=(30, 4))
    values[:, 3] = 7
    scaled = values * [1, 10, 1000, 3]
    assert measures(scaled)[0] > 10 * measures(values)[0]
    for index in (0, 1, 3):
        assert measures(scaled, relative=True)[index] == pytest.approx(
            measures(values, relative=True)[index]
        )
    step = column(0, 0, 4, 4)
    assert measures(step, relative=True)[:2] == (2, 1)


def test_which_neuron_is_greatest_is_of_the_values_as_they_are():
    # 5 cos t is above 1 + 0.1 sin t on one stretch of the circle; divided by their ranges, 10 and
    # 0.2, never.
    values = np.stack([5 * np.cos(ANGLES), 1 + 0.1 * np.sin(ANGLES)], axis=-1)
    assert smoothness(values).argmax_changes == 2
    assert smoothness(values, relative=True).argmax_changes == 2


def test_rounding_makes_no_pieces():
    generator = np.random.default_rng(0)
    saturated = (1 - 1e-7 * generator.random((300, 1))).astype("float32")
    assert smoothness(saturated).monotone_pieces == 1
    noisy = (10 + np.cos(ANGLES) + 1e-6 * generator.normal(size=300)).astype("float32")
    assert smoothness(noisy[:, None]).monotone_pieces == 2


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (np.zeros((2, 4)), ValueError, r"3 points at least. Received: values of shape \(2, 4\)"),
        (np.zeros(5), ValueError, r"\(points, classes\) or"),
        (np.zeros((5, 0)), ValueError, r"of shape \(5, 0\)"),
        (np.zeros((0, 5, 2)), ValueError, r"of shape \(0, 5, 2\)"),
        (np.full((5, 2), np.nan), ValueError, "must be finite"),
        (np.full((5, 2), "a"), TypeError, "array of real numbers"),
    ],
)
def test_refused(values, error, message):
    with pytest.raises(error, match=message):
        smoothness(values)
