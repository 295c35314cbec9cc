"""Train an image classifier with an attention of your choice, export it and check the exports.

Question: none; this is the package's main job, from a dataset's name to files for a server and a
phone. The other recipes ask questions.
Data: `digits`, which is embedded, any image classification dataset of tensorflow-datasets, or your
own images: `--dataset ./photographs --image-size 160`, a folder with a folder for each class (see
`keras_fmm.data.load_folder`).
Command:

    python -m recipes.train --dataset digits --attention squeeze_excite --workdir runs/digits_se

A run that was killed goes on where it was when the same command is given again. On JAX several
hosts train together, each with this command and `--hosts`; docs/guides/several_hosts.md says how.
The folder holds the run's record (run.json), history.csv, the best model by validation accuracy
(best.keras), the training curves (curves.png), report.html about the test split, with photographs
of the worst mistakes unless --no-images is given, and export/: model.keras and, on TensorFlow,
saved_model and model.tflite. A finished run is reported and exported again by the same command.
Cost: 11 seconds for 30 epochs of `digits` on 2 cores, exports included.
Measured: 96.94 % of the 359 test digits; without attention 97.21 %. One seed each, on 2 cores of an
AMD EPYC, 2026-11-20.
"""

import contextlib
import dataclasses
import functools
import math
import pathlib
import re

import keras
import numpy as np

from keras_fmm import analysis, data, export, models, plots, training
from recipes.lab import datasets, fitting, names
from recipes.lab.settings import LARGEST_SEED, WRITTEN, repeated, setting, shown, start, verbosity

MODELS = {
    "toy_cnn": models.ToyCNN,
    "resnet18": models.ResNet18,
    "resnet34": models.ResNet34,
    "resnet50": models.ResNet50,
    "mobilenet": models.MobileNet,
    "mobilenet_0.25": functools.partial(models.MobileNet, alpha=0.25),
    "wide_resnet16_4": functools.partial(models.WideResNet, 16, 4),
    "wide_resnet28_10": functools.partial(models.WideResNet, 28, 10),
    "fmmnet16_4": functools.partial(models.WideResNet, 16, 4, residual="multiply"),
}

