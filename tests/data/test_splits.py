import zlib

import numpy as np
import pytest

from keras_fmm import data
from keras_fmm.data import splits


@pytest.mark.parametrize("size", [1, 2, 7, 100])
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.999])
def test_the_parts_are_disjoint_and_cover(size, fraction):
    indices = np.arange(size) * 3
    left, taken = splits.cut(indices, fraction, seed=4)
    np.testing.assert_array_equal(np.sort(np.concatenate([left, taken])), indices)
    assert len(taken) == min(round(fraction * size), size - 1)
    assert (np.diff(left) > 0).all()
    assert (np.diff(taken) > 0).all()


def test_each_class_is_cut_in_the_same_proportion():
    labels = np.random.RandomState(0).choice(4, size=1000, p=[0.1, 0.2, 0.3, 0.4])
    _, taken = splits.cut(np.arange(1000), 0.25, seed=1, labels=labels)
    off = np.bincount(labels[taken]) - 0.25 * np.bincount(labels)
    assert np.abs(off).max() <= 1


def test_labels_are_those_of_the_indices():
    # The odd ones are class 1; indices hold only 2 of them.
    indices = np.array([0, 1, 2, 3, 4, 6])
    labels = np.array([0, 1, 0, 1, 0, 1, 0, 1])
    _, taken = splits.cut(indices, 0.5, seed=0, labels=labels)
    assert labels[taken].tolist().count(1) == 1


def test_the_division_is_the_same_for_good():
    # Scores on `digits` can be compared over years only while these stay as they are.
    left, taken = splits.cut(np.arange(10), 0.3, seed=0)
    assert left.tolist() == [0, 1, 3, 4, 5, 6, 8]
    assert taken.tolist() == [2, 7, 9]
    test_images, _ = data.load("digits").arrays("test")
    assert zlib.crc32(test_images.tobytes()) == 3002842199
