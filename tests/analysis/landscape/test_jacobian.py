import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_fmm import models
from keras_fmm.analysis import jacobian_norms, jacobian_sensitivity

RNG = np.random.default_rng(0)
IMAGES = RNG.random((5, 8, 8, 1)).astype("float32")


def linear(classes, size, scale=1.0, activation="softmax"):
    """Returns a model softmax(x W + b), with W and b in float64."""
    inputs = keras.Input((size,))
    layer = layers.Dense(classes, activation=activation)
    model = keras.Model(inputs, layer(inputs))
    kernel, bias = scale * RNG.normal(size=(size, classes)), RNG.normal(size=classes)
    layer.set_weights([kernel, bias])
    return model, *(np.asarray(x, "float64") for x in layer.get_weights())


def softmax_jacobian(logits):
    """Returns dp / dlogits of one sample, entry by entry, without the difference 1 - p."""
    powers = np.exp(logits - logits.max())
    p = powers / powers.sum()
    jacobian = -np.outer(p, p)
    for i in range(len(p)):
        jacobian[i, i] = p[i] * sum(p[j] for j in range(len(p)) if j != i)
    return jacobian


# 40 classes go round a loop, 3 are unrolled.
@pytest.mark.parametrize("classes", [2, 3, 40])
@pytest.mark.parametrize("of", ["probabilities", "logits"])
def test_of_a_linear_model(classes, of):
    model, kernel, bias = linear(classes, 6)
    x = RNG.normal(size=(7, 6)).astype("float32")
    expected = []
    for sample in x.astype("float64"):
        outer = softmax_jacobian(sample @ kernel + bias)
        expected.append(np.linalg.norm(outer @ kernel.T if of == "probabilities" else kernel))
    found = jacobian_norms(model, x, of=of, batch_size=3)
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_certain_predictions_keep_their_relative_precision():
    model, kernel, bias = linear(3, 2, scale=20)
    x = RNG.normal(size=(20, 2)).astype("float32")
    logits = x @ kernel + bias
    margins = np.sort(logits)[:, -1] - np.sort(logits)[:, -2]
    assert margins.max() > 17, "1 - p is to be less than float32 can tell from 0"
    expected = [np.linalg.norm(softmax_jacobian(row) @ kernel.T) for row in logits]
    # Squares of entries below 1e-19 are nothing in float32.
    np.testing.assert_allclose(jacobian_norms(model, x), expected, rtol=1e-4, atol=1e-17)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX has no float64 as it starts")
@pytest.mark.parametrize("of", ["probabilities", "logits"])
def test_against_finite_differences(of):
    attention = "squeeze_excite"
    model = models.ToyCNN(input_shape=(8, 8, 1), classes=4, attention=attention)
    # The same network in float64, whose central differences of step 1e-6 err by about 1e-9, where
    # no ReLU or maximum changes sides; float32 leaves 1e-6 of the norm.
    keras.config.set_dtype_policy("float64")
    activation = "softmax" if of == "probabilities" else None
    precise = models.ToyCNN(
        input_tensor=keras.Input((8, 8, 1), dtype="float64"),
        classes=4,
        attention=attention,
        classifier_activation=activation,
    )
    precise.set_weights(model.get_weights())
    steps = 1e-6 * np.eye(64).reshape(64, 8, 8, 1)
    expected = []
    for image in IMAGES[:2].astype("float64"):
        moved = (ops.convert_to_tensor(image + sign * steps, "float64") for sign in (1, -1))
        ahead, behind = (ops.convert_to_numpy(precise(x)) for x in moved)
        expected.append(np.linalg.norm((ahead - behind) / 2e-6))
    keras.config.set_dtype_policy("float32")
    np.testing.assert_allclose(jacobian_norms(model, IMAGES[:2], of=of), expected, rtol=1e-4)


