"""Say what a TFLite file sees in images.

Data: image files that Pillow reads (PNG, JPEG, ...), made grey or coloured as the file needs them.
Command:

    python -m recipes.classify --model saved_models/toy_cnn_se_fashion_mnist_int8.tflite shoe.png

The file tells its class names and the range of its inputs, if `keras_fmm.export.to_tflite` was
told them; otherwise classes are numbers and images are taken as 0 to 255. Images must have the
file's size, or are resized with `--resize`.
Cost: seconds, most of them TensorFlow's start.
"""

import dataclasses
import pathlib

import numpy as np

from keras_fmm import checks, export
from recipes.lab.settings import setting, start


@dataclasses.dataclass(frozen=True)
class Settings:
    """Which file looks at which images."""

    images: tuple = setting(..., "image files")
    model: str = setting(..., "a .tflite file")
    top: int = setting(3, "how many classes to print", minimum=1)
    resize: bool = setting(False, "resize images to the file's size")


def main(settings):
    """Prints the top classes of each image; returns them, a list of (name, score) an image."""
    inspection = export.inspect(settings.model)
    if len(inspection.inputs) != 1 or len(inspection.outputs) != 1:
        raise ValueError(f"`model` must have one input and output. Received: {settings.model}")
    shape = inspection.inputs[0].shape
    if len(shape) != 4 or len(inspection.outputs[0].shape) != 2:
        raise ValueError(
            "`model` must take images and give a score for each class. Received: "
            f"{settings.model}, of inputs {shape} and outputs {inspection.outputs[0].shape}"
        )
    low, high = inspection.metadata.get("input_range") or (0, 255)
    # All images are read before anything is printed.
    images = [read(path, shape[1:], settings.resize) for path in settings.images]
    names = inspection.metadata.get("class_names")
    found = []
    for path, image in zip(settings.images, images, strict=True):
        scaled = low + image[None] * ((high - low) / 255)
        scores = export.run_tflite(settings.model, scaled)[0]
        best = np.argsort(-scores, kind="stable")[: settings.top]
        found.append([(names[i] if names else str(i), float(scores[i])) for i in best])
        form = ".1%" if scores.min() >= 0 and scores.max() <= 1 else ".3g"
        seen = ", ".join(f"{name} {score:{form}}" for name, score in found[-1])
        print(checks.printable(f"{path}: {seen}"))
    return found


def read(path, shape, resize):
    """Returns an image file as a float32 array `(height, width, channels)` of 0 to 255."""
    library = checks.package("PIL.Image", "Reading image files", "mobile")
    operations = checks.package("PIL.ImageOps", "Reading image files", "mobile")
    height, width, channels = shape
    if channels not in (1, 3):
        raise ValueError(
            f"`model` must take grey or coloured images. Received: inputs of shape {shape}"
        )
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no image at {path}.")
    try:
        with library.open(path) as file:
            # Phones keep a photograph as it lay in the camera, and say how to turn it.
            image = operations.exif_transpose(file).convert("L" if channels == 1 else "RGB")
    except (OSError, SyntaxError, ValueError, library.DecompressionBombError) as error:
        raise ValueError(
            f"`images` must be image files. Received: {path}, which cannot be read ({error})."
        ) from error
    if -1 not in (height, width) and image.size != (width, height):
        if not resize:
            raise ValueError(
                f"`images` must be {width} wide and {height} high. Received: {path}, which is "
                f"{image.size[0]} wide and {image.size[1]} high. Give --resize."
            )
        image = image.resize((width, height), library.Resampling.BILINEAR)
    return np.asarray(image, "float32").reshape(*image.size[::-1], channels)


if __name__ == "__main__":
    start(main, Settings, __doc__)
