"""Say what a TFLite file sees in images.

Data: image files (PNG, JPEG, ...), read by `keras_fmm.data.load_image` as grey or coloured, as the
model needs them.
Command:

    python -m recipes.classify --model saved_models/toy_cnn_se_fashion_mnist_int8.tflite shoe.png

The file tells its class names and the range of its inputs, if `keras_fmm.export.to_tflite` was
told them; otherwise classes are numbers and images are taken as 0 to 255. Images must have the
file's size, or are resized with `--resize`, by the `--aspect-ratio` of the training.
Cost: seconds, most of them TensorFlow's start.
"""

import dataclasses

import numpy as np

from keras_fmm import checks, data, export
from recipes import export_model
from recipes.lab import datasets
from recipes.lab.settings import setting, start


@dataclasses.dataclass(frozen=True)
class Settings:
    """Which file looks at which images."""

    images: tuple = setting(..., "image files")
    model: str = setting(..., "a .tflite file")
    top: int = setting(3, "how many classes to print", minimum=1)
    resize: bool = setting(False, "resize images to the file's size")
    aspect_ratio: str = datasets.aspect_ratio()


def main(settings):
    """Prints the top classes of each image; returns them, a list of (name, score) an image."""
    inspection = export.inspect(settings.model)
    outputs = 2 if "attention_map" in inspection.metadata else 1
    if len(inspection.inputs) != 1 or len(inspection.outputs) != outputs:
        raise ValueError(f"`model` must have one input and output. Received: {settings.model}")
    shape = inspection.inputs[0].shape
    if len(shape) != 4 or len(inspection.outputs[0].shape) != 2:
        raise ValueError(
            "`model` must take images and give a score for each class. Received: "
            f"{settings.model}, of inputs {shape} and outputs {inspection.outputs[0].shape}"
        )
    low, high = inspection.metadata.get("input_range") or (0, 255)
    # All images are read before anything is printed.
    images = [
        read(path, shape[1:], settings.resize, datasets.fitting(settings))
        for path in settings.images
    ]
    scores = [export_model.scores(settings.model, scaled(image, low, high))[0] for image in images]
    if not np.isfinite(scores).all():
        raise ValueError(
            "`model` must give finite scores for `images`. "
            f"Received: {settings.model}, which gives a NaN or an infinity"
        )
    names = inspection.metadata.get("class_names")
    found = []
    for path, row in zip(settings.images, scores, strict=True):
        best = np.argsort(-row, kind="stable")[: settings.top]
        found.append([(names[i] if names else str(i), float(row[i])) for i in best])
        form = ".1%" if row.min() >= 0 and row.max() <= 1 else ".3g"
        seen = ", ".join(f"{name} {score:{form}}" for name, score in found[-1])
        print(checks.printable(f"{path}: {seen}"))
    return found


def scaled(image, low, high):
    """Returns a batch of one image of 0 to 255, in the file's range."""
    return low + image[None] * ((high - low) / 255)


def read(path, shape, resize, fitting):
    """Returns an image file as a float32 array `(height, width, channels)` of 0 to 255."""
    height, width, channels = shape
    if channels not in (1, 3):
        raise ValueError(
            f"`model` must take grey or coloured images. Received: inputs of shape {shape}"
        )
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
