import keras
import numpy as np
import pytest
from keras import layers as L

from keras_fmm import layers
from keras_fmm.analysis import full_grad, smooth_full_grad
from keras_fmm.analysis.full_gradients import recording
from tests.support.layer_table import FIRST_ROWS, rows_of

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(3, 8, 8, 2)).astype("float32")


def randomised(model, seed=1):
    """Draws all weights, so that no bias, mean or variance is what it starts as."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.name in ("moving_variance", "gamma"):
            weight.assign(rng.uniform(0.5, 2, weight.shape))
        elif weight.dtype == "float32":
            weight.assign(rng.normal(0, 0.4, weight.shape))
    return model


def model_of(build):
    inputs = keras.Input((8, 8, 2))
    return randomised(keras.Model(inputs, build(inputs)))


def total(found):
    return found.input_term + sum(found.bias_terms.values())


def relative_remainder(found):
    np.testing.assert_allclose(total(found) + found.remainder, found.score, rtol=1e-4, atol=1e-5)
    return np.abs(found.remainder / found.score).max()


def test_two_layers_by_hand():
    """Hidden units 2*1 - 1*3 + 0.5 = -0.5 (off) and 1*1 + 1*3 - 1 = 3; score 5*3 + 0.25."""
    inputs = keras.Input((2,))
    hidden = L.Dense(2, activation="relu", name="hidden")
    out = L.Dense(2, activation="softmax", name="out")
    model = keras.Model(inputs, out(hidden(inputs)))
    hidden.set_weights([np.array([[2.0, 1.0], [-1.0, 1.0]]), np.array([0.5, -1.0])])
    out.set_weights([np.array([[4.0, 0.0], [5.0, 0.0]]), np.array([0.25, 7.0])])
    found = full_grad(model, np.array([[1.0, 3.0], [1.0, 3.0]]), class_index=[0, 1])
    np.testing.assert_allclose(found.score, [15.25, 7])
    # df/dx = 5 * (1, 1) through the second unit alone; x * df/dx = 5 + 15.
    np.testing.assert_allclose(found.input_term, [20, 0])
    np.testing.assert_allclose(found.bias_terms["hidden"], [5 * -1.0, 0])
    np.testing.assert_allclose(found.bias_terms["out"], [0.25, 7])
    np.testing.assert_allclose(found.remainder, [0, 0], atol=1e-5)
    assert found.saliency is None
    assert list(found.bias_terms) == ["hidden", "out"]


def test_batch_norm_by_hand():
    inputs = keras.Input((1,))
    norm = L.BatchNormalization(epsilon=0.0, name="norm")
    out = L.Dense(1, use_bias=False)
    model = keras.Model(inputs, out(norm(inputs)))
    norm.set_weights([np.array([w]) for w in (3.0, 0.5, 2.0, 4.0)])
    out.set_weights([np.array([[10.0]])])
    found = full_grad(model, np.array([[1.0]]))
    # 0.5 - 3 * 2 / sqrt(4) = -2.5 joins; x's slope is 3 / 2.
    np.testing.assert_allclose(found.bias_terms["norm"], [-25])
    np.testing.assert_allclose(found.input_term, [15])
    np.testing.assert_allclose(found.score, [-10])


def convolutional(x):
    x = L.Conv2D(4, 3)(x)
    x = L.BatchNormalization()(x)
    x = L.MaxPooling2D()(L.ReLU()(x))
    x = L.DepthwiseConv2D(2, activation="relu")(x)
    return L.Dense(5, activation="softmax")(L.Flatten()(x))


def residual(x):
    shortcut = L.Conv2D(4, 1)(x)
    x = L.BatchNormalization()(L.Conv2D(4, 3, padding="same", activation="relu")(x))
    x = L.AveragePooling2D(2)(L.ReLU()(L.Add()([x, shortcut])))
    return L.Dense(5)(L.GlobalAveragePooling2D()(x))


def nested(x):
    inner = keras.Sequential(
        [keras.Input((8, 8, 2)), L.Conv2D(3, 3, activation="relu"), L.BatchNormalization()],
        name="inner",
    )
    features = keras.Input((6, 6, 3))
    head = keras.Model(features, residual(features), name="head")
    return L.Softmax()(head(inner(x)))


def preprocessed(x):
    x = L.Rescaling(2.0, offset=-1.0)(x / 3.0 - 0.5)
    return convolutional(L.Normalization(mean=[1.0, 2.0], variance=[2.0, 0.5])(x))


def other_activations(x):
    x = L.ReLU(max_value=6.0)(L.SeparableConv2D(3, 3, activation="gelu")(x) + 3.0)
    x = L.Activation("swish")(L.Conv2DTranspose(3, 2, activation=L.ReLU(1.0))(x))
    x = L.LeakyReLU()(L.ELU()(L.Dense(3, activation="sigmoid")(x)))
    return L.Dense(5)(L.Flatten()(x))


class Shifted(L.Layer):
    """A layer that no list knows."""

    def build(self, shape):
        self.bias = self.add_weight(shape=shape[-1:])
        self.kernel = self.add_weight(shape=(shape[-1], shape[-1]))

    def call(self, x, factor=1.0):
        return keras.ops.relu(factor * x @ self.kernel + self.bias)


def unknown_and_shared(x):
    twice = L.Dense(2, activation="relu", name="twice")
    x = Shifted(name="own")(x=twice(twice(x)), factor=2.0)
    return L.Dense(5)(L.Flatten()(x))


def bare_activations(x):
    x = keras.ops.relu6(keras.ops.silu(L.Conv2D(3, 3)(x)) + 3.0)
    x = keras.ops.tanh(keras.ops.leaky_relu(L.Conv2D(3, 3)(x)))
    return L.Dense(5)(L.Flatten()(keras.ops.relu(x)))


NETWORKS = [
    bare_activations,
    convolutional,
    residual,
    nested,
    preprocessed,
    other_activations,
    unknown_and_shared,
]


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize("build", NETWORKS, ids=lambda build: build.__name__)
def test_terms_sum_to_the_score(build):
    model = model_of(build)
    before = model.predict(IMAGES, verbose=0)
    found = full_grad(model, IMAGES, class_index=[0, 3, 4])
    assert relative_remainder(found) < 1e-3
    assert found.saliency.shape == (3, 8, 8)
    assert found.saliency.min() >= 0
    for array in (found.score, found.saliency, *found.bias_terms.values()):
        assert array.dtype == np.float32
    # Without the biases it would not.
    assert np.abs(found.input_term / found.score - 1).max() > 0.01
    np.testing.assert_array_equal(model.predict(IMAGES, verbose=0), before)
    assert not any("call" in vars(layer) for layer in model._flatten_layers())
    paths = list(found.bias_terms)
    if build is nested:
        assert [path.split("/")[0] for path in paths] == 2 * ["inner"] + 4 * ["head"]
        assert all(path.count("/") == 1 for path in paths)
    if build is unknown_and_shared:
        assert paths[:2] == ["twice", "own"]


@pytest.mark.slow
def test_any_bare_activation_has_an_implicit_bias():
    """Each activation makes a logit of its own, which one image is asked for."""
    names = recording._CURVED_OPERATIONS
    inputs = keras.Input((4,))
    logits = []
    for name in names:
        snake = "".join("_" + x.lower() if x.isupper() else x for x in name).strip("_")
        options = {"threshold": 0.1, "default_value": 2.0} if name == "Threshold" else {}
        x = getattr(keras.ops, snake)(L.Dense(6)(inputs), **options)
        logits.append(L.Dense(1)(x))
    model = randomised(keras.Model(inputs, L.Concatenate()(logits)))
    images = RNG.normal(size=(3 * len(names), 4))
    found = full_grad(model, images, 3 * list(range(len(names))), batch_size=len(images))
    # A dense layer's, the activation's and a dense layer's.
    assert len(found.bias_terms) == 3 * len(names)
    remainders = np.abs(found.remainder / found.score).reshape(3, -1).max(0)
    assert dict(zip(names, remainders, strict=True)) == pytest.approx(
        dict.fromkeys(names, 0), abs=1e-3
    )


@pytest.mark.slow_on_tensorflow
def test_of_the_predicted_class_and_whatever_the_batches():
    model = model_of(convolutional)
    best = model.predict(IMAGES, verbose=0).argmax(-1)
    whole, parts = full_grad(model, IMAGES), full_grad(model, IMAGES, best, batch_size=2)
    np.testing.assert_allclose(parts.score, whole.score, rtol=1e-5)
    np.testing.assert_allclose(parts.saliency, whole.saliency, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(total(parts), total(whole), rtol=1e-4)


def rescaled(term):
    term = np.abs(term)
    return (term - term.min()) / (term.max() - term.min())


def test_saliency_by_hand():
    """One 2x2 image, a 1x1 convolution, sum pooling of weights 1, 2, 3, 4: all gradients known."""
    inputs = keras.Input((2, 2, 1))
    convolution, out = L.Conv2D(2, 1), L.Dense(1, name="out")
    model = keras.Model(inputs, out(L.Flatten()(convolution(inputs))))
    convolution.set_weights([np.array([2.0, -3.0]).reshape(1, 1, 1, 2), np.array([0.5, 1.0])])
    slopes = np.array([[1.0, -1.0], [2.0, 5.0], [3.0, 0.5], [4.0, 1.0]])
    out.set_weights([slopes.reshape(8, 1), np.array([9.0])])
    image = np.array([1.0, -2.0, 3.0, 0.25])
    input_term = image * (slopes @ [2.0, -3.0])
    expected = rescaled(input_term) + rescaled(slopes * [0.5, 1.0]).sum(-1)
    found = full_grad(model, image.reshape(1, 2, 2, 1))
    np.testing.assert_allclose(found.saliency[0].ravel(), expected, rtol=1e-5)
    np.testing.assert_allclose(found.input_term, [input_term.sum()], rtol=1e-5)


def test_saliency_resizes_smaller_maps():
    """A bias of one position in two by two, between four quarters: linear between their centres."""
    inputs = keras.Input((4, 4, 1))
    convolution, out = L.Conv2D(1, 2, strides=2), L.Dense(1)
    model = keras.Model(inputs, out(L.Flatten()(convolution(inputs))))
    convolution.set_weights([np.zeros((2, 2, 1, 1)), np.array([1.0])])
    out.set_weights([np.array([[0.0], [0.0], [0.0], [1.0]]), np.zeros(1)])
    along = np.array([0, 0.25, 0.75, 1])
    found = full_grad(model, np.ones((1, 4, 4, 1))).saliency[0]
    np.testing.assert_allclose(found, np.outer(along, along), atol=1e-6)


def gated(gate):
    return model_of(lambda x: L.Dense(3)(L.Flatten()(gate(L.Conv2D(4, 3, activation="relu")(x)))))


def test_a_gate_by_hand():
    """f = x * sigmoid(w x + b): the remainder is what a product counts twice."""
    inputs = keras.Input((1, 1, 1))
    gate = layers.SqueezeExcite(reduction=1, activation=None, name="gate")
    out = L.Dense(1, use_bias=False)
    model = keras.Model(inputs, out(L.Flatten()(gate(inputs))))
    gate.squeeze.set_weights([np.array([[2.0]]), np.array([0.3])])
    gate.excite.set_weights([np.array([[-1.0]]), np.array([0.7])])
    out.set_weights([np.array([[10.0]])])
    x = 1.5
    sigmoid = 1 / (1 + np.exp(-(-1 * (2 * x + 0.3) + 0.7)))
    slope = sigmoid * (1 - sigmoid)
    found = full_grad(model, np.full((1, 1, 1, 1), x))
    np.testing.assert_allclose(found.score, [10 * x * sigmoid], rtol=1e-5)
    np.testing.assert_allclose(found.input_term, [10 * x * (sigmoid - 2 * x * slope)], rtol=1e-5)
    np.testing.assert_allclose(
        found.bias_terms["gate/squeeze"], [10 * x * slope * -1 * 0.3], rtol=1e-5
    )
    np.testing.assert_allclose(found.bias_terms["gate/excite"], [10 * x * slope * 0.7], rtol=1e-5)
    left = -10 * x * slope * (-2 * x - 0.3 + 0.7)
    np.testing.assert_allclose(found.remainder, [left], rtol=1e-4)
    held = full_grad(model, np.full((1, 1, 1, 1), x), hold_gates=True)
    np.testing.assert_allclose(held.input_term, held.score, rtol=1e-6)
    assert held.bias_terms == {}


GATES = {
    **{row.layer.__name__: row.make for row in rows_of("gate", rows=FIRST_ROWS)},
    "add": lambda: layers.SqueezeExcite(merge="add"),
    "aw": lambda: layers.AWConv2D(4, 3, reduction=1, activation="relu"),
}


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize("name", GATES)
def test_gates_leave_a_remainder_unless_held(name):
    model = gated(GATES[name]())
    assert relative_remainder(full_grad(model, IMAGES, class_index=1)) > 0.01
    held = full_grad(model, IMAGES, class_index=1, hold_gates=True)
    assert relative_remainder(held) < 1e-3
    # The convolution, what holds a bias or an added map itself, and the dense layer.
    assert len(held.bias_terms) == (3 if name in ("add", "aw") else 2)
    assert not any("compute_attention_map" in vars(x) for x in model._flatten_layers())


def test_products_of_branches_leave_a_remainder():
    """f = (x w) * x counts twice, and holding gates does not change that."""
    inputs = keras.Input((8, 8, 2))
    x = layers.MultiplicativeResidual()([L.Conv2D(2, 1, use_bias=False)(inputs), inputs])
    model = randomised(keras.Model(inputs, L.Dense(3, use_bias=False)(L.Flatten()(x))))
    for hold_gates in (False, True):
        found = full_grad(model, IMAGES, hold_gates=hold_gates)
        np.testing.assert_allclose(found.input_term, 2 * found.score, rtol=1e-3)
        np.testing.assert_allclose(found.remainder, -found.score, rtol=1e-3)


@pytest.mark.slow_on_tensorflow
def test_a_loop_leaves_a_remainder():
    model = model_of(lambda x: L.Dense(2)(L.SimpleRNN(3)(L.Reshape((64, 2))(x))))
    found = full_grad(model, IMAGES)
    assert len(found.bias_terms) == 1
    relative_remainder(found)


def test_half_precision_is_rebuilt():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = model_of(convolutional)
    finally:
        keras.config.set_dtype_policy("float32")
    assert relative_remainder(full_grad(model, IMAGES, class_index=0)) < 1e-3


def test_smooth_without_noise_is_full_grad():
    model = gated(layers.SqueezeExcite())
    plain = full_grad(model, IMAGES)
    smooth = smooth_full_grad(model, IMAGES, noise=0, samples=3)
    np.testing.assert_allclose(smooth.saliency, plain.saliency, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(smooth.input_term, plain.input_term, rtol=1e-5)
    np.testing.assert_allclose(smooth.remainder, plain.remainder, rtol=1e-4, atol=1e-4)
    assert list(smooth.bias_terms) == list(plain.bias_terms)


@pytest.mark.slow_on_tensorflow
def test_smooth_repeats_by_seed_whatever_the_batches(capsys):
    model = model_of(convolutional)
    one = smooth_full_grad(model, IMAGES, samples=2, seed=3, verbose=0)
    assert capsys.readouterr().out == ""
    two = smooth_full_grad(model, IMAGES, samples=2, seed=3, batch_size=2, verbose=1)
    # It counts the copies, of which a batch may have many.
    assert f"{2 * len(IMAGES)}/{2 * len(IMAGES)}" in capsys.readouterr().out
    other = smooth_full_grad(model, IMAGES, samples=2, seed=4)
    np.testing.assert_allclose(two.score, one.score, rtol=1e-5)
    np.testing.assert_allclose(two.saliency, one.saliency, rtol=1e-4, atol=1e-4)
    assert np.abs(other.score - one.score).min() > 1e-4
    assert relative_remainder(one) < 1e-3


def test_noise_is_a_fraction_of_each_images_range():
    """f = sum of x: the scores of single copies spread by `noise * range * sqrt(pixels)`."""
    inputs = keras.Input((5, 5, 1))
    out = L.Dense(1)
    model = keras.Model(inputs, out(L.Flatten()(inputs)))
    out.set_weights([np.ones((25, 1)), np.zeros(1)])
    image = np.linspace(-1, 3, 25).reshape(1, 5, 5, 1)
    images = np.repeat(image, 400, axis=0)
    spread = smooth_full_grad(model, images, noise=0.2, samples=1, batch_size=400).score.std()
    np.testing.assert_allclose(spread, 0.2 * 4 * 5, rtol=0.15)
    averaged = smooth_full_grad(model, images, noise=0.2, samples=9, batch_size=400).score.std()
    np.testing.assert_allclose(averaged, spread / 3, rtol=0.2)


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


@pytest.mark.parametrize("function", [full_grad, smooth_full_grad])
def test_refused(function):
    model = model_of(convolutional)
    with pytest.raises(ValueError, match="functional `keras.Model`.*Of a subclassed"):
        function(Subclassed(), IMAGES)
    with pytest.raises(ValueError, match="from 0 to 4. Received: class_index=5"):
        function(model, IMAGES, 5)
    with pytest.raises(ValueError, match="NaN or an infinity"):
        function(model, np.full((1, 8, 8, 2), np.nan))
    with pytest.raises(ValueError, match="batch of what the model takes"):
        function(model, IMAGES[0])
    with pytest.raises(ValueError, match="`batch_size` must be a positive"):
        function(model, IMAGES, batch_size=0)


def test_refused_noise():
    model = model_of(convolutional)
    for wrong in ({"noise": -0.1}, {"samples": 0}, {"seed": -1}):
        (name,) = wrong
        with pytest.raises(ValueError, match=f"`{name}` must be .*Received: {name}="):
            smooth_full_grad(model, IMAGES, **wrong)
