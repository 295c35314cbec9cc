import io

import keras
import matplotlib.image
import numpy as np
import pytest

from keras_fmm import layers, plots, training

event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(4, 8, 8, 3)).astype("float32")
LABELS = np.array([0, 1, 2, 0])


def compiled(**arguments):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(2, 3, activation="relu", name="conv"),
            layers.SqueezeExcite(reduction=1, name="gate"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", **arguments)
    return model


def written(folder):
    """Returns the steps and pictures in the one file of events, as TensorBoard reads them."""
    assert len(list((folder / "grad_cam").iterdir())) == 1
    events = event_accumulator.EventAccumulator(str(folder / "grad_cam"))
    events.Reload()
    return {
        event.step: matplotlib.image.imread(io.BytesIO(event.encoded_image_string))
        for event in events.Images("grad_cam")
    }


def fit(model, folder, epochs=1, callbacks=(), **arguments):
    callback = plots.GradCAMCallback(folder, IMAGES[:2], **arguments)
    model.fit(IMAGES, LABELS, 2, epochs=epochs, verbose=0, callbacks=[*callbacks, callback])


@pytest.mark.slow_on_tensorflow
def test_writes_a_picture_an_epoch_beside_what_keras_writes(tmp_path):
    model = compiled(run_eagerly=True)
    # Keras' own callback needs TensorFlow.
    is_there = keras.backend.backend() == "tensorflow"
    board = [keras.callbacks.TensorBoard(tmp_path, write_graph=False)] * is_there
    fit(model, tmp_path, epochs=2, callbacks=board, class_index=LABELS[:2])
    found = written(tmp_path)
    assert list(found) == [0, 1]
    for picture in found.values():
        assert picture.shape[0] > 400
        assert picture.shape[-1] == 4
        assert picture.std() > 0.04
    assert {path.name for path in tmp_path.iterdir()} == {"grad_cam", *["train"] * is_there}
    # The model is what it was: it saves, and its layers have one output each.
    model.save(tmp_path / "model.keras")
    assert all(layer.output is not None for layer in model.layers)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a strategy of TensorFlow")
@pytest.mark.slow
def test_two_replicas(tmp_path):
    with training.strategy("mirrored").scope():
        model = compiled()
        fit(model, tmp_path, layer="gate")
    assert list(written(tmp_path)) == [0]


@pytest.mark.slow_on_tensorflow
def test_mixed_precision(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    fit(compiled(run_eagerly=True), tmp_path)
    assert list(written(tmp_path)) == [0]


def test_what_cannot_be_drawn_stops_fit_before_a_step(tmp_path):
    model = compiled()
    before = model.get_weights()
    with pytest.raises(ValueError, match="must name a layer of the model.*Near it: '/gate'"):
        fit(model, tmp_path, layer="gates")
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    with pytest.raises(ValueError, match="`batch_size` must be a positive integer"):
        plots.GradCAMCallback(tmp_path, IMAGES, batch_size=0)
