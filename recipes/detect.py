"""Train an object detector with an attention of your choice in its feature pyramid, and score it.

Question: none; this is the job of training on images with boxes.
Data: `digits_on_canvas`, which is embedded, a detection dataset of tensorflow-datasets, or your own
images: `--dataset ./cells --format voc --image-size 256` (see `keras_fmm.data.load_boxes`).
Command:

    python -m recipes.detect --attention squeeze_excite --workdir runs/canvases_se
    python -m recipes.detect --detector faster_rcnn --workdir runs/canvases_faster_rcnn

A run that was killed goes on where it was when the same command is given again. The folder holds
the run's record (run.json), history.csv, the model of the best epoch by the validation loss
(best.keras, what `RetinaNet`, `FasterRCNN` or `SSD300` gives), detector.keras, which gives boxes of
images by the weights of the last epoch, and gallery.png: test images with the boxes that were found
(orange) and those that were missed (red). On TensorFlow it is exported too, and what was written is
scored: saved_model/ and detector.tflite, with the suppression inside, and network_int8.tflite, of
which `detection.split` tells how boxes are made. `--workdir RUN --evaluate FOLDER` prints one line
of JSON about all images of another folder, by a finished run's detector.
Measured: docs/results/detection.md, of canvases and of BCCD's blood cells.
"""

import dataclasses
import json
import pathlib
import re

import keras
import numpy as np

