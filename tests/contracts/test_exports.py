"""What every layer must do on TensorFlow: exports, and training on two replicas.

Layers are written into one file together, as in a network, which takes half the time.
"""

import functools

import keras
import numpy as np
import pytest

from tests.support import side_by_side, weights
from tests.support.layer_table import FIRST_ROWS, ROWS, Row, label

if keras.backend.backend() != "tensorflow":
    pytest.skip("exports and tf.distribute need TensorFlow", allow_module_level=True)

from keras_fmm import export, training

# At least that of every row.
SHAPE = (7, 7, 64)


class Cropped(keras.layers.Layer):
    """The corner of a map that a row's layer is called on, or all of it in its channels."""

    def __init__(self, sizes, channels, **kwargs):
        super().__init__(**kwargs)
        self.sizes, self.channels = sizes, channels

    def call(self, inputs):
        height, width = self.sizes
        return inputs[:, :height, :width, : self.channels]


def in_one_file(rows, policy="float32", known_sizes=True):
    """Returns a model of one input that gives a list, the output of each row's layer."""
    inputs = keras.Input(SHAPE if known_sizes else (None, None, SHAPE[2]))
    outputs = []
    for row in rows:
        _, height, width, channels = row.input_shape
        x = Cropped((height, width) if known_sizes else (None, None), channels)(inputs)
        layer = row.make(dtype=policy, name=label(row))
        # A layer of two inputs gets its one twice, doubled.
        y = layer(x if row.inputs == 1 else [x, x + x])
        weights.randomise(layer)
        outputs.append(keras.layers.Activation("linear", dtype="float32")(y))
    return keras.Model(inputs, outputs)


def assert_same(rows, said, tolerance=1e-5, other_size=False, **arguments):
    """Asserts that `said(model)`, a function of images, says what the model says, row by row."""

    def check(rows):
        model = in_one_file(rows, **arguments)
        says = said(model)
        images = np.random.default_rng(0).normal(size=(5, *SHAPE)).astype("float32")
        for batch in [images, images[:1, :6, :5]] if other_size else [images]:
            for row, got, expected in zip(rows, each(says(batch)), each(model(batch)), strict=True):
                # Each row by its own size: beside a large output all errors of others are small.
                scale = max(1.0, np.abs(expected).max())
                np.testing.assert_allclose(
                    got, expected, rtol=0, atol=tolerance * scale, err_msg=label(row)
                )

    side_by_side.together(rows, check)


def each(outputs):
    """Returns a model's outputs as a list, also where it is one."""
    return [np.asarray(output) for output in keras.tree.flatten(outputs)]


def rows_for(kind, rows=ROWS):
    return [row for row in rows if kind in row.exports]


def by_tflite(path, batch_size=1):
    def said(model):
        export.to_tflite(model, path, batch_size)
        return functools.partial(export.run_tflite, path)

    return said


def by_saved_model(path):
    def said(model):
        export.to_saved_model(model, path)
        return functools.partial(export.run_saved_model, path)

    return said


@pytest.mark.parametrize(
    ("rows", "policy"),
    [
        pytest.param(ROWS, "float32", id="all", marks=pytest.mark.slow),
        pytest.param(FIRST_ROWS, "mixed_float16", id="float16", marks=pytest.mark.slow),
    ],
)
def test_tflite_says_what_keras_says(rows, policy, tmp_path):
    tolerance = 1e-5 if policy == "float32" else 2e-2
    said = by_tflite(tmp_path / "model.tflite")
    assert_same(rows_for("tflite", rows), said, tolerance, policy=policy)


@pytest.mark.slow
def test_tflite_of_unknown_batch_height_and_width(tmp_path):
    rows = [row for row in rows_for("tflite", FIRST_ROWS) if row.sizes == "any"]
    said = by_tflite(tmp_path / "model.tflite", batch_size=None)
    assert_same(rows, said, known_sizes=False)


@pytest.mark.slow
def test_saved_model_serves_any_batch_and_size(tmp_path):
    rows = [row for row in rows_for("saved_model", FIRST_ROWS) if row.sizes == "any"]
    said = by_saved_model(tmp_path / "saved_model")
    assert_same(rows, said, known_sizes=False, other_size=True)


class Positions(keras.layers.Layer):
    """A factor for each position: a layer of one size, of which the table may have none."""

    def build(self, input_shape):
        self.factors = self.add_weight(name="factors", shape=(1, *input_shape[1:3], 1))

    def call(self, inputs):
        return inputs * self.factors


@pytest.mark.slow_on_tensorflow
def test_saved_model_of_layers_of_one_size(tmp_path):
    own = Row(Positions, "map", {}, (2, 5, 6, 4), {"factors": (1, 5, 6, 1)}, sizes="fixed")
    rows = [row for row in rows_for("saved_model", FIRST_ROWS) if row.sizes == "fixed"]
    assert_same([*rows, own], by_saved_model(tmp_path / "saved_model"))


@pytest.mark.slow
def test_two_replicas_train_like_one():
    """Each replica sees the same two samples, so that batch norm's statistics are those of one."""

    def train(strategy, repeats):
        with strategy.scope():
            # A layer without weights has something to train too.
            top = functools.partial(keras.layers.Dense, 1, kernel_initializer="ones")
            model, arrays, found = side_by_side.model(FIRST_ROWS, 2, unknown_sizes=False, top=top)
            for layer in found:
                weights.randomise(layer, positive=True)
            model.compile(keras.optimizers.SGD(0.01), ["mse"] * len(found), jit_compile=False)
        arrays = [np.concatenate([abs(array)] * repeats) for array in arrays]
        targets = [np.ones((2 * repeats, *x.shape[1:]), "float32") for x in model.outputs]
        model.fit(arrays, targets, batch_size=2 * repeats, epochs=2, shuffle=False, verbose=0)
        return {variable.path: variable.numpy() for variable in model.weights}

    mirrored = training.strategy("mirrored")
    assert training.replicas(mirrored) == 2
    two = train(mirrored, repeats=2)
    one = train(training.strategy("default"), repeats=1)
    for path, alone in one.items():
        np.testing.assert_allclose(two[path], alone, rtol=1e-4, atol=1e-5, err_msg=path)
