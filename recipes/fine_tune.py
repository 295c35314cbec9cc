"""Give a model that you have attention, and fine-tune it on your data.

Question: none; this is the way from a pretrained model to one with attention. `models.upgrade`
adds gates or AW-convolutions that change nothing at the start, so that what the model learned is
kept. A classifier that knows nothing yet would have the others unlearn what they know: so it is
trained alone first, then with the added layers, then all. Gradients of a norm above 1 are shortened
to it.
Data: any image classification dataset of tensorflow-datasets, `digits`, or a folder or CSV of your
own images, as of `recipes.train`.
Command:

    python -m recipes.fine_tune --model MobileNetV2 --weights imagenet --dataset cifar10

`--model` is a name in keras.applications or, as `timm/resnet10t`, in timm, whose weights are
downloaded or come from a file (`--weights FILE`) and whose preprocessing goes into the model; or
the path of a `.keras` file (which must have its preprocessing inside, or get `--preprocessing
scale`; a network of `models.from_timm` has it or gets it). Its classifier's last layer, dense or a
1x1 convolution, is replaced by a dense one for the dataset's classes, and a model without a
classifier gets one.
Batch norms of the old model stay in inference mode. With `--attention none` and no
`--convolution` nothing is added, for comparison. A run that was stopped goes on where it was.
The folder holds the phases' runs, as of `recipes.train`, report.html of the final model, with
photographs of its worst mistakes unless --no-images is given, and export/ with that model.
Cost: 45 seconds for the second of these, on 2 cores:

    python -m recipes.train --dataset fashion_mnist --epochs 2 --workdir runs/source
    python -m recipes.fine_tune --model runs/source/best.keras --image-size none --dataset mnist \\
        --new-epochs 1 --epochs 1

Measured: with them 98.30 % of mnist's 10,000 test images. One seed, on 2 cores of an AMD EPYC,
2026-11-20; no comparison was made, and none with pretrained weights.
"""

import dataclasses
import pathlib
import re
import sys

import keras

from keras_fmm import graph, input_range, models, training
from recipes import train
from recipes.lab import artefacts, datasets, fitting, names
from recipes.lab.settings import LARGEST_SEED, repeated, setting, start, verbosity

# What stands before a name of timm's.
TIMM = "timm/"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a fine-tuning is made of."""

    # Data
    dataset: str = datasets.named("digits")
    data_dir: str | None = setting(None, "folder of prepared datasets; none: TFDS_DATA_DIR")
    validation_fraction: float = setting(0.1, "the part of train to validate on", minimum=0.001)
    image_size: int | None = setting(96, "side to resize to; none: as stored", minimum=8)
    aspect_ratio: str = datasets.aspect_ratio()
    color_mode: str = datasets.color_mode()
    skip_unreadable: bool = datasets.skip_unreadable()
    # Model
    model: str = setting("MobileNetV2", "a name in keras.applications, timm/NAME, or a .keras file")
    weights: str | None = setting(
        "imagenet",
        "imagenet: those that are downloaded, of timm hub too; none: random; or a file of them",
    )
    preprocessing: str = setting(
        "own", "the model's own, or division by 255", choices=("own", "scale")
    )
    attention: str | None = setting("squeeze_excite", "the gate", (None, *names.GATES))
    convolution: str | None = setting(None, "none: as it is", (None, *names.CONVOLUTIONS))
    precision: str = setting(
        "float32", "Keras' dtype policy", choices=("float32", "mixed_float16", "mixed_bfloat16")
    )
    # Training
    new_epochs: int = setting(
        3, "passes over train for the classifier alone, then for all new layers", minimum=0
    )
    epochs: int = setting(10, "passes over train for all layers, after those", minimum=1)
    batch_size: int = setting(64, "images a step, of all replicas together", minimum=1)
    new_learning_rate: float = setting(0.05, "of SGD, for the new layers alone", minimum=0.0)
    learning_rate: float = setting(0.005, "of SGD, for all layers", minimum=0.0)
    old_learning_rate: float | None = setting(
        None, "of SGD, for those that the model had; none: as all", minimum=0.0
    )
    schedule: str = setting("constant", "of the rates, in each phase", choices=names.SCHEDULES)
    warmup_epochs: float = setting(0.0, "epochs of a phase of rising rates", minimum=0.0)
    momentum: float = setting(0.9, "of SGD", minimum=0.0)
    patience: int | None = setting(
        None, "end a phase after so many epochs without a better val_accuracy", minimum=1
    )
    min_delta: float = setting(
        0.0, "by how much more than this val_accuracy must be better for --patience", minimum=0.0
    )
    augmentation: str | None = setting(None, train.AUGMENTATION)
    class_weights: tuple = repeated(train.CLASS_WEIGHTS)
    seed: int = setting(
        0,
        "of the new weights, the order of the data and the split",
        minimum=0,
        maximum=LARGEST_SEED,
    )
    strategy: str = setting("auto", "which devices", choices=("auto", "mirrored", "default"))
    # Output
    workdir: str | None = setting(None, "folder; none: runs/fine_tune_MODEL_ATTENTION_DATASET")
    tensorboard: bool = setting(False, "write logs for TensorBoard too")
    images: bool = setting(True, train.REPORT)
    verbose: str = verbosity()
    smoke: bool = setting(False, "one epoch of ten steps a phase, to see that all of it runs")


def main(settings):
    """Upgrades, trains, scores, exports and prints; returns the last run's record, a dict."""
    if settings.smoke:
        settings = dataclasses.replace(settings, new_epochs=min(settings.new_epochs, 1), epochs=1)
    keras.utils.set_random_seed(settings.seed)
    keras.config.set_dtype_policy(settings.precision)
    dataset = datasets.load(
        settings,
        train.size_of(settings),
        validation_fraction=settings.validation_fraction,
        seed=settings.seed,
    )
    strategy = training.strategy(settings.strategy)
    workdir = pathlib.Path(settings.workdir or default_workdir(settings))
    plan = training.batch_plan(strategy, settings.batch_size, settings.learning_rate)
    pipelines = train.Pipelines.of(dataset, settings, plan.global_batch_size, strategy)
    alone = dataclasses.replace(
        settings,
        epochs=settings.new_epochs,
        learning_rate=settings.new_learning_rate,
        old_learning_rate=None,
    )
    for phase in [alone, settings] if settings.new_epochs else [settings]:
        # What is wrong in it is said before anything is trained.
        pipelines.schedule(phase, phase.learning_rate)
    with strategy.scope():
        model = classifier(settings, dataset)
        freeze(model)
        if settings.attention or settings.convolution:
            model = models.upgrade(model, settings.attention, settings.convolution)
    new = {id(variable) for variable in model.trainable_variables}
    classifies = {id(variable) for variable in model.get_layer("predictions").variables}
    added = [variable for variable in model.trainable_variables if id(variable) not in classifies]
    if settings.new_epochs:
        still = dataclasses.replace(alone, old_learning_rate=0.0)
        for phase, name, slow in ((still, "classifier", added), (alone, "new_layers", ())):
            run = fit(model, dataset, pipelines, phase, strategy, workdir / name, slow)
            run.finish()
            model.load_weights(run.workdir / "best.keras")
    thaw(model)
    old = [variable for variable in model.trainable_variables if id(variable) not in new]
    run = fit(model, dataset, pipelines, settings, strategy, workdir / "all_layers", old)
    best = train.best_of(run)
    metrics = train.score(best, dataset, settings, plan.global_batch_size)
    train.report(run, best, dataset, settings, plan.global_batch_size, workdir)
    return train.conclude(run, best, dataset, settings, metrics, workdir / "export")


