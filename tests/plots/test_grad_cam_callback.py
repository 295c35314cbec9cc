import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_fmm import layers, plots

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
    """Returns the steps and pictures in the one file of events."""
    (path,) = (folder / "grad_cam").iterdir()
    found = {}
    for record in tf.data.TFRecordDataset(str(path)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            found[value.tag, event.step] = tf.io.decode_png(value.tensor.string_val[2]).numpy()
    return found


def fit(model, folder, epochs=1, **arguments):
    callback = plots.GradCAMCallback(folder, IMAGES[:2], **arguments)
    board = keras.callbacks.TensorBoard(folder, write_graph=False)
    model.fit(IMAGES, LABELS, 2, epochs=epochs, verbose=0, callbacks=[board, callback])


def test_writes_a_picture_an_epoch_beside_what_keras_writes(tmp_path):
    model = compiled(run_eagerly=True)
    fit(model, tmp_path, epochs=2, class_index=LABELS[:2])
    found = written(tmp_path)
    assert list(found) == [("grad_cam", 0), ("grad_cam", 1)]
    for picture in found.values():
        assert picture.shape[0] > 400
        assert picture.shape[-1] == 3
        assert picture.std() > 10
    assert {path.name for path in tmp_path.iterdir()} == {"grad_cam", "train"}
    # The model is what it was: it saves, and its layers have one output each.
    model.save(tmp_path / "model.keras")
    assert all(layer.output is not None for layer in model.layers)


def test_two_replicas(tmp_path):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = compiled()
        fit(model, tmp_path, layer="gate")
    assert list(written(tmp_path)) == [("grad_cam", 0)]


def test_mixed_precision(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    fit(compiled(run_eagerly=True), tmp_path)
    assert list(written(tmp_path)) == [("grad_cam", 0)]


def test_what_cannot_be_drawn_stops_fit_before_a_step(tmp_path):
    model = compiled()
    before = model.get_weights()
    with pytest.raises(ValueError, match="must name a layer of the model.*Near it: '/gate'"):
        fit(model, tmp_path, layer="gates")
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    with pytest.raises(ValueError, match="`batch_size` must be a positive integer"):
        plots.GradCAMCallback(tmp_path, IMAGES, batch_size=0)