AUGMENTATION = "image layers of Keras, such as \"RandomFlip('horizontal'), MixUp(0.2)\""
CLASS_WEIGHTS = (
    "`balanced`, or NAME=NUMBER, once a class; or several with commas between; others weigh 1"
)
REPORT = "put photographs, those of the worst mistakes, into report.html"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run is made of."""

    # Data
    dataset: str = datasets.named("digits")
    data_dir: str | None = setting(None, "folder of prepared datasets; none: TFDS_DATA_DIR")
    validation_fraction: float = setting(0.1, "the part of train to validate on", minimum=0.001)
    image_size: int | None = setting(None, "side to resize to; for images of many sizes", minimum=8)
    aspect_ratio: str = datasets.aspect_ratio()
    color_mode: str = datasets.color_mode()
    skip_unreadable: bool = datasets.skip_unreadable()
    preprocessing: str = setting(
        "standardize", "inside the model", choices=("scale", "standardize")
    )
    # Model
    model: str = setting("toy_cnn", "the backbone", choices=tuple(MODELS))
    attention: str | None = setting(None, "the gate", choices=(None, *names.GATES))
    convolution: str | None = setting(None, "none: Conv2D", choices=(None, *names.CONVOLUTIONS))
    precision: str = setting(
        "float32", "Keras' dtype policy", choices=("float32", "mixed_float16", "mixed_bfloat16")
    )
    # Training
    epochs: int = setting(30, "passes over train", minimum=1)
    batch_size: int = setting(64, "images a step, of all replicas together", minimum=1)
    learning_rate: float = setting(0.05, "of SGD", minimum=0.0)
    scale_learning_rate: bool = setting(False, "read it as for a batch of 256, and scale it")
    schedule: str = setting("constant", "of the learning rate", choices=names.SCHEDULES)
    warmup_epochs: float = setting(0.0, "epochs in which it rises from zero", minimum=0.0)
    momentum: float = setting(0.9, "of SGD", minimum=0.0)
    patience: int | None = setting(
        None, "stop after so many epochs without a better val_accuracy", minimum=1
    )
    min_delta: float = setting(
        0.0, "by how much more than this val_accuracy must be better for --patience", minimum=0.0
    )
    augmentation: str | None = setting(None, AUGMENTATION)
    class_weights: tuple = repeated(CLASS_WEIGHTS)
    seed: int = setting(
        0, "of the weights, the order of the data and the split", minimum=0, maximum=LARGEST_SEED
    )
    strategy: str = setting("auto", "which devices", choices=("auto", "mirrored", "default"))
    model_devices: int = setting(1, "cut the convolutions among so many devices (JAX)", minimum=1)
    # Hosts
    hosts: str | None = setting(None, "how many train together (JAX); auto: the scheduler says")
    host: int | None = setting(None, "which of them this one is, from 0", minimum=0)
    coordinator: str | None = setting(None, "address:port of host 0; none: JAX_COORDINATOR_ADDRESS")
    host_timeout: int = setting(60, "seconds without a sign after which one is lost", minimum=5)
    start_timeout: int = setting(300, "seconds to wait for all of them", minimum=1)
    # Output
    workdir: str | None = setting(None, "folder of the run; none: runs/MODEL_ATTENTION_DATASET...")
    tensorboard: bool = setting(False, "write logs for TensorBoard too")
    images: bool = setting(True, REPORT)
    verbose: str = verbosity()
    smoke: bool = setting(False, "one epoch of ten steps, to see that all of it runs")


# What does not make it another run: where its data and its folder lie, what it logs and shows.
NOT_IDENTITY = (
    *datasets.OF_FOLDERS,
    *("data_dir", "workdir", "tensorboard", "images", "verbose"),
    *("model_devices", "hosts", "host", "coordinator", "host_timeout", "start_timeout"),
)
# Settings that runs of before did not have, and which a run without them has not.
LATER = (
    *("schedule", "warmup_epochs", "patience", "augmentation", "class_weights"),
    *("old_learning_rate", "min_delta"),
)
# What may differ among the hosts of a run.
OF_A_HOST = (
    *("data_dir", "workdir", "images", "verbose"),
    *("hosts", "host", "coordinator", "host_timeout", "start_timeout"),
)


def main(settings):
    """Trains, scores, draws, exports, compares and prints; returns the run's record, a dict."""
    join(settings)
    run, dataset, batch_size = trained(settings)

    def results():
        best, metrics = scored(run, dataset, settings, batch_size)
        figure = plots.training_curves({run.record["name"]: run.record["history"]})
        plots.save_figure(figure, run.workdir / "curves.png")
        report(run, best, dataset, settings, batch_size, run.workdir)
        return {**metrics, "exports": exported(best, dataset, settings, run.workdir / "export")}

    # The other hosts wait until it is written.
    run.finish(training.hosts.from_first(results))
    if training.hosts.is_first():
        print_results(run)
    return run.record


def join(settings):
    """Starts this host of several, if it is one."""
    if settings.hosts is None:
        if settings.host is not None or settings.coordinator is not None:
            raise ValueError(
                "`hosts` must be given with `host` and `coordinator`. Received: hosts=None, "
                f"host={settings.host}, coordinator={settings.coordinator!r}. Add --hosts."
            )
        return
    if settings.hosts != "auto" and not settings.hosts.isdecimal():
        raise ValueError(f"`hosts` must be a number or auto. Received: hosts={settings.hosts!r}")
    training.hosts.start(
        None if settings.hosts == "auto" else int(settings.hosts),
        settings.host,
        settings.coordinator,
        settings.host_timeout,
        settings.start_timeout,
    )
    given = dataclasses.asdict(settings).items()
    training.hosts.check_same({name: value for name, value in given if name not in OF_A_HOST})


def conclude(run, best, dataset, settings, metrics, folder):
    """Exports and compares the best model, completes the run's record, prints and returns it."""
    run.finish({**metrics, "exports": exported(best, dataset, settings, folder)})
    print_results(run)
    return run.record


def report(run, best, dataset, settings, batch_size, folder):
    """Writes what the best model says of the test split as a page, and returns its path."""
    return plots.save_report(
        folder / "report.html",
        best,
        pipeline(dataset, "test", settings, batch_size, shuffle=False),
        dataset.class_names,
        f"{run.record['name']}: {dataset.sizes['test']} test images of {dataset.name}",
        run.record["history"],
        {**run.record["config"], "best.keras": "the best epoch by validation"},
        file_names(dataset, "test"),
        settings.images,
        verbose=shown(settings),
    )