def default_workdir(settings):
    # Behind the dot of timm's names are the weights.
    is_timm = settings.model.startswith(TIMM)
    source = settings.model.removeprefix(TIMM) if is_timm else pathlib.Path(settings.model).stem
    parts = ["fine_tune", source, settings.attention or "plain", settings.convolution or ""]
    parts += [settings.dataset, "smoke" if settings.smoke else ""]
    return pathlib.Path("runs") / re.sub("[^a-z0-9]+", "_", "_".join(filter(None, parts)).lower())


def classifier(settings, dataset):
    """Returns the source model as a classifier of the dataset's raw images, not yet upgraded."""
    height, width, channels = dataset.input_shape
    if settings.image_size is not None:
        height = width = settings.image_size
    inputs = x = keras.Input((height, width, channels), name="image")
    if settings.preprocessing == "scale":
        x = keras.layers.Rescaling(1 / 255)(x)
    if settings.model.lower().endswith(".keras"):
        backbone = without_classifier(artefacts.load_model("model", settings.model, compile=False))
        expected = backbone.input_shape[-1]
        _check_size(backbone, (height, width))
    else:
        backbone, expected = None, 3
    if channels == 1 and expected == 3:
        x = keras.layers.Concatenate()([x, x, x])
    if backbone is not None:
        x = normalized(x, backbone) if settings.preprocessing == "own" else x
    elif settings.model.startswith(TIMM):
        backbone = models.from_timm(
            settings.model,
            "hub" if settings.weights == "imagenet" else settings.weights,
            include_preprocessing=settings.preprocessing == "own",
            include_top=False,
            input_shape=(height, width, 3),
            pooling="avg",
        )
    else:
        constructor, preprocess = application(settings.model)
        x = preprocess(x) if settings.preprocessing == "own" else x
        backbone = constructor(
            include_top=False,
            weights=_weights_of_application(settings),
            input_shape=(height, width, 3),
            pooling="avg",
        )
    x = keras.layers.Dropout(0.2, name="dropout")(backbone(x))
    outputs = keras.layers.Dense(dataset.classes, activation="softmax", name="predictions")(x)
    return keras.Model(inputs, outputs, name="fine_tuned")


