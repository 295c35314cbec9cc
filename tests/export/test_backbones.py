"""A backbone with attention on a phone."""

import numpy as np
import pytest

from keras_fmm import export
from tests.models.families import small
from tests.support.weights import enliven


# Layers by themselves, and their fast checks, are in tests/contracts/test_exports.py and
# tests/export/tflite/test_quantizations.py.
@pytest.mark.slow
@pytest.mark.parametrize(("quantization", "bound"), [(None, 1e-5), ("int8", 0.03)])
def test_an_aw_se_resnet_says_what_keras_says(tmp_path, quantization, bound):
    model = small(
        "bottleneck_resnet",
        attention="squeeze_excite",
        convolution="aw",
        classifier_activation=None,
    )
    enliven(model)
    shape = (20, *model.input_shape[1:])
    images = np.random.default_rng(0).normal(size=shape).astype("float32")
    path = export.to_tflite(
        model,
        tmp_path / "model.tflite",
        quantization=quantization,
        representative_data=images if quantization else None,
    )
    expected = np.asarray(model(images))
    assert expected.std(axis=0).min() > 0.01
    # In parts of the outputs' range.
    error = np.abs(export.run_tflite(path, images) - expected).max() / np.ptp(expected)
    assert error < bound
