"""Files of chains of products say what the model says: rounding does not add up with depth."""

import itertools

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("TFLite needs TensorFlow", allow_module_level=True)

from keras_fmm import export, layers
from keras_fmm.layers.multiplicative_residual import FORMS
from recipes.papers import networks
from tests.export import toys


@pytest.mark.parametrize(
    ("forms", "depth", "least"),
    [
        # One block of each form, the paper's product last, whose values spread most.
        pytest.param((*FORMS[1:], FORMS[0]), 6, 15, marks=pytest.mark.slow),
        pytest.param(("centered",), 54, 10, marks=pytest.mark.slow),
    ],
)
def test_int8_and_float_files_of_a_chain(tmp_path, forms, depth, least):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    turn = itertools.cycle(forms)

    def residual(name):
        form = next(turn)
        told = depth if form in ("exponential", "scaled") else None
        return layers.MultiplicativeResidual(form, told, name=name)

    classifier = networks.chain(residual, depth, (8, 8, 1), 10)
    for weight in classifier.weights:
        if weight.path.endswith("/scale"):
            weight.assign(rng.uniform(-0.5, 0.5, size=weight.shape))
    # What the classifier sees: its scores hide errors.
    model = keras.Model(classifier.input, classifier.layers[-2].output)
    images = rng.uniform(size=(64, 8, 8, 1)).astype("float32")
    expected = model.predict(images, verbose=0)
    assert np.isfinite(expected).all()
    for quantization, bound in ((None, 80), ("int8", least)):
        path = export.to_tflite(
            model,
            tmp_path / "chain.tflite",
            quantization=quantization,
            representative_data=images,
            verbose=0,
        )
        assert toys.decibels(export.run_tflite(path, images, verbose=0), expected) > bound
