import keras
import numpy as np
import pytest

from keras_fmm import analysis
from tests.analysis.saliency.saliency_models import CLASSES, IMAGES, linear


@pytest.mark.parametrize("patch_size", [1, 2, 4, 9])
@pytest.mark.parametrize("value", [None, 0.0, 0.7])
def test_a_linear_models_by_loops(patch_size, value):
    model, kernel, _ = linear()
    found = analysis.occlusion_sensitivity(
        model, IMAGES, CLASSES, patch_size=patch_size, value=value, batch_size=3
    )
    expected = np.zeros((4, -(-5 // patch_size), -(-3 // patch_size)))
    for n, c in enumerate(CLASSES):
        for i in range(5):
            for j in range(3):
                for k in range(2):
                    fill = IMAGES[n, :, :, k].mean() if value is None else value
                    fall = (IMAGES[n, i, j, k] - fill) * kernel[c, i, j, k]
                    expected[n, i // patch_size, j // patch_size] += fall
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_finds_the_one_pixel_that_counts(capsys):
    inputs = keras.Input((6, 4, 1))
    score = keras.layers.Reshape((1,))(inputs[:, 4, 1, :])
    model = keras.Model(inputs, keras.layers.Concatenate()([score, score * 0]))
    images = np.ones((1, 6, 4, 1), "float32")
    found = analysis.occlusion_sensitivity(model, images, patch_size=2, value=0)
    np.testing.assert_array_equal(found, [[[0, 0], [0, 0], [1, 0]]])
    assert capsys.readouterr().out == ""


def test_channels_first():
    model = linear()[0]
    first = keras.Sequential([keras.Input((2, 5, 3)), keras.layers.Permute((2, 3, 1)), model])
    expected = analysis.occlusion_sensitivity(model, IMAGES, 0, patch_size=2)
    keras.config.set_image_data_format("channels_first")
    try:
        moved = np.moveaxis(IMAGES, -1, 1)
        found = analysis.occlusion_sensitivity(first, moved, 0, patch_size=2)
    finally:
        keras.config.set_image_data_format("channels_last")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_refused():
    model = linear()[0]
    with pytest.raises(ValueError, match="`patch_size` must be a positive integer"):
        analysis.occlusion_sensitivity(model, IMAGES, patch_size=0)
    with pytest.raises(ValueError, match="`value` must be a finite number"):
        analysis.occlusion_sensitivity(model, IMAGES, value=np.inf)
    flat = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="must have rank 4, for there to be squares"):
        analysis.occlusion_sensitivity(flat, np.ones((2, 3)))
    with pytest.raises(ValueError, match="from 0 to 2"):
        analysis.occlusion_sensitivity(model, IMAGES, -1)