def file_names(dataset, split):
    """Returns the images' folders and files' names, or None where the dataset has no files."""
    paths = dataset.file_paths(split)
    # Where the folder of all lies is no one's business.
    return paths and ["/".join(pathlib.Path(path).parts[-2:]) for path in paths]


def exported(best, dataset, settings, folder):
    """Exports and compares the best model; returns how far each export agrees, a dict of dicts."""
    report = export_all(best, dataset, settings, folder)
    exports = {row.name: dataclasses.asdict(row) for row in report}
    for row in exports.values():
        if not math.isfinite(row["max_difference"]):
            # A record holds no NaN, which an artefact may give.
            row.update(max_difference=None, mean_difference=None)
    return exports


def train(settings):
    """Trains one model, or goes on doing so.

    Returns:
        The `training.Run`; the best model by validation accuracy; the `data.ImageDataset`; and what
        the best model costs and scores on its test split, a dict.
    """
    run, dataset, batch_size = trained(settings)
    best, metrics = scored(run, dataset, settings, batch_size)
    return run, best, dataset, metrics


def trained(settings):
    """Trains as `train` does; returns the run, the dataset and the batch size."""
    if settings.smoke:
        settings = dataclasses.replace(settings, epochs=1)
    keras.utils.set_random_seed(settings.seed)
    keras.config.set_dtype_policy(settings.precision)
    dataset = datasets.load(
        settings,
        size_of(settings),
        validation_fraction=settings.validation_fraction,
        seed=settings.seed,
    )
    strategy = training.strategy(settings.strategy, settings.model_devices)
    plan = training.batch_plan(
        strategy, settings.batch_size, settings.learning_rate, settings.scale_learning_rate
    )
    pipelines = Pipelines.of(dataset, settings, plan.global_batch_size, strategy)
    rate = pipelines.schedule(settings, plan.learning_rate)
    with strategy.scope():
        model = build(settings, dataset, rate, pipelines)
    run = new_run(settings, settings.workdir or default_workdir(settings), dataset)
    fit(model, run, pipelines, settings, strategy)
    return run, dataset, plan.global_batch_size


def scored(run, dataset, settings, batch_size):
    """Returns the run's best model, and what it costs and scores, a dict."""
    best = best_of(run)
    return best, score(best, dataset, settings, batch_size)


def best_of(run):
    """Returns a run's best model, which is scored on labels as a dataset has them."""
    best = keras.models.load_model(run.workdir / "best.keras")
    if best.loss != Pipelines.loss:
        metric = Pipelines.accuracy("accuracy")
        best.compile(best.optimizer, Pipelines.loss, weighted_metrics=[metric])
    return best


def new_run(settings, workdir, dataset):
    """Returns the run of these settings in a folder, which is new or goes on."""
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    config = {
        name: value
        for name, value in dataclasses.asdict(settings).items()
        if name not in NOT_IDENTITY and not (name in LATER and value == defaults[name])
    }
    if len(config.get("class_weights", ())) == 1:
        # As in runs of before there could be several.
        (config["class_weights"],) = config["class_weights"]
    if dataset.identity:
        # A folder is what is in it, wherever it lies.
        config.update(dataset=dataset.name, **dataset.identity)
    # Of a schedule the number of epochs is a part.
    resumable = ["epochs"] if settings.schedule == "constant" else []
    patience = {"patience": settings.patience, "min_delta": settings.min_delta}
    return training.Run(workdir, config, resumable=resumable, ignored=WRITTEN, **patience)


def score(model, dataset, settings, batch_size):
    """Returns what the model costs and scores on the test split, a dict."""
    test = pipeline(dataset, "test", settings, batch_size, shuffle=False)
    bar = fitting.shows_progress(dataset.sizes["test"], batch_size, shown(settings))
    loss, accuracy = model.evaluate(test, verbose=0, callbacks=[bar])
    return {
        "class_names": list(dataset.class_names),
        "parameters": sum(math.prod(weight.shape) for weight in model.trainable_weights),
        "multiply_adds": analysis.flops(model),
        "test_loss": loss,
        "test_accuracy": accuracy,
    }


