import keras
import numpy as np
import pytest
from keras import layers

from keras_fmm import models
from keras_fmm.analysis import output_sensitivity

RNG = np.random.default_rng(0)
IMAGES = RNG.random((6, 8, 8, 1)).astype("float32")


def linear(kernel, activation="softmax"):
    inputs = keras.Input((len(kernel),))
    layer = layers.Dense(len(kernel[0]), activation=activation)
    model = keras.Model(inputs, layer(inputs))
    layer.set_weights([np.asarray(kernel), RNG.normal(size=len(kernel[0]))])
    return model


@pytest.mark.parametrize(("noise", "draws"), [(0.1, 1), (0.3, 8)])
def test_of_a_linear_model(noise, draws):
    # d = e . w with w the mean of the kernel's columns: normal of variance noise^2 |w|^2, and so
    # is chi-square each of the n * draws squares whose mean is S.
    kernel = RNG.normal(size=(6, 4))
    variance = noise**2 * np.sum(kernel.mean(axis=1) ** 2)
    x = RNG.normal(size=(2000, 6))
    found = output_sensitivity(linear(kernel), x, noise=noise, draws=draws)
    assert found.n == 2000
    error = variance * np.sqrt(2 / (2000 * draws))
    assert found.mean == pytest.approx(variance, abs=3 * error)
    assert found.standard_error == pytest.approx(error, rel=0.15)


def test_the_error_halves_with_four_times_the_images():
    model = linear(RNG.normal(size=(6, 4)))
    x = RNG.normal(size=(4000, 6))
    few, many = (output_sensitivity(model, x[:n], draws=2) for n in (1000, 4000))
    assert few.standard_error / many.standard_error == pytest.approx(2, rel=0.2)


def squaring():
    """Returns a model whose only logit is x^2."""
    inputs = keras.Input((1,))
    layer = layers.Dense(1, use_bias=False)
    model = keras.Model(inputs, layer(inputs * inputs))
    layer.set_weights([np.ones((1, 1))])
    return model


def test_draws_of_one_image_are_not_taken_as_independent():
    # Of x^2 noise makes 2 x e, or more at large x: draws say little on other images. What the
    # estimates of many samples of images really spread by is what the error should be.
    model, generator = squaring(), np.random.default_rng(1)
    found = [
        output_sensitivity(model, x, draws=100, seed=seed, batch_size=5000)
        for seed, x in enumerate(generator.normal(size=(60, 50, 1)))
    ]
    spread = np.std([estimate.mean for estimate in found], ddof=1)
    stated = np.mean([estimate.standard_error for estimate in found])
    # A standard deviation from 60 is known to about 10 %; with the draws as independent, the
    # stated one would be a fifth.
    assert stated == pytest.approx(spread, rel=0.35)
    # Var(2 x e + e^2) = 4 noise^2 E x^2 + 2 noise^4
    mean = np.mean([estimate.mean for estimate in found])
    assert mean == pytest.approx(4 * 0.1**2 + 2 * 0.1**4, abs=4 * spread / np.sqrt(60))


def test_a_seed_gives_the_same_noise_whatever_the_batches(capsys):
    model = models.ToyCNN(input_shape=(8, 8, 1), classes=4)
    one = output_sensitivity(model, IMAGES, draws=3)
    assert output_sensitivity(model, IMAGES, draws=3) == one
    assert capsys.readouterr().out == ""
    other = output_sensitivity(model, IMAGES, draws=3, batch_size=4, verbose=1)
    assert "18/18" in capsys.readouterr().out
    assert other.mean == pytest.approx(one.mean, rel=1e-4)
    assert other.standard_error == pytest.approx(one.standard_error, rel=1e-4)
    assert output_sensitivity(model, IMAGES, draws=3, seed=1).mean != pytest.approx(one.mean)


def test_is_of_the_logits():
    ending, plain = (
        models.ToyCNN(input_shape=(8, 8, 1), classes=4, classifier_activation=activation)
        for activation in ("softmax", None)
    )
    plain.set_weights(ending.get_weights())
    found = output_sensitivity(ending, IMAGES, draws=2)
    assert found.mean == pytest.approx(output_sensitivity(plain, IMAGES, draws=2).mean, rel=1e-5)
    assert found.mean > 0


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


class Sparsemax(layers.Layer):
    """Stands for a layer that makes probabilities in a way of its own."""

    def call(self, inputs):
        squares = inputs * inputs
        return squares / keras.ops.sum(squares, -1, keepdims=True)


def test_probabilities_are_refused():
    model = models.ToyCNN(input_shape=(8, 8, 1), classes=4)
    with pytest.raises(ValueError, match=r'be "logits".*Received: of="probabilities". Leave it'):
        output_sensitivity(model, IMAGES, of="probabilities")
    inputs = keras.Input((8, 8, 1))
    own = keras.Model(inputs, Sparsemax()(layers.Dense(3)(layers.Flatten()(inputs))))
    with pytest.raises(ValueError, match=r"sum to 1 .*`keras.Model\(model.inputs, layer.output\)`"):
        output_sensitivity(own, IMAGES)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"noise": 0}, ValueError, "`noise` must be above 0.*Received: noise=0"),
        ({"noise": -0.1}, ValueError, "`noise` must be above 0"),
        ({"noise": np.nan}, ValueError, "`noise` must be a finite number"),
        ({"noise": "0.1"}, TypeError, "`noise` must be a finite number"),
        ({"draws": 0}, ValueError, "`draws` must be a positive integer"),
        ({"seed": -1}, ValueError, "`seed` must be an integer of at least 0"),
        ({"of": "classes"}, ValueError, "`of` must be one of"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be a positive integer"),
        ({"images": IMAGES[:, :7]}, ValueError, "what the model takes"),
        ({"images": IMAGES * np.inf}, ValueError, "must be finite"),
        ({"model": Subclassed()}, ValueError, "functional"),
    ],
)
def test_refused_arguments(arguments, error, message):
    model = models.ToyCNN(input_shape=(8, 8, 1), classes=4)
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(error, match=message),
    ):
        output_sensitivity(**{"model": model, "images": IMAGES, **arguments})


def test_images_of_another_range_are_warned_of():
    inputs = keras.Input((8, 8, 1))
    model = models.ToyCNN(input_tensor=layers.Rescaling(1 / 255)(inputs), classes=4)
    with pytest.warns(UserWarning, match="range that the model was trained on"):
        output_sensitivity(model, IMAGES)
