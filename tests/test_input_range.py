"""Images of the wrong range are told by what becomes of them, wherever a model scales its own."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_fmm.input_range import declared_problem, lacks_scaling, scaling_problem

STORED = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 3), "uint8")
FLOATS = STORED.astype("float32")
UNIT = FLOATS / 255
SIGNED = FLOATS / 127.5 - 1


def sequential(*parts):
    return keras.Sequential([keras.Input((12, 12, 3)), *parts])


def learning(*parts):
    """A model of some parts, functions of tensors, before a convolution."""
    x = inputs = keras.Input((12, 12, 3))
    for part in parts:
        x = part(x)
    return keras.Model(inputs, layers.Conv2D(2, 3)(x))


def halves(x):
    return layers.Concatenate()([layers.Conv2D(2, 1)(x), layers.Rescaling(1 / 255)(x)])


def shared():
    layer = layers.Rescaling(1 / 255)
    return [learning(layer) for _ in range(2)][1]


def in_training_mode(x):
    return layers.RandomFlip()(x, training=True)


def divides_at_once(x):
    assert not isinstance(x, np.ndarray)
    return x / 255


# What it takes, and how its images are scaled.
OF_STORED = {
    "rescaling": lambda: learning(layers.Rescaling(1 / 255)),
    "nothing learns": lambda: sequential(layers.Rescaling(1 / 255), layers.Flatten()),
    "around zero": lambda: learning(layers.Rescaling(1 / 127.5, offset=-1)),
    "normalization": lambda: learning(
        layers.Normalization(mean=[100, 110, 120], variance=[5e3, 6e3, 7e3])
    ),
    "by its channels' means": lambda: learning(lambda x: x / 255 - np.array([0.4, 0.5, 0.6])),
    "flipped": lambda: learning(layers.RandomFlip(), layers.Rescaling(1 / 255)),
    "in training mode": lambda: learning(in_training_mode, layers.Rescaling(1 / 255)),
    "cropped and padded": lambda: learning(
        layers.CenterCrop(8, 8), layers.ZeroPadding2D(), layers.Rescaling(1 / 255)
    ),
    "nested": lambda: learning(sequential(layers.Resizing(7, 7), layers.Rescaling(1 / 255))),
    "nested deeper": lambda: sequential(sequential(learning(layers.Rescaling(1 / 255)))),
    "behind a relu": lambda: learning(layers.ReLU(), layers.Rescaling(1 / 255)),
    "an operation": lambda: learning(lambda x: x / 255),
    "operations": lambda: learning(lambda x: ops.subtract(ops.multiply(x, 1 / 127.5), 1)),
    "lambda": lambda: learning(layers.Lambda(divides_at_once)),
    "a mean is subtracted": lambda: learning(lambda x: x[..., ::-1] - np.array([104, 117, 124])),
    "a branch": lambda: learning(halves),
    "shared": shared,
    "application": lambda: sequential(
        layers.Resizing(32, 32),
        keras.applications.MobileNetV3Small((32, 32, 3), weights=None, include_top=False),
    ),
}
OF_SCALED = {
    "twice, less one": lambda: learning(layers.RandomFlip(), layers.Rescaling(2, offset=-1)),
    "shifted": lambda: learning(layers.Rescaling(1, offset=-0.5)),
    "normalization": lambda: learning(layers.Normalization(mean=[0.4] * 3, variance=[0.05] * 3)),
    "to what is stored": lambda: learning(layers.Rescaling(255)),
}
UNKNOWN = {
    "nothing": lambda: learning(),
    "no scaling": lambda: learning(layers.RandomFlip(), layers.Resizing(7, 7)),
    "each image by itself": lambda: learning(
        lambda x: (x - ops.mean(x, (1, 2, 3), keepdims=True)) / ops.std(x, (1, 2, 3), keepdims=True)
    ),
    "untrained norm": lambda: learning(layers.BatchNormalization()),
}


@pytest.mark.parametrize("name", OF_STORED)
def test_a_model_that_takes_stored_images(name):
    model = OF_STORED[name]()
    for right in (STORED, FLOATS):
        assert scaling_problem(model, right) is None
    assert not lacks_scaling(model, STORED)
    for wrong in (UNIT, SIGNED):
        assert "Give images as they are stored" in scaling_problem(model, wrong)


@pytest.mark.parametrize("name", OF_SCALED)
def test_a_model_that_takes_scaled_images(name):
    model = OF_SCALED[name]()
    assert scaling_problem(model, UNIT) is None
    for wrong in (STORED, FLOATS):
        problem = scaling_problem(model, wrong)
        assert "divided by 255 they fit" in problem
        assert "as they are stored" not in problem


@pytest.mark.parametrize("name", UNKNOWN)
def test_where_nothing_tells_nothing_is_said(name):
    model = UNKNOWN[name]()
    assert [scaling_problem(model, x) for x in (STORED, FLOATS, UNIT, SIGNED)] == [None] * 4
    assert lacks_scaling(model, STORED) == (name in ("nothing", "no scaling"))


def test_the_layer_that_scales_is_named_by_its_path():
    inner = sequential(layers.Resizing(7, 7), layers.Rescaling(1 / 255, name="scale"))
    inner.name = "inner"
    problem = scaling_problem(learning(inner), UNIT)
    assert "images from 0 to 1, which the model's layer 'inner/scale' scales to" in problem


@pytest.mark.parametrize("is_nested", [False, True])
@pytest.mark.parametrize("wanted", [FLOATS, UNIT], ids=["stored", "scaled"])
def test_a_trained_batch_norm_tells_too(is_nested, wanted):
    norm = layers.BatchNormalization()
    model = sequential(layers.Conv2D(4, 3), norm)
    if is_nested:
        model = sequential(layers.RandomFlip(), model, layers.Flatten())
    for variable in norm.variables:
        variable.assign(variable + 0.01)
    features = np.asarray(model(wanted, training=False)).reshape(-1, 4)
    norm.moving_mean.assign(features.mean(0) * 1.01)
    norm.moving_variance.assign(features.var(0))
    assert scaling_problem(model, wanted) is None
    wrong, cure = (UNIT, "as they are stored") if wanted is FLOATS else (FLOATS, "divided by 255")
    assert cure in scaling_problem(model, wrong)
    if wanted is FLOATS:
        # It was trained on them as they are.
        assert scaling_problem(model, STORED) is None
        assert not lacks_scaling(model, STORED)


def flat(value, spread=0.0):
    noise = np.random.default_rng(0).uniform(-spread, spread, FLOATS.shape)
    return (value + noise).astype("float32")


@pytest.mark.parametrize(
    "images",
    [
        np.zeros_like(STORED),
        np.full_like(STORED, 3),
        STORED // 64,
        (STORED // 64).astype("float32"),
        flat(0.0),
        flat(1.0),
        flat(127.0, 1.0),
    ],
    ids=["black", "uniform", "dark", "dark floats", "zeros", "ones", "low contrast"],
)
def test_dark_and_flat_images_are_taken(images):
    assert scaling_problem(learning(layers.Rescaling(1 / 255)), images) is None


def test_low_contrast_is_taken_by_a_trained_norm():
    norm = layers.BatchNormalization()
    model = sequential(norm)
    norm.moving_mean.assign([0.5, 0.5, 0.5])
    norm.moving_variance.assign([0.08, 0.08, 0.08])
    assert scaling_problem(model, flat(0.5, 0.002)) is None
    assert scaling_problem(model, UNIT) is None


def test_what_a_layer_of_the_users_may_scale_is_not_refused():
    class Stem(layers.Layer):
        def __init__(self):
            super().__init__()
            self.convolution = layers.Conv2D(2, 3)

        def call(self, x):
            return self.convolution(x / 255)

    class Fails(layers.Layer):
        def call(self, x):
            raise RuntimeError("cannot be called by itself")

        def compute_output_spec(self, x):
            return keras.KerasTensor(x.shape)

    for layer in (Stem(), Fails(), layers.TimeDistributed(layers.Conv1D(2, 3))):
        assert scaling_problem(learning(layer), UNIT) is None
    for layer in (Stem(), Fails()):
        assert not lacks_scaling(learning(layer), STORED)


def test_a_call_of_the_users_may_scale():
    class Scales(keras.Model):
        def call(self, x, training=False):
            return super().call(x / 255)

    inputs = keras.Input((12, 12, 3))
    model = Scales(inputs, layers.Conv2D(2, 3)(inputs))
    assert scaling_problem(model, UNIT) is None
    assert not lacks_scaling(model, STORED)


def test_vectors_and_integers_are_not_images():
    inputs = keras.Input((5,))
    vectors = keras.Model(inputs, layers.Dense(2)(layers.Rescaling(1 / 255)(inputs)))
    assert scaling_problem(vectors, np.eye(5)) is None
    assert not lacks_scaling(vectors, np.full((3, 5), 200))
    # Planes of a board.
    assert not lacks_scaling(learning(), STORED % 2)


def test_a_model_of_one_batch_size():
    inputs = keras.Input(batch_shape=(4, 12, 12, 3))
    model = keras.Model(inputs, layers.Conv2D(2, 3)(layers.Rescaling(1 / 255)(inputs)))
    assert scaling_problem(model, STORED) is None
    assert "as they are stored" in scaling_problem(model, UNIT)


def test_nothing_of_the_model_changes():
    model = learning(layers.RandomFlip(seed=1), in_training_mode, layers.Rescaling(1 / 255))
    before = [keras.ops.convert_to_numpy(x) for x in model.variables]
    nodes = [len(layer._inbound_nodes) for layer in model.layers]
    scaling_problem(model, UNIT)
    for variable, kept in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, kept)
    assert [len(layer._inbound_nodes) for layer in model.layers] == nodes


@pytest.mark.parametrize(
    ("images", "input_range", "fits"),
    [
        (STORED, (0, 255), True),
        (FLOATS * 1.1 - 10, (0, 255), True),
        (STORED // 64, (0, 255), True),
        (SIGNED, (-1, 1), True),
        (UNIT, (0, 255), False),
        (STORED, (0, 1), False),
        (SIGNED, (0, 255), False),
    ],
)
def test_images_are_in_the_range_that_is_said(images, input_range, fits):
    assert (declared_problem(images, input_range) is None) == fits
