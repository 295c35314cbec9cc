"""Make a TFLite file of a trained model, quantized or not, and measure what that costs.

Question: how large is the file, which of its operators run fast, and does it still say what the
model says?
Data: the dataset, or the folder of images, that the model was trained on: 500 images of train to
measure ranges on, and the whole test split to compare on. The model is to take images as
they are stored (0 to 255), as those of recipes.train do.
Command:

    python -m recipes.export_model --checkpoint runs/digits_se/best.keras --quantization int8

The file goes beside the checkpoint unless `--output` says where. It holds the class names; so
`python -m recipes.classify` can name what it sees.
Cost: seconds to a minute.
"""

import dataclasses
import pathlib

import numpy as np

from keras_fmm import export, progress
from recipes.lab import artefacts, datasets, fitting, names
from recipes.lab.settings import setting, shown, start, verbosity


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is written, and what it is compared on."""

    checkpoint: str = setting(..., "a .keras file")
    quantization: str | None = setting(None, "how numbers are stored", choices=names.QUANTIZATIONS)
    io_dtype: str = setting(
        "float32", "of input and output", choices=("float32", "int8", "uint8", "int16")
    )
    attention_map: str | None = setting(None, "layer whose map is the file's second output")
    batch_size: int = setting(1, "images that the file takes at once", minimum=1)
    dataset: str = datasets.named("digits")
    data_dir: str | None = setting(None, "folder of prepared datasets; none: TFDS_DATA_DIR")
    aspect_ratio: str = datasets.aspect_ratio()
    skip_unreadable: bool = datasets.skip_unreadable()
    min_agreement: float | None = setting(
        None, "the least share of images, 0 to 1, for which a quantized file names Keras' class"
    )
    verbose: str = verbosity()
    output: str | None = setting(None, "the .tflite file; none: CHECKPOINT_QUANTIZATION.tflite")


def main(settings):
    """Writes, compares and prints; returns the file's path and what was measured, a dict."""
    checkpoint = pathlib.Path(settings.checkpoint)
    model = artefacts.load_model("checkpoint", checkpoint)
    height, width, channels = model.input_shape[1:]
    size = None if None in (height, width) else (height, width)
    dataset = datasets.load(settings, size, channels)
    if channels != dataset.input_shape[2] or model.output_shape[-1] != dataset.classes:
        raise ValueError(
            "`dataset` must be the one that the model was trained on. Received: "
            f"{settings.dataset}, of {dataset.input_shape[2]} channels and {dataset.classes} "
            f"classes, for a model of inputs {model.input_shape} and outputs {model.output_shape}"
        )
    if size == dataset.input_shape[:2]:
        size = None
    name = f"{checkpoint.stem}_{settings.quantization or 'float32'}.tflite"
    path = export.to_tflite(
        model,
        settings.output or checkpoint.with_name(name),
        batch_size=settings.batch_size,
        quantization=settings.quantization,
        representative_data=sample(dataset, size),
        io_dtype=settings.io_dtype,
        class_names=dataset.class_names,
        input_range=(0, 255),
        attention_map=settings.attention_map,
        verbose=shown(settings),
        min_agreement=settings.min_agreement,
        aspect_ratio=dataset.identity.get("aspect_ratio"),
    )
    print(export.inspect(path))
    found = compared_on_test(model, path, dataset, size, shown(settings))
    print(
        f"test accuracy {found['accuracy']:.2%}, of the model {found['accuracy_of_keras']:.2%}; "
        f"same class for {found['same_class']:.2%} of {found['images']} images"
    )
    print(f"It is in {path}.")
    return path, found


def sample(dataset, size=None, images=500):
    """Returns images of train, of all classes, to measure ranges on."""
    chosen = np.random.default_rng(0).permutation(dataset.sizes["train"])[:images]
    return dataset.arrays("train", size, chosen)[0]


def classes(model, images, verbose="auto"):
    """Returns the class that a model names for each image."""
    bar = fitting.shows_progress(len(images), 200, verbose)
    return model.predict(images, batch_size=200, verbose=0, callbacks=[bar]).argmax(axis=-1)


def scores(path, images, verbose="auto"):
    """Returns what a file says of images, without the map of a layer that it may give beside."""
    found = export.run_tflite(path, images, num_threads=2, verbose=verbose)
    return found[0] if "attention_map" in export.read_metadata(path) else found


def compared(keras_says, path, images, labels, verbose="auto"):
    """Returns the accuracy of a model's classes and of a file's, and where they agree, a dict."""
    return agreement(keras_says, file_classes(path, images, verbose), labels)


def compared_on_test(model, path, dataset, size=None, verbose="auto"):
    """Returns what `compared` does, of the test split, not all of which need fit into memory."""
    found = []
    bar = progress.Progress(dataset.sizes["test"], verbose, "image")
    for images, labels in dataset.chunks("test", size):
        found.append((classes(model, images, 0), file_classes(path, images, 0), labels))
        bar.add(len(labels))
    return agreement(*map(np.concatenate, zip(*found, strict=True)))


def file_classes(path, images, verbose="auto"):
    """Returns the class that a file names for each image."""
    return scores(path, images, verbose).argmax(axis=-1)


def agreement(keras_says, file_says, labels):
    """Returns how often two are right, and say the same, a dict."""
    return {
        "accuracy": float(np.mean(file_says == labels)),
        "accuracy_of_keras": float(np.mean(keras_says == labels)),
        "same_class": float(np.mean(file_says == keras_says)),
        "images": len(labels),
    }


if __name__ == "__main__":
    start(main, Settings, __doc__)
