"""A backbone with attention on a phone."""

import numpy as np
import pytest

from keras_fmm import export, models
from tests.support.weights import randomise


@pytest.mark.slow
def test_an_aw_se_network_is_builtin_operators_and_says_what_keras_says(tmp_path):
    model = models.ToyCNN(input_shape=(8, 8, 3), attention="squeeze_excite", convolution="aw")
    for number, layer in enumerate(model.layers):
        kernel = layer.kernel.value if hasattr(layer, "kernel") else None
        randomise(layer, seed=number)
        if kernel is not None:
            layer.kernel.assign(kernel)
    path = export.to_tflite(model, tmp_path / "model.tflite")
    shape = (3, *model.input_shape[1:])
    images = np.random.default_rng(0).uniform(size=shape).astype("float32")
    expected = np.asarray(model(images))
    assert expected.std() > 0.01
    np.testing.assert_allclose(export.run_tflite(path, images), expected, atol=1e-5)
