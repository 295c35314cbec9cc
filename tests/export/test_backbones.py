"""A backbone with attention on a phone."""

import numpy as np

from keras_fmm import export, models
from tests.support.weights import randomise


def test_aw_se_mobilenet_is_builtin_operators_and_says_what_keras_says(tmp_path):
    model = models.from_preset(
        "aw_se_mobilenet", input_shape=(32, 32, 3), alpha=0.25, classes=4, dropout=0
    )
    for number, layer in enumerate(model.layers):
        kernel = layer.kernel.value if hasattr(layer, "kernel") else None
        randomise(layer, seed=number)
        if kernel is not None:
            layer.kernel.assign(kernel)
    path = export.to_tflite(model, tmp_path / "model.tflite")
    images = np.random.default_rng(0).uniform(size=(3, 32, 32, 3)).astype("float32")
    expected = np.asarray(model(images))
    assert expected.std() > 0.01
    np.testing.assert_allclose(export.run_tflite(path, images), expected, atol=1e-5)
