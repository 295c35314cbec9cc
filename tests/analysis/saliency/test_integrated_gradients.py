import keras
import numpy as np
import pytest

from keras_fmm import analysis, models
from tests.analysis.saliency.saliency_models import CLASSES, IMAGES, linear, quadratic


def test_a_linear_models_are_its_products_and_complete():
    model, kernel, bias = linear()
    found = analysis.integrated_gradients(model, IMAGES, CLASSES, n_steps=3)
    assert (found.dtype, found.shape) == ("float32", IMAGES.shape)
    np.testing.assert_allclose(found, IMAGES * kernel[CLASSES], rtol=1e-5, atol=1e-6)
    logits = np.einsum("nhwc,nhwc->n", IMAGES, kernel[CLASSES]) + bias[CLASSES]
    at_zero = bias[CLASSES]
    np.testing.assert_allclose(found.sum((1, 2, 3)), logits - at_zero, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("baseline", [0.0, 0.5, IMAGES[2]], ids=["zero", "grey", "image"])
def test_a_quadratic_models_in_closed_form(baseline):
    model, kernel = quadratic()
    # By a sum over a linear gradient, whose ends count alike, there is no error.
    found = analysis.integrated_gradients(model, IMAGES, 1, n_steps=7, baseline=baseline)
    expected = (IMAGES**2 - np.square(baseline)) * kernel[1]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_networks_sum_comes_near_the_difference_of_the_logits():
    model = models.ToyCNN(input_shape=(8, 8, 1), classes=3, attention="squeeze_excite")
    images = np.random.default_rng(0).uniform(size=(3, 8, 8, 1)).astype("float32")
    logits = analysis.logits_model(model).predict(np.concatenate([images, images * 0]), verbose=0)
    classes = logits[:3].argmax(-1)
    difference = (logits[:3] - logits[3:])[np.arange(3), classes]
    found = analysis.integrated_gradients(model, images, n_steps=200, batch_size=400)
    np.testing.assert_allclose(found.sum((1, 2, 3)), difference, rtol=0.02)


def test_batches_and_layers_do_not_matter():
    model, _, _ = linear(activation=None)
    everything = model._flatten_layers()
    noted = [(len(x._inbound_nodes), len(x._outbound_nodes)) for x in everything]
    whole = analysis.integrated_gradients(model, IMAGES, n_steps=4)
    for batch_size in (1, 12):
        parts = analysis.integrated_gradients(model, IMAGES, n_steps=4, batch_size=batch_size)
        np.testing.assert_allclose(parts, whole, rtol=1e-5)
    assert [(len(x._inbound_nodes), len(x._outbound_nodes)) for x in everything] == noted


def integers():
    inputs = keras.Input((5, 3, 2), dtype="uint8")
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_steps": 1}, "`n_steps` must be an integer from 2"),
        ({"baseline": np.zeros((3, 3, 2))}, "`baseline` must be finite, a number or an array"),
        ({"baseline": np.nan}, "`baseline` must be finite"),
        ({"class_index": 3}, "from 0 to 2"),
        ({"model": integers()}, "must take floating-point numbers.*input is uint8"),
        ({"images": IMAGES * np.inf}, "must be finite"),
    ],
)
def test_refused(arguments, message):
    given = {"model": linear()[0], "images": IMAGES, **arguments}
    with pytest.raises(ValueError, match=message):
        analysis.integrated_gradients(**given)
