"""A trial: one network trained with one seed, resumable; what the recipes that compare share.

A trial's folder under runs/trials is named for what it trains, so that recipes which need the same
network share it; whoever changes what a name builds must remove its folders. The order of the data
and its augmentation in an epoch follow from the seed and the epoch's number alone, so that a
stopped trial loses at most the epoch it was in. Neither tf.data nor TensorFlow is needed: trials
run on JAX too.
"""

import dataclasses
import json
import pathlib

import keras
import numpy as np

from keras_fmm import training
from recipes.lab import fitting
from recipes.lab.settings import WRITTEN

FOLDER = pathlib.Path("runs/trials")
SMOKE_FOLDER = pathlib.Path("runs/smoke/trials")


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How a network is trained: SGD with momentum at a constant rate, the last epoch taken.

    Attributes:
        epochs: int.
        batch_size: int; a last batch that is not full is left out.
        learning_rate, momentum: floats, of SGD.
        weight_decay: float, of SGD, decoupled; None without.
        mixup_alpha: float, of `keras.layers.MixUp`; 0 without.
        smoke: bool, three steps an epoch, to see that all of it runs.
    """

    epochs: int
    batch_size: int = 400
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float | None = None
    mixup_alpha: float = 0.0
    smoke: bool = False

    def rate(self, examples):
        """Returns the learning rate for so many examples, as an optimizer takes it."""
        return self.learning_rate


def forget_smoke():
    """Removes the runs of earlier smoke trials, which would only be gone on with; nothing else."""
    for path in SMOKE_FOLDER.glob("*/run.json"):
        try:
            record = json.loads(path.read_text())
            # Nobody has it, and it is a run.
            run = training.Run(path.parent, record["config"], record["monitor"])
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            continue
        if run.record["config"].get("smoke") is True:
            # The record last: it is what a run is known by.
            for name in ("history.csv", "backup.npz", "best.keras", "run.json"):
                (run.workdir / name).unlink(missing_ok=True)


class Diverged(Exception):
    """A trial's loss or weights were not finite; it cannot go on."""


class Batches(keras.utils.PyDataset):
    """Shuffled batches of arrays for `model.fit`, the same in an epoch whatever ran before it.

    Args:
        images: float32 array `(n, height, width, channels)`.
        labels: float32 array `(n, classes)`, one-hot.
        schedule: `Schedule`.
        seed: int.
        initial_epoch: int, the epoch it begins with.
    """

    def __init__(self, images, labels, schedule, seed, initial_epoch=0):
        super().__init__()
        self._images = images
        self._labels = labels
        self._schedule = schedule
        self._seed = seed
        self._epoch = initial_epoch
        self._mixup = None
        if schedule.mixup_alpha:
            self._mixup = keras.layers.MixUp(schedule.mixup_alpha)
        self._shuffle()

    def __len__(self):
        steps = len(self._images) // self._schedule.batch_size
        return min(steps, 3) if self._schedule.smoke else steps

    def __getitem__(self, index):
        size = self._schedule.batch_size
        rows = self._order[index * size : (index + 1) * size]
        images, labels = self._images[rows], self._labels[rows]
        if self._mixup is None:
            return images, labels
        seed = self._mixup_seeds[index]
        drawn = self._mixup.get_random_transformation(images, seed=int(seed))
        images = self._mixup.transform_images(images, drawn)
        labels = self._mixup.transform_labels(labels, drawn)
        return keras.ops.convert_to_numpy(images), keras.ops.convert_to_numpy(labels)

    def on_epoch_end(self):
        self._epoch += 1
        self._shuffle()

    def release(self):
        """Lets go of the arrays; TensorFlow keeps what `model.fit` has taken batches from."""
        self._images = self._labels = None

    def _shuffle(self):
        rng = np.random.default_rng((self._seed, self._epoch))
        self._order = rng.permutation(len(self._images))
        self._mixup_seeds = rng.integers(2**31, size=len(self))


class Arrays:
    """A dataset as arrays for `fitting`: images of 0 to 1, labels one-hot; validated whole.

    Args:
        dataset: `data.ImageDataset`.
        schedule: `Schedule`.
        seed: int, of the order.
    """

    loss = "categorical_crossentropy"
    accuracy = keras.metrics.CategoricalAccuracy

    def __init__(self, dataset, schedule, seed):
        self._dataset = dataset
        self._schedule = schedule
        self._seed = seed
        self._batches = None

    def arguments(self, initial_epoch):
        train = examples(self._dataset, "train")
        self._batches = Batches(*train, self._schedule, self._seed, initial_epoch)
        return {
            "x": self._batches,
            "validation_data": examples(self._dataset, "validation"),
            "validation_batch_size": 500,
        }

    def release(self):
        if self._batches is not None:
            self._batches.release()


