import csv
import json

import keras
import numpy as np
import pytest

from keras_fmm import training
from tests.training import small


def rows(workdir):
    with open(workdir / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow_on_tensorflow
def test_a_run_leaves_its_record_history_and_best_model(tmp_path):
    workdir = tmp_path / "first"
    run = training.Run(workdir, {"seed": 0, "sizes": (1, 2)})
    assert run.record["status"] == "created"
    model = small.make_model()
    fitted = small.fit(model, run, epochs=3, validation_data=(small.X, small.Y))
    run.finish({"test_accuracy": np.float32(0.5)})
    record = json.loads((workdir / "run.json").read_text())
    assert record == run.record
    assert record["name"] == "first"
    assert record["config"] == {"seed": 0, "sizes": [1, 2]}
    assert record["status"] == "finished"
    assert record["metrics"] == {"test_accuracy": 0.5}
    assert record["history"] == fitted.history
    assert len(record["seconds_per_epoch"]) == 3
    assert record["start"] <= record["end"]
    assert str(tmp_path) not in json.dumps(record)
    assert [row["epoch"] for row in rows(workdir)] == ["0", "1", "2"]
    assert [float(row["val_loss"]) for row in rows(workdir)] == fitted.history["val_loss"]
    best = keras.saving.load_model(workdir / "best.keras")
    accuracy = best.evaluate(small.X, small.Y, verbose=0)[1]
    assert accuracy == pytest.approx(max(fitted.history["val_accuracy"]))
    names = {path.name for path in workdir.iterdir()}
    assert names == {"run.json", "history.csv", "best.keras", "backup.npz"}


def test_tensorboard_on_request(tmp_path):
    for package in ("tensorboard", "tensorflow"):
        pytest.importorskip(package)
    run = training.Run(tmp_path, small.SEED, monitor="loss")
    model = small.make_model()
    run.restore(model)
    model.fit(small.X, small.Y, callbacks=run.callbacks(tensorboard=True), verbose=0)
    assert list((tmp_path / "tensorboard").rglob("events*"))


@pytest.mark.slow_on_tensorflow
def test_a_finished_run_is_restored_and_can_be_made_longer(tmp_path):
    def run(epochs):
        return training.Run(tmp_path, {"epochs": epochs}, monitor="loss", resumable=("epochs",))

    first = run(2)
    model = small.make_model()
    small.fit(model, first, epochs=2)
    first.finish({"a": 1})
    again = run(2)
    other = small.make_model()
    assert small.fit(other, again, epochs=2).history == {}
    again.finish({"a": 1})
    assert again.record == first.record
    small.assert_same_state(model, other)
    longer = run(3)
    small.fit(small.make_model(), longer, epochs=3)
    assert longer.record["status"] == "running"
    assert longer.record["metrics"] == {}
    assert longer.record["config"] == {"epochs": 3}
    assert len(longer.record["history"]["loss"]) == len(rows(tmp_path)) == 3


@pytest.mark.slow_on_tensorflow
def test_resuming_keeps_the_best_model(tmp_path):
    def fit(epochs, label):
        run = training.Run(tmp_path, small.SEED, "loss")
        model = small.make_model(keras.optimizers.Adam(0.1))
        small.fit(model, run, epochs, y=np.full_like(small.Y, label))
        return run.record["history"]["loss"]

    fit(5, 0)
    best = (tmp_path / "best.keras").read_bytes()
    losses = fit(6, 1)
    assert losses[-1] > min(losses[:-1])
    assert (tmp_path / "best.keras").read_bytes() == best


def test_braces_in_the_folder_are_literal(tmp_path):
    run = training.Run(tmp_path / "lr{0.1}{epoch}", small.SEED, monitor="loss")
    small.fit(small.make_model(), run, epochs=1)
    assert (tmp_path / "lr{0.1}{epoch}" / "best.keras").exists()


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a strategy of tf.distribute")
def test_two_replicas_resume_to_the_same_bits(tmp_path):
    strategy = training.strategy("mirrored")

    def fresh():
        keras.utils.set_random_seed(1)
        with strategy.scope():
            return small.make_model(run_eagerly=False)

    def fit(model, workdir, epochs):
        run = training.Run(workdir, small.SEED, monitor="val_loss")
        small.fit(model, run, epochs, validation_data=(small.X, small.Y))
        return run

    resumed = fresh()
    whole, state = fit(resumed, tmp_path / "whole", 3), small.state(resumed)
    fit(fresh(), tmp_path / "parts", 1)
    # Traced already: `restore` gives it the state of the first epoch.
    parts = fit(resumed, tmp_path / "parts", 3)
    assert parts.record["environment"]["device"]["replicas"] == 2
    assert parts.record["history"] == whole.record["history"]
    for expected, value in zip(state, small.state(resumed), strict=True):
        np.testing.assert_array_equal(value, expected)
    # What each replica keeps is the same on both, and what is saved is what was validated.
    for variable in resumed.non_trainable_variables:
        first, second = strategy.experimental_local_results(variable.value)
        np.testing.assert_array_equal(first, second)
    best = keras.models.load_model(tmp_path / "parts" / "best.keras")
    loss, _ = best.evaluate(small.X, small.Y, verbose=0)
    assert loss == pytest.approx(min(parts.record["history"]["val_loss"]), rel=1e-5)


@pytest.mark.parametrize("name", ["backup.npz", "best.keras"])
def test_a_run_that_lost_a_file_is_not_started_over_silently(name, tmp_path):
    small.fit(small.make_model(), training.Run(tmp_path, small.SEED, "loss"), epochs=1)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=f"finished epochs and no {name}"):
        training.Run(tmp_path, small.SEED, "loss").restore(small.make_model())


