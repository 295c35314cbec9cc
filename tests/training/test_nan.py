import json

import keras
import numpy as np
import pytest

from keras_fmm import training
from tests.training import small


def spoiled():
    x = small.X.copy()
    x[12] = np.nan  # in the second of two batches
    return x


def compiled(**kwargs):
    model = small.make_model()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], **kwargs)
    return model


WAYS = [{}]
# Keras takes but one step at a time on PyTorch, where `torch.compile` takes half a minute a model.
if keras.backend.backend() != "torch":
    WAYS += [
        pytest.param({"jit_compile": True}, marks=pytest.mark.slow),
        {"steps_per_execution": 2},
    ]


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize("kwargs", WAYS)
def test_nan_in_the_data_stops_and_keeps_the_last_good_epoch(tmp_path, kwargs):
    # One model throughout, traced once: `restore` gives it its state.
    model = compiled(**kwargs)
    small.fit(model, training.Run(tmp_path, small.SEED, "loss"), epochs=2)
    good, best = small.state(model), (tmp_path / "best.keras").read_bytes()
    expected = r"loss=nan at step 2 of epoch 3.*backup.npz keeps epoch 2.*best.keras"
    run = training.Run(tmp_path, small.SEED, "loss")
    with pytest.raises(RuntimeError, match=expected) as error:
        small.fit(model, run, epochs=4, x=spoiled())
    assert ("one of 2 steps run as one" in str(error.value)) == ("steps_per_execution" in kwargs)
    assert not all(np.isfinite(value).all() for value in small.state(model))
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["status"] == "failed"
    assert "loss=nan at step 2 of epoch 3" in record["reason"]
    assert len(record["history"]["loss"]) == 2
    assert (tmp_path / "best.keras").read_bytes() == best

    mended = training.Run(tmp_path, small.SEED, "loss")
    assert mended.restore(model) == 2
    for value, expected in zip(small.state(model), good, strict=True):
        np.testing.assert_array_equal(value, expected)
    small.fit(model, mended, epochs=4)
    mended.finish()
    assert mended.record["status"] == "finished"
    assert mended.record["reason"] is None
    assert all(np.isfinite(mended.record["history"]["loss"]))


def test_nan_in_the_first_epoch_says_that_nothing_is_kept(tmp_path):
    run = training.Run(tmp_path, small.SEED, "loss")
    with pytest.raises(RuntimeError, match=r"step 2 of epoch 1.*No epoch was finished"):
        small.fit(small.make_model(), run, epochs=1, x=spoiled())
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "history.csv"}


def test_nan_in_the_validation_data(tmp_path):
    run = training.Run(tmp_path, small.SEED)
    with pytest.raises(RuntimeError, match="val_loss=nan at the end of epoch 1"):
        small.fit(small.make_model(), run, epochs=1, validation_data=(spoiled(), small.Y))
    assert not (tmp_path / "best.keras").exists()


@pytest.mark.slow_on_tensorflow
def test_a_weight_spoiled_by_the_last_step_is_not_saved(tmp_path):
    """Its loss was computed before the update, so it is finite."""
    model = small.make_model()
    kernel = model.layers[0].kernel
    spoil = small.Call(1, lambda: kernel.assign(np.full(kernel.shape, np.inf)))
    run = training.Run(tmp_path, small.SEED, "loss")
    with pytest.raises(RuntimeError, match=r"weight .*kernel was NaN or infinite .* epoch 2"):
        small.fit(model, run, epochs=2, before=[spoil])
    assert training.Run(tmp_path, small.SEED, "loss").restore(small.make_model()) == 1


@pytest.mark.slow_on_tensorflow
def test_an_infinity_that_is_not_trained_is_let_through(tmp_path):
    model = small.make_model()
    model.layers[1].trainable = False
    variance = model.layers[1].moving_variance
    variance.assign(np.full(variance.shape, np.inf))
    model.compile("sgd", "sparse_categorical_crossentropy")
    small.fit(model, training.Run(tmp_path, small.SEED, "loss"), epochs=1)
    assert (tmp_path / "backup.npz").exists()