def test_the_estimate_is_of_the_norms_and_batches_do_not_matter(capsys):
    model = models.ToyCNN(input_shape=(8, 8, 1), classes=3)
    norms = jacobian_norms(model, IMAGES)
    assert capsys.readouterr().out == ""
    found = jacobian_sensitivity(model, IMAGES, batch_size=2, verbose=1)
    assert "5/5" in capsys.readouterr().out
    assert found.n == 5
    assert found.mean == pytest.approx(norms.mean(), rel=1e-5)
    assert found.total == pytest.approx(norms.sum(), rel=1e-5)
    assert found.standard_error == pytest.approx(norms.std(ddof=1) / np.sqrt(5), rel=1e-3)


def test_in_inference_and_with_or_without_the_softmax_at_the_end():
    inputs = keras.Input((8, 8, 1))
    x = layers.BatchNormalization()(layers.Flatten()(inputs))
    logits = layers.Dense(3)(layers.Dropout(0.5)(x))
    plain = keras.Model(inputs, logits)
    norms = jacobian_norms(plain, IMAGES)
    np.testing.assert_allclose(jacobian_norms(plain, IMAGES[:1]), norms[:1], rtol=1e-5)
    ending = keras.Model(inputs, layers.Softmax()(logits))
    np.testing.assert_array_equal(jacobian_norms(ending, IMAGES), norms)


def test_is_per_unit_of_the_input_as_it_is_stored():
    scaled = models.ToyCNN(input_shape=(8, 8, 1), classes=4)
    inputs = keras.Input((8, 8, 1))
    stored = keras.Model(inputs, scaled(layers.Rescaling(1 / 255)(inputs)))
    found = jacobian_norms(stored, IMAGES * 255)
    np.testing.assert_allclose(found * 255, jacobian_norms(scaled, IMAGES), rtol=1e-4)
    with pytest.warns(UserWarning, match="Received: images from .* Give images as they are stored"):
        jacobian_sensitivity(stored, IMAGES)


def test_half_precision_is_measured_in_float32():
    keras.config.set_dtype_policy("mixed_float16")
    half = models.ToyCNN(input_shape=(8, 8, 1), classes=4)
    keras.config.set_dtype_policy("float32")
    single = models.ToyCNN(input_shape=(8, 8, 1), classes=4)
    single.set_weights(half.get_weights())
    np.testing.assert_allclose(
        jacobian_norms(half, IMAGES), jacobian_norms(single, IMAGES), rtol=1e-6
    )


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


class OwnSoftmax(layers.Layer):
    def call(self, inputs):
        return keras.ops.exp(inputs) / keras.ops.sum(keras.ops.exp(inputs), -1, keepdims=True)


def ending_in(*ends, dtype="float32"):
    x = inputs = keras.Input((8, 8, 1), dtype=dtype)
    for layer in ends:
        x = layer(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Subclassed(), "functional"),
        (ending_in(layers.Dense(3)), r"one score for each class.*Received: outputs of shape"),
        (ending_in(layers.Flatten(), layers.Dense(3), OwnSoftmax()), "sum to 1 .* ends before its"),
        (ending_in(layers.Flatten(), layers.Dense(1)), 'a model of one score. Give `of="logits"`'),
        (
            ending_in(layers.Rescaling(1.0), layers.Flatten(), layers.Dense(3), dtype="uint8"),
            "whose input is uint8. Give a copy",
        ),
    ],
    ids=["subclassed", "map", "own softmax", "one class", "integers"],
)
def test_refused_models(model, message):
    with pytest.raises(ValueError, match=message):
        jacobian_sensitivity(model, IMAGES)


def test_refused_arguments():
    model = models.ToyCNN(input_shape=(8, 8, 1), classes=4)
    with pytest.raises(ValueError, match="`of` must be one of 'logits', 'probabilities'"):
        jacobian_sensitivity(model, IMAGES, of="classes")
    with pytest.raises(ValueError, match="`batch_size` must be a positive integer"):
        jacobian_sensitivity(model, IMAGES, batch_size=0)
    with pytest.raises(ValueError, match=r"first in images\[1\]"):
        jacobian_norms(model, np.where(np.arange(5)[:, None, None, None] == 1, np.nan, IMAGES))