@pytest.mark.slow_on_tensorflow
def test_a_run_that_was_killed_and_is_made_longer_says_so_at_once(tmp_path):
    def run(epochs):
        return training.Run(tmp_path, {"epochs": epochs}, monitor="loss", resumable=("epochs",))

    # Not finished, as if it had been killed: its status is still "running".
    small.fit(small.make_model(), run(2), epochs=1)
    longer = run(3)
    small.fit(small.make_model(), longer, epochs=2)
    assert json.loads((tmp_path / "run.json").read_text())["config"] == {"epochs": 3}


def test_a_run_without_a_finished_epoch_may_become_another(tmp_path):
    training.Run(tmp_path, {"seed": 1}).restore(small.make_model())
    run = training.Run(tmp_path, {"seed": 2}, monitor="loss")
    small.fit(small.make_model(), run, epochs=1)
    assert run.record["config"] == {"seed": 2}
    with pytest.raises(ValueError, match="differs in seed"):
        training.Run(tmp_path, {"seed": 3}, monitor="loss")


def test_restore_before_callbacks(tmp_path):
    with pytest.raises(RuntimeError, match="`restore` must be called before"):
        training.Run(tmp_path, small.SEED).callbacks()


def test_fit_without_the_initial_epoch_is_refused(tmp_path):
    small.fit(small.make_model(), training.Run(tmp_path, small.SEED, "loss"), epochs=1)
    run = training.Run(tmp_path, small.SEED, "loss")
    model = small.make_model()
    assert run.restore(model) == 1
    with pytest.raises(ValueError, match=r"epoch 0 .*with 1 finished epochs.*initial_epoch"):
        model.fit(small.X, small.Y, epochs=2, callbacks=run.callbacks(), verbose=0)


@pytest.mark.parametrize("state", ["unbuilt", "not compiled"])
def test_a_model_that_cannot_be_restored_is_refused(tmp_path, state):
    model = keras.Sequential([keras.layers.Dense(1)])
    if state == "unbuilt":
        model.compile("sgd", "mse")
    else:
        model.build((None, 2))
    with pytest.raises(ValueError, match="must be built and compiled"):
        training.Run(tmp_path, small.SEED).restore(model)


@pytest.mark.parametrize("model", [3, None, keras.layers.Dense(1)], ids=type)
def test_what_is_no_model_is_not_restored(tmp_path, model):
    with pytest.raises(TypeError, match="`model` must be a keras.Model. Received: model="):
        training.Run(tmp_path, small.SEED).restore(model)


def closeness(y_true, y_pred):
    return keras.ops.mean(y_pred)


@pytest.mark.slow_on_tensorflow
def test_a_mode_that_keras_does_not_know_is_refused_at_the_first_step(tmp_path):
    steps = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(0))

    def fit(mode):
        model = small.make_model()
        model.compile("sgd", "mse", metrics=[closeness], run_eagerly=True)
        run = training.Run(tmp_path, small.SEED, "val_closeness", mode)
        first = run.restore(model)
        callbacks = [count, *run.callbacks()]
        y = np.zeros((16, 2))
        data = {"x": small.X, "y": y, "validation_data": (small.X, y)}
        model.fit(**data, batch_size=4, initial_epoch=first, callbacks=callbacks, verbose=0)
        return run

    with pytest.raises(ValueError, match="`mode` must be .*: mode='auto' .*Give .*`mode=\"max\"`"):
        fit("auto")
    assert len(steps) == 1
    assert len(fit("max").record["history"]["val_closeness"]) == 1


def test_a_monitor_that_is_no_metric_is_refused(tmp_path):
    run = training.Run(tmp_path, small.SEED, monitor="val_accuracy")
    with pytest.raises(ValueError, match=r"monitor='val_accuracy'.*\['accuracy', 'loss'\]"):
        small.fit(small.make_model(), run, epochs=1)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"mode": "maximum"}, ValueError, "`mode` must be one of 'auto', 'min', 'max'. Received"),
        ({"mode": None}, ValueError, "`mode` must be one of"),
        ({"monitor": None}, TypeError, "`monitor` must be a metric's name. Received: monitor=None"),
        ({"monitor": ["loss"]}, TypeError, "`monitor` must be a metric's name"),
        ({"monitor": ""}, TypeError, "`monitor` must be a metric's name"),
        ({"resumable": "epochs"}, TypeError, "must be a list .*'epochs'. For one give a list"),
        ({"resumable": None}, TypeError, "`resumable` must be a list or tuple"),
        ({"resumable": ["sed"]}, ValueError, r"keys of `config`. .*'sed'. Choose from \['seed'\]"),
        ({"resumable": ["monitor"]}, ValueError, "`resumable` must hold keys of `config`"),
        ({"resumable": ["seed", 3]}, TypeError, "`resumable` must hold keys of `config`"),
        ({"resumable": [None]}, TypeError, "`resumable` must hold keys of `config`"),
        ({"resumable": [["seed"]]}, TypeError, "`resumable` must hold keys of `config`"),
    ],
)
def test_arguments_that_are_refused_before_anything_is_written(tmp_path, arguments, kind, message):
    with pytest.raises(kind, match=message):
        training.Run(tmp_path / "run", small.SEED, **arguments)
    assert not (tmp_path / "run").exists()
