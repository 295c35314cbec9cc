"""Say what a trained model sees in images.

Data: image files (PNG, JPEG, ...) or folders of them, read by `keras_fmm.data.load_image` as grey
or coloured, as the model needs them.
Command:

    python -m recipes.classify --model saved_models/toy_cnn_se_fashion_mnist_int8.tflite shoe.png

The model is a .tflite file or a .keras file. A .tflite file tells its class names, the range of its
inputs and how training resized images, as far as `keras_fmm.export.to_tflite` was told; without a
range nothing is said of images, unless `--input-range` tells it. A .keras file takes images of 0 to
255, as those of recipes.train do, or normalized ones, as a network of `models.from_timm` says; the
rest is in the run.json beside it, or in the folder above. Where no names are known and none are
given, classes are numbers. Images must have the model's size, or are resized with `--resize`.
Files that cannot be read are named, and nothing is said; with `--skip-unreadable` the others are
classified all the same, and the program ends with 1.
Cost: seconds, most of them TensorFlow's start.
"""

import dataclasses
import json
import pathlib
import sys

import numpy as np

from keras_fmm import checks, data, export, progress
from keras_fmm import input_range as ranges_of
from recipes import export_model
from recipes.lab import artefacts, datasets
from recipes.lab.settings import setting, shown, start, verbosity

# What a folder is searched for.
IMAGES = (".bmp", ".gif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff")
IMAGES += (".webp",)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Which model looks at which images."""

    images: tuple = setting(..., "image files, and folders of them")
    model: str = setting(..., "a .tflite or .keras file")
    class_names: str | None = setting(None, "with commas between; none: those that are known")
    top: int = setting(3, "how many classes to print", minimum=1)
    resize: bool = setting(False, "resize images to the model's size")
    aspect_ratio: str | None = datasets.known_aspect_ratio()
    input_range: str | None = artefacts.input_range()
    skip_unreadable: bool = setting(False, "classify the other files, name those, and end with 1")
    verbose: str = verbosity()


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A model that was opened.

    Attributes:
        shape: tuple of 3, of an image; what is not known is -1.
        names: list of str, or None.
        scores: function of one image, float32 of 0 to 255, that returns its scores.
        aspect_ratio: str, how training resized images, or None.
    """

    shape: tuple
    names: list | None
    scores: object
    aspect_ratio: str | None


def main(settings):
    """Prints the top classes of each image; returns them, a list of (name, score) an image."""
    is_keras = settings.model.lower().endswith(".keras")
    if is_keras and settings.input_range is not None:
        raise ValueError(
            "`input_range` is of .tflite files. "
            f"Received: input_range={settings.input_range}, model={settings.model}. Leave it out."
        )
    classifier = (
        of_keras(settings.model) if is_keras else of_tflite(settings.model, settings.input_range)
    )
    listing = listed(settings.images)
    # Nothing is said before all images were seen; no more than one is kept.
    bar = progress.Progress(len(listing), shown(settings), "image")
    fitting = datasets.fitting_of(settings.aspect_ratio or classifier.aspect_ratio or "stretch")
    paths, scores, errors = [], [], []
    for path in listing:
        try:
            image = read(path, classifier.shape, settings.resize, fitting)
        except (OSError, ValueError) as error:
            errors.append(error)
        else:
            scores.append(classifier.scores(image))
            paths.append(path)
        bar.add(1)
    told = "\n".join(str(error) for error in errors)
    if errors and not (settings.skip_unreadable and paths):
        if len(errors) == 1:
            raise errors[0]
        raise ValueError(
            f"`images` must be readable. Received: {len(errors)} that are not:\n{told}"
        )
    names = named(settings.class_names, len(scores[0])) or classifier.names
    if names is not None and len(names) != len(scores[0]):
        raise ValueError(
            "There must be a name for each class. "
            f"Received: {len(names)} names, known of {settings.model}, for {len(scores[0])} "
            "classes. Give --class-names."
        )
    found = []
    for path, row in zip(paths, scores, strict=True):
        best = np.argsort(-row, kind="stable")[: settings.top]
        found.append([(names[i] if names else str(i), float(row[i])) for i in best])
        form = ".1%" if row.min() >= 0 and row.max() <= 1 else ".3g"
        seen = ", ".join(f"{name} {score:{form}}" for name, score in found[-1])
        print(checks.printable(f"{path}: {seen}"))
    if errors:
        sys.stdout.flush()
        sys.exit(f"left out {len(errors)} of {len(listing)} files:\n{told}")
    return found