def normalized(images, backbone):
    """Returns images of 0 to 255 as a network of timm's takes them that does not normalize."""
    expected = input_range.images_expected(backbone)
    if expected is None or expected["is_inside"]:
        return images
    constants = {name: expected[name] for name in expected if name != "is_inside"}
    return models.Preprocessing(name="preprocessing_outside", **constants)(images)


def _weights_of_application(settings):
    """Returns what keras.applications takes as weights; a file's errors name neither it nor why."""
    weights = settings.weights
    if weights in (None, "imagenet"):
        return weights
    if not pathlib.Path(weights).is_file():
        raise ValueError(
            "`weights` must be imagenet, none or a file of weights, and hub of timm/NAME alone. "
            f"Received: weights={weights!r}, where there is no file, for {settings.model}"
        )
    return weights


def _check_size(model, size):
    sizes = model.input_shape[1:3]
    if any(
        known is not None and known != wanted for known, wanted in zip(sizes, size, strict=True)
    ):
        raise ValueError(
            "`image_size` must be that of the model. "
            f"Received: images of {size[0]}x{size[1]} for a model of {sizes[0]}x{sizes[1]}. "
            f"Give --image-size {sizes[0]}."
        )


def application(name):
    """Returns keras.applications' constructor of this name, and its preprocessing."""
    known = [n for n in dir(keras.applications) if n[0].isupper()]
    if name not in known:
        raise ValueError(
            "`model` must be a `.keras` file, timm/NAME, or a name in keras.applications. "
            f"Received: model={name!r}. The names are {', '.join(known)}."
        )
    constructor = getattr(keras.applications, name)
    return constructor, sys.modules[constructor.__module__].preprocess_input


# What may stand behind a classifier's last layer with weights.
AFTER = (keras.layers.Activation, keras.layers.Softmax, keras.layers.Dropout)
AFTER += (keras.layers.Reshape, keras.layers.Flatten)
POOLINGS = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)


def without_classifier(model):
    """Returns what a classifier's last layer sees, numbers `(batch, features)`.

    That layer is dense, or a 1x1 convolution of the means over space, as MobileNet's. A model that
    ends in a feature map, or in what pooling over space makes of one, has no such layer: it stays
    whole.
    """
    graph.check_model(model, may_write_call=False)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            "`model` must have one input and one output. Received: "
            f"{model.name!r} of {len(model.inputs)} inputs and {len(model.outputs)} outputs"
        )
    output = model.outputs[0]
    layer, seen = _maker(output)
    while isinstance(layer, AFTER):
        layer, seen = _maker(seen)
    if isinstance(layer, keras.Model):
        features = without_classifier(layer)(seen)
    elif isinstance(layer, keras.layers.Dense):
        features = seen
    elif isinstance(layer, keras.layers.Conv2D) and tuple(seen.shape[1:3]) == (1, 1):
        features = keras.layers.Flatten()(seen)
    elif len(output.shape) == 4:
        features = keras.layers.GlobalAveragePooling2D()(output)
    elif isinstance(layer, POOLINGS):
        features = output
    else:
        raise ValueError(
            "`model` must end in a classifier's dense layer or 1x1 convolution, in a feature map, "
            "or in what pooling over space makes of one. Received: a model that ends in "
            f"{layer.name!r} of class {type(layer).__name__}."
        )
    return keras.Model(model.inputs[0], features, name=model.name)


def _maker(tensor):
    """Returns the layer that made a symbolic tensor, and the one that it was called on."""
    layer, node, _ = tensor._keras_history
    # An input is made of nothing.
    return layer, next(iter(layer._inbound_nodes[node].input_tensors), None)


def freeze(model):
    """Freezes all of a classifier but its last layer; what `models.upgrade` then adds is not."""
    for path, layer in graph.layers(model).items():
        layer.trainable = path == "predictions"


def thaw(model):
    """Lets all layers learn, but for batch norms that are frozen: the old ones.

    A batch norm that is not trainable runs in inference mode, in `fit` too.
    """
    norms = keras.layers.BatchNormalization
    frozen = [x for x in model._flatten_layers() if isinstance(x, norms) and not x.trainable]
    # A layer in a convolution's place learns already, but for its kernel and bias. Keras thaws
    # those where the layer's own flag changes.
    model.trainable = False
    model.trainable = True
    for norm in frozen:
        norm.trainable = False


def fit(model, dataset, pipelines, settings, strategy, workdir, old=()):
    """Trains one phase from its last finished epoch on, `old` variables at their rate."""
    slow, factor = (), 1.0
    if settings.old_learning_rate is not None:
        # Where the rate is 0, nothing moves.
        slow, factor = old, settings.old_learning_rate / (settings.learning_rate or 1.0)
    rate = pipelines.schedule(settings, settings.learning_rate)
    with strategy.scope():
        fitting.compiled(
            model, pipelines, rate, settings.momentum, slow=slow, factor=factor, clip=1.0
        )
    run = train.new_run(settings, workdir, dataset)
    train.fit(model, run, pipelines, settings, strategy)
    return run


if __name__ == "__main__":
    start(main, Settings, __doc__)