def default_workdir(settings):
    parts = [settings.model, settings.attention or "plain", settings.dataset]
    parts += [settings.convolution] if settings.convolution else []
    parts += ["smoke"] if settings.smoke else []
    return pathlib.Path("runs") / re.sub("[^a-z0-9]+", "_", "_".join(parts).lower())


def build(settings, dataset, learning_rate, pipelines=None):
    """Returns the compiled model, which takes raw images: its preprocessing is inside."""
    height, width, channels = dataset.input_shape
    if settings.image_size is not None:
        height = width = settings.image_size
    inputs = keras.Input((height, width, channels), name="image")
    model = MODELS[settings.model](
        input_tensor=data.preprocessing(dataset, settings.preprocessing)(inputs),
        classes=dataset.classes,
        attention=settings.attention,
        convolution=settings.convolution,
    )
    return fitting.compiled(model, pipelines or Pipelines, learning_rate, settings.momentum)


def fit(model, run, pipelines, settings, strategy):
    """Trains from the run's last finished epoch on."""
    # On JAX the scope is looked at while training too; TensorFlow has the model's.
    with strategy.scope() if keras.backend.backend() == "jax" else contextlib.nullcontext():
        verbose = shown(settings) if training.hosts.is_first() else 0
        fitting.fit(model, run, pipelines, settings.epochs, settings.tensorboard, verbose)


class Pipelines:
    """A dataset as batches for `fitting`: images as stored, labels as integers.

    On TensorFlow they come from tf.data, else from arrays, each host's share alone.

    Args:
        dataset: `data.ImageDataset`.
        settings: `Settings`, or others with `image_size`, `seed` and `smoke`.
        batch_size: int, of all replicas together.
        evaluation_batch: int, the same for validation.
        replicas: int.
    """

    loss = "sparse_categorical_crossentropy"
    accuracy = keras.metrics.SparseCategoricalAccuracy

    @classmethod
    def of(cls, dataset, settings, batch_size, strategy):
        """Returns the form of data for these settings, which are wrong where it raises."""
        evaluation_batch = batch_size
        if keras.backend.backend() == "tensorflow":
            evaluation_batch = training.evaluation_batch_size(
                strategy, batch_size, dataset.sizes["validation"]
            )
        replicas = training.replicas(strategy)
        return cls(dataset, settings, batch_size, evaluation_batch, replicas)

    def __init__(self, dataset, settings, batch_size, evaluation_batch, replicas):
        self._dataset = dataset
        self._settings = settings
        self._batch_size = batch_size
        self._evaluation_batch = evaluation_batch
        self._parts = {}
        if keras.backend.backend() != "tensorflow":
            hosts = training.hosts
            self._parts = {"share": (hosts.index(), hosts.count()), "multiple": replicas}
        self._steps = dataset.steps("train", batch_size, drop_remainder=True)
        if not self._steps:
            # Said before there is a folder, which another batch size could not go on with.
            raise ValueError(
                "`batch_size` must be at most the number of training images. Received: "
                f"{batch_size}, for {dataset.sizes['train']} of {dataset.name!r}. "
                "Give a smaller --batch-size."
            )
        self._augmentation = augmentation(dataset, settings)
        if self._augmentation is not None and self._augmentation.mixes_labels:
            self.loss, self.accuracy = "categorical_crossentropy", keras.metrics.CategoricalAccuracy
        self._weights = None
        if settings.class_weights:
            weights = class_weights(settings.class_weights, dataset.class_names)
            labels = dataset.labels("train") if weights == "balanced" else None
            self._weights = training.class_weights(weights, dataset.class_names, labels)

    def schedule(self, settings, learning_rate):
        """Returns the learning rate of a training of these settings."""
        steps = max(min(self._steps, 10) if settings.smoke else self._steps, 1)
        warmup = min(settings.warmup_epochs, 0.2) if settings.smoke else settings.warmup_epochs
        return training.schedule(settings.schedule, learning_rate, settings.epochs, steps, warmup)

    def arguments(self, initial_epoch):
        dataset, settings, steps = self._dataset, self._settings, self._steps
        order = {"seed": settings.seed, "initial_epoch": initial_epoch, "drop_remainder": True}
        x = pipeline(dataset, "train", settings, self._batch_size, **order, **self._parts)
        validation = pipeline(
            dataset, "validation", settings, self._evaluation_batch, shuffle=False, **self._parts
        )
        if self._augmentation is not None:
            if keras.backend.backend() == "tensorflow":
                x = self._augmentation.pipeline(x, initial_epoch * steps)
            else:
                x = self._augmentation.batches(x, initial_epoch, training.hosts.index())
            validation = self._augmentation.validation(validation)
        return {
            "x": x,
            "class_weight": self._weights,
            "validation_data": validation,
            "steps_per_epoch": min(steps, 10) if settings.smoke else steps,
        }