def trained(name, build, dataset, schedule, seed, verbose="auto"):
    """Trains one network, or goes on doing so, and scores it.

    Args:
        name: str, what `build` builds; part of the folder's name.
        build: function of `input_shape` and `classes` that returns a `keras.Model` of softmax
            outputs for images of 0 to 1.
        dataset: `data.ImageDataset`.
        schedule: `Schedule`.
        seed: int, of the weights and the order of the data.
        verbose: as of `fitting.fit`.

    Returns:
        The model with the weights of the last epoch, and a dict: "test_accuracy", "test_loss",
        "train_accuracy" (of the last epoch, as it was trained), "val_accuracy" (a list, an
        epoch each), "seconds_per_epoch" (their median), "trained_in" (the environment that it was
        trained in, which may be an earlier one).

    Raises:
        Diverged: the loss or a weight was not finite.
    """
    keras.utils.set_random_seed(seed)
    model = build(input_shape=dataset.input_shape, classes=dataset.classes)
    data = Arrays(dataset, schedule, seed)
    fitting.compiled(
        model,
        Arrays,
        schedule.rate(dataset.sizes["train"]),
        schedule.momentum,
        schedule.weight_decay,
        # Three steps are not worth a graph, that takes ten times as long to trace and compile; JAX
        # would compile each operation by itself.
        run_eagerly=schedule.smoke and keras.backend.backend() == "tensorflow",
    )
    parts = [name, dataset.name, f"seed{seed}"]
    if schedule.mixup_alpha:
        parts.insert(1, f"mixup{schedule.mixup_alpha}")
    if schedule.learning_rate != Schedule.learning_rate:
        parts.append(f"rate{schedule.learning_rate}")
    if "subset" in dataset.identity:
        parts.append(f"{dataset.sizes['train']}images")
    folder = (SMOKE_FOLDER if schedule.smoke else FOLDER) / "_".join(parts)
    config = {"name": name, "dataset": dataset.name, "seed": seed, **dataclasses.asdict(schedule)}
    config.update(dataset.identity)
    run = training.Run(folder, config, resumable=["epochs"], ignored=WRITTEN)
    try:
        fitting.fit(model, run, data, schedule.epochs, verbose=verbose)
    except RuntimeError as error:
        if run.record["status"] == "failed":
            raise Diverged(run.record["reason"]) from error
        raise
    finally:
        data.release()
    test = examples(dataset, "test")
    bar = fitting.shows_progress(len(test[0]), 500, verbose)
    loss, accuracy = model.evaluate(*test, batch_size=500, verbose=0, callbacks=[bar])
    run.finish({"test_loss": loss, "test_accuracy": accuracy})
    history = run.record["history"]
    return model, {
        "test_accuracy": round(accuracy, 5),
        "test_loss": round(loss, 5),
        "train_accuracy": round(history["accuracy"][-1], 5),
        "val_accuracy": [round(value, 5) for value in history["val_accuracy"]],
        "seconds_per_epoch": round(float(np.median(run.record["seconds_per_epoch"])), 1),
        "trained_in": run.record["environment"],
    }


def attempted(name, build, dataset, schedule, seed, verbose="auto", look=lambda model: {}):
    """Returns what `trained` measures, and "finite": whether the trial stayed so, a dict.

    One that did not has the "reason", and is counted as guessing: one in so many classes is right.
    `look`, a function of the trained model, returns a dict of what more is to be kept.
    """
    try:
        model, found = trained(name, build, dataset, schedule, seed, verbose)
        return {"finite": True, **found, **look(model)}
    except Diverged as error:
        guessing = {"test_accuracy": 1 / dataset.classes, "val_accuracy": []}
        return {"finite": False, "reason": str(error), **guessing}


def examples(dataset, split):
    """Returns the images of a split, float32 in 0 to 1, and its labels, one-hot."""
    images, labels = dataset.arrays(split)
    labels = keras.utils.to_categorical(labels, dataset.classes).astype("float32")
    return images.astype("float32") / 255, labels
