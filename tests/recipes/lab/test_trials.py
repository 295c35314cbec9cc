import gc
import pathlib
import subprocess
import threading
import weakref

import keras
import numpy as np
import pytest

from keras_fmm import data, layers, training
from recipes.lab import trials

RNG = np.random.default_rng(0)


def build(input_shape, classes):
    """A gated network with a batch norm's state, small as it is traced and compiled each time."""
    inputs = keras.Input(input_shape)
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 3, activation="relu")(inputs))
    x = layers.SqueezeExcite(reduction=4)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(classes, "softmax")(x))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def small(size=200):
    images, labels = trials.examples(data.load("digits"), "train")
    assert images.dtype == labels.dtype == "float32"
    assert images.max() == 1
    return images[:size], labels[:size]


def weights(model):
    return [np.asarray(weight) for weight in model.weights]


@pytest.mark.slow
@pytest.mark.parametrize("mixup_alpha", [0.0, 0.4])
def test_a_stopped_trial_ends_as_one_that_was_not(here, capsys, mixup_alpha):
    dataset = data.load("digits")

    def run(epochs):
        # Three steps an epoch; with mixup one by one, else in a graph.
        schedule = trials.Schedule(
            epochs, batch_size=300, mixup_alpha=mixup_alpha, smoke=mixup_alpha > 0
        )
        return trials.trained("gated", build, dataset, schedule, seed=3, verbose=0)

    whole, found = run(2)
    assert len(found["val_accuracy"]) == 2
    (trials.SMOKE_FOLDER if mixup_alpha else trials.FOLDER).rename("elsewhere")
    run(1)
    resumed, again = run(2)
    for here_, there in zip(weights(resumed), weights(whole), strict=True):
        np.testing.assert_array_equal(here_, there)
    del found["seconds_per_epoch"], again["seconds_per_epoch"]
    assert again == found
    with pytest.raises(ValueError, match="fewer than the run already has. Received: epochs=1"):
        run(1)
    assert capsys.readouterr().out == "", "`verbose=0` shows nothing"


def test_results_that_were_written_are_no_other_code(here):
    results, code = pathlib.Path("recipes/results/some.json"), pathlib.Path("some.py")
    results.parent.mkdir(parents=True)
    for path in (results, code):
        path.write_text("1")
    git = ["git", "-c", "user.name=Someone", "-c", "user.email=someone@example.com"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *words], check=True)

    def is_dirty(seed):
        schedule, dataset = trials.Schedule(1, smoke=True), data.load("digits")
        _, found = trials.trained("gated", build, dataset, schedule, seed, verbose=0)
        return found["trained_in"]["git"]["dirty"]

    results.write_text("2")
    assert not is_dirty(seed=0)
    code.write_text("2")
    assert is_dirty(seed=1)


def test_only_the_runs_of_smoke_trials_are_forgotten(here):
    gone = ("backup.npz", "best.keras", "history.csv", "run.json")
    for name, smoke in (("tried", True), ("busy", True), ("real", False)):
        training.Run(trials.SMOKE_FOLDER / name, {"smoke": smoke})
        for file in (*gone[:3], "thesis.txt"):
            (trials.SMOKE_FOLDER / name / file).write_text("")
    (trials.SMOKE_FOLDER / "mine").mkdir()
    (trials.SMOKE_FOLDER / "mine" / "run.json").write_text("{}")
    (trials.SMOKE_FOLDER / "curves.npz").write_text("")
    before = {path for path in trials.SMOKE_FOLDER.rglob("*") if path.is_file()}

    # Another thread has one of them.
    has, done = threading.Event(), threading.Event()

    def hold():
        run = training.Run(trials.SMOKE_FOLDER / "busy", {"smoke": True})
        has.set()
        done.wait()
        run.finish()

    thread = threading.Thread(target=hold)
    thread.start()
    has.wait()
    trials.forget_smoke()
    done.set()
    thread.join()
    found = {path for path in trials.SMOKE_FOLDER.rglob("*") if path.is_file()}
    assert found == before - {trials.SMOKE_FOLDER / "tried" / name for name in gone}


def test_batches_of_an_epoch_are_a_new_permutation():
    images, labels = small()
    images[:, 0, 0, 0] = np.arange(200)
    schedule = trials.Schedule(epochs=2, batch_size=60)
    batches = trials.Batches(images, labels, schedule, seed=0)

    def epoch(batches):
        return np.concatenate([batches[i][0][:, 0, 0, 0] for i in range(len(batches))])

    first = epoch(batches)
    assert len(first) == 180
    assert len(set(first)) == 180
    batches.on_epoch_end()
    second = epoch(batches)
    assert (first != second).any()
    np.testing.assert_array_equal(
        epoch(trials.Batches(images, labels, schedule, seed=0, initial_epoch=1)), second
    )


def test_mixup_mixes_images_and_labels_alike():
    images, labels = small()
    # Each image says what its label is.
    images[:] = (labels * np.arange(10)).sum(-1)[:, None, None, None]
    schedule = trials.Schedule(epochs=1, batch_size=100, mixup_alpha=0.4)
    mixed, mixed_labels = trials.Batches(images, labels, schedule, seed=0)[0]
    np.testing.assert_allclose(mixed_labels.sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(mixed[:, 0, 0, 0], (mixed_labels * np.arange(10)).sum(-1), atol=1e-4)
    assert ((mixed_labels.max(-1) < 0.999).mean()) > 0.3


def test_a_trial_keeps_no_images_when_it_has_ended(here, monkeypatch):
    given = []

    def examples(dataset, split):
        images, labels = kept(dataset, split)
        given.append(weakref.ref(images))
        return images, labels

    kept = trials.examples
    monkeypatch.setattr(trials, "examples", examples)
    schedule = trials.Schedule(1, 32, smoke=True)
    trials.trained("gated", build, data.load("digits"), schedule, seed=0, verbose=0)
    gc.collect()
    assert len(given) == 3, "train, validation, test"
    assert [reference() for reference in given] == [None] * 3


def test_a_trial_that_diverges_is_an_outcome(here):
    def explosive(**arguments):
        model = build(**arguments)
        model.layers[-1].kernel.assign(np.full(model.layers[-1].kernel.shape, np.inf))
        return model

    found = trials.attempted("explosive", explosive, data.load("digits"), trials.Schedule(1), 0)
    assert not found["finite"]
    assert "epoch 1" in found["reason"]
    assert found["test_accuracy"] == 0.1
    assert found["val_accuracy"] == []


def test_what_is_not_a_divergence_is_raised(here):
    def broken(**arguments):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        trials.attempted("broken", broken, data.load("digits"), trials.Schedule(1), 0)
