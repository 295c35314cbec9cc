"""Measurements where Keras runs on JAX, of what needs no gradient."""

import keras
import numpy as np
import pytest

from keras_fmm import analysis, layers
from tests.analysis.landscape.test_output_sensitivity import linear
from tests.analysis.test_class_scores import IMAGES, network

pytestmark = pytest.mark.skipif(keras.backend.backend() != "jax", reason="for `make test-jax`")


def test_logits_are_the_models():
    model = network()
    found = analysis.curve(model, IMAGES)
    np.testing.assert_allclose(found, model(IMAGES), rtol=1e-5, atol=1e-6)
    # One square covers the whole image.
    maps = analysis.occlusion_sensitivity(model, IMAGES, 1, value=0.0)
    expected = np.asarray(model(IMAGES) - model(0 * IMAGES))[:, 1]
    np.testing.assert_allclose(maps[:, 0, 0], expected, rtol=1e-4, atol=1e-6)


def test_output_sensitivity_of_a_linear_model():
    # As in test_output_sensitivity: the variance of e . w is noise^2 |w|^2.
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(6, 4))
    variance = 0.3**2 * np.sum(kernel.mean(axis=1) ** 2)
    found = analysis.output_sensitivity(linear(kernel), rng.normal(size=(500, 6)), 0.3, draws=2)
    assert found.mean == pytest.approx(variance, abs=3 * variance * np.sqrt(2 / 1000))


def test_attention_maps_and_flops():
    inputs = keras.Input((8, 8, 2))
    gate = layers.SqueezeExcite(reduction=1, name="gate")
    model = keras.Model(inputs, gate(inputs))
    images = np.random.default_rng(0).random((3, 8, 8, 2)).astype("float32")
    maps = analysis.attention_maps(model, images)
    np.testing.assert_allclose(maps["gate"], gate.attention_map(images), rtol=1e-5)
    assert analysis.flops(model) == 2 * 2 * 2 + 8 * 8 * 2