def class_weights(given, class_names):
    """Returns what `training.class_weights` takes of the words that the flag was given.

    Args:
        given: str, or sequence of str. One is read as several with commas between, but where it
            names one class, whose name has commas.
        class_names: sequence of str.
    """
    given = (given,) if isinstance(given, str) else given
    words = [word.rpartition("=") for word in given]
    if len(given) == 1 and words[0][0].strip() not in class_names:
        return given[0].strip()
    names = [name.strip() for name, _, _ in words]
    twice = [name for name in names if names.count(name) > 1]
    if twice or not all(names):
        raise ValueError(
            "`class_weights` must be `balanced`, or NAME=NUMBER once for each class. "
            f"Received: class_weights={list(given)}"
        )
    try:
        return {name: float(number) for name, (_, _, number) in zip(names, words, strict=True)}
    except ValueError as error:
        raise ValueError(
            f"A class' weight must be a number. Received: class_weights={list(given)}"
        ) from error


def augmentation(dataset, settings):
    """Returns the `training.Augmentation` of these settings, or None."""
    if settings.augmentation is None:
        return None
    shape = (*(size_of(settings) or dataset.input_shape[:2]), dataset.input_shape[2])
    return training.Augmentation(settings.augmentation, shape, dataset.classes, settings.seed)


def size_of(settings):
    """Returns the height and width to resize to, or None."""
    return settings.image_size and (settings.image_size, settings.image_size)


def pipeline(dataset, split, settings, batch_size, **arguments):
    is_tensorflow = keras.backend.backend() == "tensorflow"
    batches = dataset.pipeline if is_tensorflow else dataset.batches
    return batches(split, batch_size, image_size=size_of(settings), **arguments)


def export_all(model, dataset, settings, folder):
    """Writes the model in all three formats and returns how far they agree with it.

    They are compared on 1,000 images at the most, spread over the test split. On
    another backend than TensorFlow it writes the .keras file alone, says so and compares nothing;
    `recipes.export_model` makes the others of it.
    """
    export.save_model(model, folder / "model.keras")
    if keras.backend.backend() != "tensorflow":
        print("SavedModel and LiteRT need Keras' TensorFlow backend: recipes.export_model")
        return []
    size = dataset.sizes["test"]
    at = np.linspace(0, size - 1, min(size, 1000)).astype(int)
    images, _ = dataset.arrays("test", size_of(settings), at)
    names = dataset.class_names
    saved_model = export.to_saved_model(model, folder / "saved_model", class_names=names)
    verbose = shown(settings)
    tflite = export.to_tflite(
        model,
        folder / "model.tflite",
        class_names=names,
        input_range=(0, 255),
        verbose=verbose,
        aspect_ratio=dataset.identity.get("aspect_ratio"),
    )
    return export.compare(model, images, saved_model=saved_model, tflite=tflite, verbose=verbose)


def print_results(run):
    metrics = run.record["metrics"]
    print(f"parameters     {metrics['parameters']:,}")
    print(f"multiply-adds  {metrics['multiply_adds']:,} an image")
    print(f"test accuracy  {metrics['test_accuracy']:.2%} (the best epoch by validation)")
    for row in metrics["exports"].values():
        difference = math.nan if row["max_difference"] is None else row["max_difference"]
        print(
            f"{row['name']:<14} differs by at most {difference:.1e} from Keras, "
            f"same class for {row['same_class']:.2%} of {row['images']} images"
        )
    print(f"All of it is in {run.workdir}.")


if __name__ == "__main__":
    start(main, Settings, __doc__)