from keras_fmm import data, detection, export, models, training
from recipes.lab import artefacts, datasets
from recipes.lab.settings import (
    LARGEST_SEED,
    WRITTEN,
    changed,
    flags,
    setting,
    shown,
    start,
    verbosity,
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run is made of."""

    # Data
    dataset: str = setting("digits_on_canvas", "as of keras_fmm.data.load_boxes")
    format: str | None = setting(None, "of a folder", choices=("voc", "coco", "yolo"))
    image_size: int | None = setting(
        None, "side to resize images to; none: as they are, the longer side at most 320", minimum=32
    )
    flip: str | None = setting(
        None,
        "mirror half of the training images; none: horizontal, but not digits",
        choices=("never", "horizontal", "both"),
    )
    zoom: bool = setting(True, "crop, shrink and stretch the training images")
    brightness: bool | None = setting(
        None, "change the training images' brightness and contrast; none: do, but not digits'"
    )
    # Model
    detector: str = setting(
        "retinanet", "what is trained", choices=("retinanet", "faster_rcnn", "ssd300")
    )
    attention: str | None = setting(None, "before each convolution of the pyramid")
    convolution: str | None = setting(None, "of the pyramid")
    width: int = setting(24, "filters of the backbone's first stage", minimum=1)
    blocks: int = setting(1, "in each stage of the backbone", minimum=1)
    finest: int | None = setting(
        None,
        "stride of the pyramid's finest map; none: 4 for sides up to 128, else 8",
        choices=(4, 8),
    )
    smallest: float = setting(
        16.0, "side of the smallest anchors, in pixels", minimum=1.0, maximum=10_000.0
    )
    filters: int = setting(64, "of the pyramid and the heads", minimum=1)
    # Training
    epochs: int | None = setting(
        None, "passes over the training images; none: 8,000 images, but at least 20", minimum=1
    )
    batch_size: int | None = setting(None, "images; none: 16 of sides up to 128, else 8", minimum=1)
    box_loss: str = setting("l1", "of the boxes", choices=("l1", "giou"))
    box_weight: float = setting(1.0, "of the boxes' loss", minimum=0.0, maximum=1e6)
    learning_rate: float | None = setting(
        None,
        "the highest, of Adam; it rises, then falls as a cosine; none: 0.002, of a RetinaNet in "
        "batches from 16 on 0.004",
        minimum=0.0,
    )
    seed: int = setting(0, "of weights, order and augmentation", minimum=0, maximum=LARGEST_SEED)
    # Run
    workdir: str | None = setting(None, "the run's folder; none: runs/NAME")
    evaluate: str | None = setting(None, "a folder of other images to score a finished run on")
    smoke: bool = setting(False, "two steps of training, on little")
    verbose: str = verbosity()


# What of the settings does not make a run another one.
NOT_IDENTITY = ("workdir", "evaluate", "verbose")
# What a detector makes no use of.
UNUSED = {
    "retinanet": (),
    "faster_rcnn": ("box_loss", "box_weight"),
    "ssd300": ("box_loss", "box_weight", "smallest"),
}


def main(settings):
    """Trains and scores, or scores a finished run; returns the run's record, or the scores."""
    workdir = pathlib.Path(settings.workdir or default_workdir(settings))
    if settings.evaluate is not None:
        return evaluate(workdir, settings)
    refuse_unused(settings)
    keras.utils.set_random_seed(settings.seed)
    dataset = data.load_boxes(settings.dataset, settings.format, seed=settings.seed)
    size = size_of(settings, dataset)
    datasets.refuse_empty_splits(
        dataset, "Add images to train on: of three at least, what is missing is taken."
    )
    # Recorded, so that a run goes on at the rate that it began with.
    settings = dataclasses.replace(settings, learning_rate=learning_rate_of(settings, size))
    config = {**identity(settings), **dataset.identity}
    run = training.Run(workdir, config, monitor="val_loss", mode="min", ignored=WRITTEN)
    model = build(settings, dataset, size)
    fit(model, run, dataset, settings, size)
    # That of the last epoch, whose rate is 0: none is chosen by images that it is scored on.
    detector = detection.detector(model)
    detector.save(workdir / "detector.keras")
    scores = {}
    for split in ("validation", "test"):
        at = range(min(8, dataset.sizes[split])) if settings.smoke else None
        images, annotations = dataset.arrays(split, size, at)
        found = detected(detector, images)
        scores[split] = scores_of(annotations, found, dataset.class_names)
    scores = {**scores["test"], "validation": scores["validation"]}
    if keras.backend.backend() == "tensorflow":
        some, _ = dataset.arrays(
            "train", size, range(min(dataset.sizes["train"], 8 if settings.smoke else 100))
        )
        scores["exported"] = exported(workdir, detector, some, images, annotations, dataset)
    draw(workdir / "gallery.png", images[:12], found[:12], annotations[:12], dataset.class_names)
    run.finish({"parameters": model.count_params(), "class_names": dataset.class_names, **scores})
    print(f"parameters  {model.count_params():,}")
    for name in ("ap", "ap50", "ap75"):
        value = scores[name]
        print(f"{name:<10}  {'nothing to find' if value is None else f'{value:.3f}'}")
    for name, of_file in scores.get("exported", {}).items():
        print(f"{name}: ap50 {of_file['ap50']}")
    print(f"Test images: {len(images)}. All of it is in {workdir}.")
    return run.record


def identity(settings):
    """Returns the settings that make a run this one, a dict."""
    given = dataclasses.asdict(settings)
    return {name: value for name, value in given.items() if name not in NOT_IDENTITY}


def refuse_unused(settings):
    """Raises ValueError for a setting that was changed and would change nothing."""
    given = changed(Settings, dataclasses.asdict(settings))
    words = flags({name: given[name] for name in UNUSED[settings.detector] if name in given})
    if words:
        raise ValueError(
            f"A flag must be of use, and --detector {settings.detector} makes none of some. "
            f"Received: {' '.join(words)}. Leave it out."
        )


def default_workdir(settings):
    parts = [settings.detector, settings.attention or "plain", settings.dataset]
    parts += [settings.convolution] if settings.convolution else []
    parts += ["smoke"] if settings.smoke else []
    return pathlib.Path("runs") / re.sub("[^a-z0-9]+", "_", "_".join(parts).lower())


def size_of(settings, dataset):
    """Returns the height and width that images are resized to."""
    if settings.image_size is not None:
        return (settings.image_size, settings.image_size)
    height, width, _ = dataset.input_shape
    if None in (height, width):
        side = 300 if settings.detector == "ssd300" else 256
        raise ValueError(
            "`image_size` must be given where images differ in size. Received: image_size=None "
            f"for {dataset.name!r}. Add --image-size {side}."
        )
    if settings.detector == "ssd300" and height != width:
        raise ValueError(
            "--detector ssd300 takes square images. Received: images of "
            f"{width}x{height} of {dataset.name!r}. Add --image-size 300."
        )
    part = min(1, 320 / max(height, width))
    size = (round(height * part), round(width * part))
    if min(size) < 32:
        raise ValueError(
            "Images must have sides of 32 pixels and more once the longer is at most 320. "
            f"Received: images of {width}x{height} of {dataset.name!r}. Add --image-size 256."
        )
    return size


def batch_size_of(settings, size):
    return settings.batch_size or (8 if is_large(size) else 16)


def learning_rate_of(settings, size):
    """Returns the highest rate; recipes.papers.detection says what it was chosen by."""
    if settings.learning_rate is not None:
        return settings.learning_rate
    is_fast = settings.detector == "retinanet" and batch_size_of(settings, size) >= 16
    return 0.004 if is_fast else 0.002


def is_large(size):
    """Returns whether images are worth a coarser pyramid and smaller batches."""
    return max(size) > 128


def epochs_of(settings, dataset):
    """Returns how often the training images are seen: more often where there are few."""
    if settings.smoke:
        return 1
    return settings.epochs or max(20, -(-8_000 // dataset.sizes["train"]))


def build(settings, dataset, size):
    """Returns the compiled detector of images of 0 to 255."""
    finest = settings.finest or (8 if is_large(size) else 4)
    inputs = keras.Input((*size, dataset.input_shape[2]))
    backbone = models.ResNet(
        (settings.blocks,) * 4,
        bottleneck=False,
        include_top=False,
        input_tensor=keras.layers.Rescaling(1 / 255)(inputs),
        filters=settings.width,
        stem="imagenet",
    )
    common = {
        "backbone": backbone,
        "classes": dataset.classes,
        "attention": settings.attention,
        "convolution": settings.convolution,
        "levels": ["stage1", "stage2", "stage3"] if finest == 4 else ["stage2", "stage3", "stage4"],
    }
    loss = None
    if settings.detector == "faster_rcnn":
        model = detection.FasterRCNN(
            **common,
            filters=settings.filters,
            anchor_scale=settings.smallest / finest,
            candidates=200,
            proposals=100,
            units=4 * settings.filters,
            seed=settings.seed,
        )
    elif settings.detector == "ssd300":
        common["levels"].pop()
        model = detection.SSD300(**common, extra_filters=(settings.filters,) * 2)
        loss = detection.SSDLoss()
    else:
        model = detection.RetinaNet(
            **common,
            filters=settings.filters,
            extra_levels=1 if finest == 4 and is_large(size) else 0,
            head_depth=2,
            anchor_scale=settings.smallest / finest,
            anchors_per_octave=2,
        )
        loss = detection.RetinaNetLoss(settings.box_loss, settings.box_weight)
    steps = epochs_of(settings, dataset) * dataset.steps("train", batch_size_of(settings, size))
    warm = max(1, steps // 20)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm), warmup_target=settings.learning_rate, warmup_steps=warm
    )
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=10.0), loss)
    return model


def fit(model, run, dataset, settings, size):
    """Trains from the run's last finished epoch on."""
    first = run.restore(model)
    epochs = epochs_of(settings, dataset)
    if first >= epochs:
        return
    is_digits = settings.dataset == "digits_on_canvas"
    flip = settings.flip or ("never" if is_digits else "horizontal")
    moves = []
    if flip != "never":
        moves.append(data.RandomBoxFlip(vertical=0.5 if flip == "both" else 0.0))
    moves += [data.RandomBoxZoom()] if settings.zoom else []
    if settings.brightness or (settings.brightness is None and not is_digits):
        moves.append(data.RandomBoxBrightness())
    batch_size = batch_size_of(settings, size)
    batches = dataset.batches("train", batch_size, size, settings.seed, moves, initial_epoch=first)
    validation = dataset.batches("validation", batch_size, size)
    if settings.detector == "faster_rcnn":
        batches, validation = map(detection.ObjectsAsInput, (batches, validation))
    model.fit(
        batches,
        validation_data=validation,
        epochs=epochs,
        initial_epoch=first,
        steps_per_epoch=min(2, dataset.steps("train", batch_size)) if settings.smoke else None,
        validation_steps=1 if settings.smoke else None,
        # The order of an epoch is the dataset's.
        shuffle=False,
        callbacks=run.callbacks(),
        verbose=shown(settings),
    )


def detected(detector, images):
    """Returns what is found in images: a dict for each, without padding."""
    return without_padding(detector.predict(images, batch_size=16, verbose=0))


def without_padding(found):
    """Returns a dict for each image."""
    return [
        {key: found[key][image, :count] for key in ("boxes", "scores", "labels")}
        for image, count in enumerate(found["count"])
    ]


def exported(workdir, detector, some, images, annotations, dataset):
    """Writes the files of a detector and returns what each scores, by its name.

    In the int8 one only the network is int8; boxes are made of what it gives in floats. A detector
    of two stages has no such part.
    """
    export.to_saved_model(detector, workdir / "saved_model")
    export.to_tflite(detector, workdir / "detector.tflite")
    found = {
        "saved_model": export.run_saved_model(workdir / "saved_model", images, 16),
        "detector.tflite": export.run_tflite(workdir / "detector.tflite", images),
    }
    if not any(isinstance(layer, detection.RoIAlign) for layer in detector.layers):
        network, ending = detection.split(detector)
        int8 = export.to_tflite(
            network, workdir / "network_int8.tflite", quantization="int8", representative_data=some
        )
        given = ending.predict(export.run_tflite(int8, images), 16, verbose=0)
        found["network_int8.tflite"] = given
    return {
        name: scores_of(annotations, without_padding(given), dataset.class_names)
        for name, given in found.items()
    }


def scores_of(annotations, found, class_names):
    """Returns AP, AP50, AP75 and AP by class, None where there is nothing to find."""
    result = detection.average_precision(annotations, found)
    scores = {name: getattr(result, name) for name in ("ap", "ap50", "ap75")}
    # JSON has no NaN.
    scores = {name: None if np.isnan(value) else value for name, value in scores.items()}
    by_class = {class_names[label]: value for label, value in result.by_class.items()}
    return {**scores, "by_class": by_class, "images": len(annotations)}


def finished(workdir):
    """Returns the settings and class names of a finished run, a dict and a list."""
    path = workdir / "run.json"
    status = "none"
    try:
        if path.exists():
            record = json.loads(path.read_text(encoding="utf-8"))
            status, config = record["status"], dict(record["config"])
        if status == "finished":
            return config, list(record["metrics"]["class_names"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} must be the record of a run. Received: a file that cannot be read as one "
            f"({type(error).__name__}). Name another `workdir`, or train again."
        ) from error
    raise ValueError(
        f"`workdir` must be of a finished run. Received: {str(workdir)!r}, whose run is "
        f"{status}. Train it first, by the same command without --evaluate."
    )


def evaluate(workdir, settings):
    """Prints what a finished run's detector scores on all images of a folder, as JSON."""
    config, names = finished(workdir)
    given = changed(Settings, dataclasses.asdict(settings))
    for name in (*NOT_IDENTITY, "format"):
        given.pop(name, None)
    words = flags({name: given[name] for name in given if given[name] != config.get(name)})
    if words:
        raise ValueError(
            "--evaluate scores a finished run as it was trained. Received: "
            f"{' '.join(words)}, and {str(workdir)!r}, trained otherwise. Leave it out."
        )
    detector = artefacts.load_model("workdir", workdir / "detector.keras")
    height, width, channels = detector.input_shape[1:]
    dataset = data.load_boxes(
        # A path, as it is no name of a dataset however it is written.
        pathlib.Path(settings.evaluate),
        settings.format or config.get("format"),
        class_names=names,
        color_mode="grayscale" if channels == 1 else "rgb",
    )
    found, annotations = [], []
    for split, count in dataset.sizes.items():
        # A few at a time, as all may not fit in memory.
        for first in range(0, count, 64):
            at = list(range(first, min(first + 64, count)))
            images, truth = dataset.arrays(split, (height, width), at)
            found += detected(detector, images)
            annotations += truth
    scores = scores_of(annotations, found, names)
    print(json.dumps(scores))
    return scores


def draw(path, images, found, annotations, class_names):
    """Writes images side by side, with the boxes of scores from 0.5 on, and the missed in red."""
    # Keras' own needs OpenCV.
    from PIL import Image, ImageDraw

    height, width = images.shape[1:3]
    across = min(4, len(images))
    sheet = Image.new("RGB", (across * width, -(-len(images) // across) * height))
    for index, image in enumerate(images):
        picture = keras.utils.array_to_img(image, "channels_last", scale=False).convert("RGB")
        pen = ImageDraw.Draw(picture)
        shown_ones = found[index]["scores"] >= 0.5
        boxes, labels = (found[index][key][shown_ones] for key in ("boxes", "labels"))
        for box in missed(annotations[index], boxes, labels):
            pen.rectangle(box.tolist(), outline=(230, 0, 0), width=2)
        for box, label in zip(boxes, labels, strict=True):
            pen.rectangle(box.tolist(), outline=(255, 160, 0))
            pen.text(box[:2].tolist(), class_names[label], fill=(255, 160, 0))
        sheet.paste(picture, (index % across * width, index // across * height))
    sheet.save(path)


def missed(annotation, boxes, labels):
    """Returns the true boxes, no crowds, that no box of their class overlaps by half."""
    is_crowd = annotation.get("crowd", np.zeros(len(annotation["labels"]), bool))
    overlaps = keras.utils.bounding_boxes.compute_iou(
        annotation["boxes"].reshape(1, -1, 4), boxes.reshape(1, -1, 4), "xyxy"
    )
    same = annotation["labels"][:, None] == labels
    hits = (keras.ops.convert_to_numpy(overlaps)[0] >= 0.5) & same
    return annotation["boxes"][~hits.any(axis=1) & ~is_crowd]


if __name__ == "__main__":
    start(main, Settings, __doc__)