def listed(images):
    """Returns the files that are meant, those of a folder by their names' order."""
    paths = []
    for given in images:
        folder = pathlib.Path(given)
        if not folder.is_dir():
            paths.append(given)
            continue
        found = [
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in IMAGES and not path.name.startswith(".")
        ]
        if not found:
            raise ValueError(
                "A folder among `images` must hold image files. "
                f"Received: {given}, without a file that ends in {', '.join(IMAGES)}"
            )
        paths += map(str, sorted(found))
    return paths


def named(text, classes):
    """Returns the names that a command line gives, or None."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if len(names) != classes:
        raise ValueError(
            "`class_names` must be one for each class. "
            f"Received: {len(names)} names for {classes} classes"
        )
    return names


def of_tflite(path, input_range=None):
    """Returns a TFLite file as a `Classifier`."""
    inspection = export.inspect(path)
    outputs = 2 if "attention_map" in inspection.metadata else 1
    if len(inspection.inputs) != 1 or len(inspection.outputs) != outputs:
        raise ValueError(f"`model` must have one input and output. Received: {path}")
    shape = checked(path, inspection.inputs[0].shape, inspection.outputs[0].shape)
    metadata = inspection.metadata
    ranges = artefacts.channel_ranges(path, metadata, shape[2], input_range)

    def scores(image):
        # A batch of one image.
        return finite(path, export_model.scores(path, in_ranges(image[None], ranges), 0)[0])

    return Classifier(shape, metadata.get("class_names"), scores, metadata.get("aspect_ratio"))


def of_keras(path):
    """Returns a .keras file as a `Classifier`."""
    model = artefacts.load_model("model", path, compile=False)
    shapes = [model.input_shape, model.output_shape]
    if any(isinstance(shape, (list, dict)) for shape in shapes):
        raise ValueError(f"`model` must have one input and output. Received: {path}")
    sizes = [tuple(-1 if size is None else size for size in shape) for shape in shapes]

    shape = checked(path, *sizes)
    expected = ranges_of.images_expected(model)
    ranges = [(0.0, 255.0)] * shape[2]
    if expected is not None:
        ranges = artefacts.channel_ranges(path, {"preprocessing": expected}, shape[2])

    def scores(image):
        images = in_ranges(image[None], ranges)
        if problem := ranges_of.scaling_problem(model, images):
            raise ValueError(
                "`model` must take images of 0 to 255, or say how they are to be normalized. "
                f"Received: {path} and {problem}"
            )
        return finite(path, checks.as_numpy(model.predict_on_batch(images))[0])

    names, aspect_ratio = of_run(pathlib.Path(path))
    return Classifier(shape, names, scores, aspect_ratio)


def of_run(path):
    """Returns the class names and the aspect ratio in the record of a .keras file's run, or None.

    Args:
        path: `pathlib.Path` of the file.

    Returns:
        Pair of a list of str and a str; of None where there is no record, or none of that.
    """
    folder = path.resolve().parent
    for place in (folder, folder.parent, folder.parent / "all_layers"):
        try:
            record = json.loads((place / "run.json").read_text())
            names = record["metrics"]["class_names"]
            aspect_ratio = record.get("config", {}).get("aspect_ratio")
        except (OSError, ValueError, LookupError, TypeError, RecursionError, AttributeError):
            continue
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            is_known = aspect_ratio in datasets.ASPECT_RATIOS
            return names, aspect_ratio if is_known else None
    return None, None


def in_ranges(images, ranges):
    """Returns images of 0 to 255 in a range of its own for each channel."""
    low, high = np.array(ranges, "float32").T
    return (low + images * ((high - low) / 255)).astype("float32")


def checked(path, inputs, outputs):
    """Returns the shape of an image of a model of these inputs and outputs."""
    if len(inputs) != 4 or len(outputs) != 2:
        raise ValueError(
            "`model` must take images and give a score for each class. Received: "
            f"{path}, of inputs {inputs} and outputs {outputs}"
        )
    if inputs[3] not in (1, 3):
        raise ValueError(
            f"`model` must take grey or coloured images. Received: inputs of shape {inputs[1:]}"
        )
    return tuple(inputs[1:])


def finite(path, scores):
    """Returns a row of scores; raises where one is none."""
    if not np.isfinite(scores).all():
        raise ValueError(
            "`model` must give finite scores for `images`. "
            f"Received: {path}, which gives a NaN or an infinity"
        )
    return scores


def read(path, shape, resize, fitting):
    """Returns an image file as a float32 array `(height, width, channels)` of 0 to 255."""
    height, width, channels = shape
    is_known = -1 not in (height, width)
    size = (height, width) if resize and is_known else None
    image = data.load_image(path, size, channels, **fitting)
    if is_known and image.shape != shape:
        raise ValueError(
            f"`images` must be {width} wide and {height} high. Received: {path}, which is "
            f"{image.shape[1]} wide and {image.shape[0]} high. Give --resize."
        )
    return image


if __name__ == "__main__":
    start(main, Settings, __doc__)
