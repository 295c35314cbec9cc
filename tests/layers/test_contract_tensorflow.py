"""What every layer must do on TensorFlow: exports, and training on two replicas."""

import keras
import numpy as np
import pytest

from tests.layers.test_contract import as_model, each, every_layer
from tests.support import weights
from tests.support.layer_table import FIRST_ROWS, ROWS, label

if keras.backend.backend() != "tensorflow":
    pytest.skip("exports and tf.distribute need TensorFlow", allow_module_level=True)

from keras_fmm import export, training


@pytest.mark.parametrize(
    ("row", "policy"),
    [*((row, "float32") for row in ROWS), *((row, "mixed_float16") for row in FIRST_ROWS)],
    ids=lambda value: value if isinstance(value, str) else label(value),
)
def test_tflite_says_what_keras_says(row, policy, tmp_path):
    # The model takes one input, so a layer of two gets it twice, doubled.
    inputs = keras.Input(row.input_shape[1:])
    layer = row.make(dtype=policy)
    outputs = layer(inputs if row.inputs == 1 else [inputs, inputs + inputs])
    outputs = keras.layers.Activation("linear", dtype="float32")(outputs)
    model = keras.Model(inputs, outputs)
    weights.randomise(layer)
    images = np.random.default_rng(0).normal(size=(5, *row.input_shape[1:])).astype("float32")
    scale = max(1.0, np.abs(model.predict(images, verbose=0)).max())

    path = export.to_tflite(model, tmp_path / "model.tflite")
    tolerance = 1e-5 if policy == "float32" else 2e-2
    report = export.compare(model, images, tflite=path)
    assert report["tflite"].max_difference < tolerance * scale


@every_layer
def test_tflite_of_unknown_batch_height_and_width(row, tmp_path):
    if row.inputs > 1:
        pytest.skip("run_tflite takes models of one input")
    model = as_model(row, row.make())
    path = export.to_tflite(model, tmp_path / "model.tflite", batch_size=None)
    images = row.example(shape=(3, *row.input_shape[1:]))
    np.testing.assert_allclose(export.run_tflite(path, images), model(images), atol=1e-5)


@every_layer
def test_saved_model_serves_any_batch_and_size(row, tmp_path):
    if row.inputs > 1:
        pytest.skip("run_saved_model takes models of one input")
    layer = row.make()
    model = as_model(row, layer)
    weights.randomise(layer)
    path = export.to_saved_model(model, tmp_path / "saved_model")
    for shape in (row.input_shape, (1, 9, 7, row.input_shape[3])):
        images = row.example(shape=shape)
        expected = model(images)
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(
            export.run_saved_model(path, images), expected, atol=1e-5 * scale
        )


@every_layer
def test_two_replicas_train_like_one(row):
    """Each replica sees the same two samples, so that batch norm's statistics are those of one."""

    def train(strategy, repeats):
        with strategy.scope():
            layer = row.make()
            inputs = [keras.Input(row.input_shape[1:]) for _ in range(row.inputs)]
            inputs = inputs if row.inputs > 1 else inputs[0]
            outputs = layer(inputs)
            # A layer without weights has something to train too.
            outputs = keras.layers.Dense(1, kernel_initializer="ones", name="top")(outputs)
            model = keras.Model(inputs, outputs)
            weights.randomise(layer, positive=True)
            model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=False)
        arrays = each(lambda array: np.abs(array[:2]), row.example())
        targets = np.ones((2, *model.output.shape[1:]), "float32")
        arrays = each(lambda array: np.concatenate([array] * repeats), arrays)
        model.fit(
            arrays,
            np.concatenate([targets] * repeats),
            batch_size=2 * repeats,
            epochs=2,
            shuffle=False,
            verbose=0,
        )
        return model.get_weights()

    mirrored = training.strategy("mirrored")
    assert training.replicas(mirrored) == 2
    two = train(mirrored, repeats=2)
    one = train(training.strategy("default"), repeats=1)
    for replicated, alone in zip(two, one, strict=True):
        np.testing.assert_allclose(replicated, alone, rtol=1e-4, atol=1e-5)
