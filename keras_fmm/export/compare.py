"""Comparing exported artefacts with the Keras model they were made from."""

import dataclasses

import keras
import numpy as np

from keras_fmm import checks
from keras_fmm.export import arguments
from keras_fmm.export.saved_model import run_saved_model
from keras_fmm.export.tflite import run_tflite


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far one artefact agrees with the Keras model on the same images.

    Attributes:
        name: "saved_model" or "tflite".
        max_difference: float, the largest absolute difference of an output value; NaN where either
            side has a NaN, or both the same infinity.
        mean_difference: float, the mean absolute difference, likewise.
        same_class: float in 0..1, the share of predictions (argmax over the last axis) that agree,
            over images and, in a dense prediction, positions; one with a NaN does not agree. None
            where the last axis holds fewer than two values or is the batch.
        images: int, the number of images compared.
    """

    name: str
    max_difference: float
    mean_difference: float
    same_class: float | None
    images: int


@dataclasses.dataclass(frozen=True)
class Report:
    """What `compare` found: one `Agreement` an artefact, by iteration or `report["tflite"]`."""

    rows: tuple[Agreement, ...]

    def __iter__(self):
        return iter(self.rows)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, name):
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def table(self):
        """Returns the report as text: a heading and a line for each artefact."""
        lines = [f"{'artefact':<12} {'images':>7} {'max diff':>10} {'mean diff':>10} {'class':>8}"]
        for row in self.rows:
            same = "-" if row.same_class is None else f"{row.same_class:.2%}"
            lines.append(
                f"{row.name:<12} {row.images:>7} {row.max_difference:>10.2e} "
                f"{row.mean_difference:>10.2e} {same:>8}"
            )
        return "\n".join(lines)

    __str__ = table


def compare(model, images, saved_model=None, tflite=None, batch_size=32):
    """Runs a Keras model and what was exported from it on the same images.

    It measures and does not judge: what difference is too large depends on the model (1e-5 is
    usual for float32, 1e-2 for a model of mixed precision).

    Args:
        model: a built `keras.Model` of one input and one output, on any backend.
        images: array of numbers, shape (n, height, width, channels), n >= 1; fed as each input's
            dtype.
        saved_model: str or `os.PathLike`, a SavedModel folder to compare, or None.
        tflite: str or `os.PathLike`, a TFLite file to compare, or None.
        batch_size: int, how many images Keras and the SavedModel run at a time; the file has its
            own.

    Returns:
        `Report`, with a row for each artefact that was given.

    Raises:
        FileNotFoundError: an artefact is not there.
        TypeError: `model` is not a `keras.Model`, or `images` does not hold numbers.
        ValueError: no artefact was given, one is damaged or gives outputs of another shape, the
            images do not fit the model or an artefact, or there are several inputs or outputs.

    Example:

    >>> import tempfile, keras, numpy as np
    >>> from keras_fmm import export
    >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    >>> path = export.to_tflite(model, tempfile.mkdtemp() + "/toy.tflite")
    >>> report = export.compare(model, np.ones((5, 8, 8, 3)), tflite=path)
    >>> report["tflite"].max_difference
    0.0
    >>> print(report)
    artefact      images   max diff  mean diff    class
    tflite             5   0.00e+00   0.00e+00  100.00%
    """
    batch_size = checks.positive_integer("batch_size", batch_size)
    if saved_model is None and tflite is None:
        raise ValueError(
            "`saved_model` or `tflite` must be given. Received: saved_model=None, tflite=None"
        )
    expected = _run_keras(model, images, batch_size)
    rows = []
    if saved_model is not None:
        received = run_saved_model(saved_model, images, batch_size)
        rows.append(_agreement("saved_model", expected, received))
    if tflite is not None:
        rows.append(_agreement("tflite", expected, run_tflite(tflite, images)))
    return Report(tuple(rows))


def _run_keras(model, images, batch_size):
    arguments.built_model(model)
    specs = keras.tree.flatten(arguments.input_specs(model))
    if len(specs) != 1:
        raise ValueError(f"`model` must have one input. Received: model={model!r} with {specs}")
    images = arguments.fitting_images(
        images, specs[0].shape, keras.backend.standardize_dtype(specs[0].dtype), repr(model)
    )
    outputs = []
    for start in range(0, len(images), batch_size):
        output = model(images[start : start + batch_size], training=False)
        if len(keras.tree.flatten(output)) != 1:
            raise ValueError(f"`model` must have one output. Received: model={model!r}")
        outputs.append(keras.ops.convert_to_numpy(keras.tree.flatten(output)[0]))
    return np.concatenate(outputs)


def _agreement(name, expected, received):
    if expected.shape != received.shape:
        raise ValueError(
            f"The outputs of `{name}` must have the shape of the model's, {expected.shape}. "
            f"Received: {received.shape}. Was it exported from this model?"
        )
    expected, received = expected.astype("float64"), received.astype("float64")
    with np.errstate(invalid="ignore"):
        difference = np.abs(expected - received)
    same_class = None
    if expected.ndim > 1 and expected.shape[-1] > 1:
        same = expected.argmax(axis=-1) == received.argmax(axis=-1)
        same &= ~np.isnan(expected + received).any(axis=-1)
        same_class = float(same.mean())
    return Agreement(
        name=name,
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        same_class=same_class,
        images=len(expected),
    )
