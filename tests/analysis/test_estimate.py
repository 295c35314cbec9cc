import dataclasses
import math

import numpy as np
import pytest

from keras_fmm.analysis import Estimate


def test_by_hand():
    # Deviations -2, -1, 0, 3: squares sum to 14, over 3, over 4 images.
    found = Estimate.from_samples([1, 2, 3, 6])
    assert (found.mean, found.n, found.total) == (3.0, 4, 12.0)
    assert found.standard_error == pytest.approx(math.sqrt(14 / 3 / 4))


def test_float32_samples_are_summed_in_float64():
    samples = np.full(100_000, 0.1, "float32")
    assert Estimate.from_samples(samples).mean == pytest.approx(float(samples[0]), rel=1e-12)


def test_one_image_tells_nothing_of_the_others():
    found = Estimate.from_samples([5.0])
    assert found.mean == 5
    assert math.isnan(found.standard_error)


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Estimate(1.0, 0.1, 3).mean = 2.0


@pytest.mark.parametrize("samples", [[], [[1.0, 2.0]], 3.0])
def test_refused(samples):
    with pytest.raises(ValueError, match="one number for each image, at least one. Received: .*sh"):
        Estimate.from_samples(samples)
