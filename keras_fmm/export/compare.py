"""Comparing exported artefacts with the Keras model they were made from."""

import dataclasses

import keras
import numpy as np

from keras_fmm import checks, hints
from keras_fmm.export import arguments, keras_model, names
from keras_fmm.export.attention_map import MAP, with_map
from keras_fmm.export.saved_model import outputs_of_saved_model
from keras_fmm.export.tflite.metadata import read_metadata
from keras_fmm.export.tflite.running import outputs_of_file


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far one artefact's output agrees with the Keras model's on the same images.

    Attributes:
        name: "saved_model" or "tflite".
        max_difference: float, the largest absolute difference of an output value; NaN where either
            side has a NaN, or both the same infinity.
        mean_difference: float, the mean absolute difference, likewise.
        same_class: float in 0..1, the share of predictions (argmax over the last axis) that agree,
            over images and, in a dense prediction, positions; one with a NaN does not agree. None
            where the last axis holds fewer than two values or is the batch, and of a map.
        images: int, the number of images compared.
        output: str, the output's name: its key where the model gives a dict, and of a list the name
            of the layer that gives it (or "output_0", "output_1" and so on where a layer gives
            several). None where there is one output. "attention_map" of a layer's map beside the
            scores.
    """

    name: str
    max_difference: float
    mean_difference: float
    same_class: float | None
    images: int
    output: str | None = None


@dataclasses.dataclass(frozen=True)
class Report:
    """What `compare` found: an `Agreement` for each artefact and output.

    They come by iteration; or by name, as `report["tflite"]` where the model has one output, and as
    `report["tflite", "boxes"]` where it has several.

    Attributes:
        rows: tuple of `Agreement`, artefact by artefact.
    """

    rows: tuple[Agreement, ...]

    def __iter__(self):
        return iter(self.rows)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, name):
        for row in self.rows:
            if name == (row.name if row.output is None else (row.name, row.output)):
                return row
        known = ", ".join(
            f"report[{row.name!r}]"
            if row.output is None
            else f"report[{row.name!r}, {row.output!r}]"
            for row in self.rows
        )
        raise KeyError(f"A report has the rows {known}. Received: {name!r}")

    def table(self) -> str:
        """Returns the report as text: a heading and a line for each artefact and output."""
        titles = [
            row.name if row.output is None else f"{row.name} {checks.printable(row.output)}"
            for row in self.rows
        ]
        width = max(12, *map(len, titles))
        lines = [
            f"{'artefact':<{width}} {'images':>7} {'max diff':>10} {'mean diff':>10} {'class':>8}"
        ]
        for title, row in zip(titles, self.rows, strict=True):
            same = "-" if row.same_class is None else f"{row.same_class:.2%}"
            lines.append(
                f"{title:<{width}} {row.images:>7} {row.max_difference:>10.2e} "
                f"{row.mean_difference:>10.2e} {same:>8}"
            )
        return "\n".join(lines)

    __str__ = table


def compare(
    model: keras.Model,
    images: hints.Inputs,
    saved_model: hints.Path | None = None,
    tflite: hints.Path | None = None,
    batch_size: int = 32,
    verbose: hints.Verbose = "auto",
) -> Report:
    """Runs a Keras model and what was exported from it on the same images.

    It measures and does not judge: what difference is too large depends on the model (1e-5 is
    usual for float32, 1e-2 for a model of mixed precision).

    Args:
        model: a built `keras.Model`, on any backend, that gives one tensor, or a list or a dict of
            tensors.
        images: array of numbers, shape (n, height, width, channels), n >= 1, or what else the model
            takes, fed as each input's dtype; for several inputs a list or tuple of arrays in the
            model's order, or a dict of arrays by name, as in `run_tflite`.
        saved_model: str, `os.PathLike` or None, default None. A SavedModel folder to compare.
        tflite: str, `os.PathLike` or None, default None. A TFLite file to compare. The map of a
            layer in it is compared with that layer's.
        batch_size: int, at least 1, default 32. How many images Keras and the SavedModel run at a
            time; the file has its own.
        verbose: "auto", 0, 1 or 2, default "auto". As of `run_tflite`, while the file is run.

    Returns:
        `Report`, with a row for each artefact that was given and each of its outputs.

    Raises:
        ImportError: TensorFlow, which runs a SavedModel, or LiteRT, which runs a TFLite file, is
            not installed.
        FileNotFoundError: an artefact is not there.
        TypeError: `model` is not a `keras.Model`, an artefact no path, or `images` does not hold
            real numbers.
        ValueError: no artefact was given, one is damaged or gives other outputs or outputs of
            another shape, an output has no batch, or the images do not fit the model or an
            artefact.

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
    if saved_model is not None:
        saved_model = checks.path("saved_model", saved_model)
    if tflite is not None:
        tflite = checks.path("tflite", tflite)
    arguments.built_model(model)
    inputs = keras_model.fitting_inputs(model, images)
    expected = keras_model.outputs(model, list(inputs.values()), batch_size)

    def fed(known):
        # By name, unless the file numbers its inputs or there is one: then in the model's order.
        is_by_name = len(inputs) > 1 and not names.are_numbered(known)
        return inputs if is_by_name else list(inputs.values())

    rows = []
    if saved_model is not None:
        received = outputs_of_saved_model(saved_model, fed, batch_size)
        rows += _agreements("saved_model", model, expected, received)
    if tflite is not None:
        received = outputs_of_file(tflite, fed, verbose=verbose)
        if (layer := read_metadata(tflite).get("attention_map")) is not None:
            try:
                model = with_map(model, layer)
            except ValueError as error:
                raise ValueError(
                    "`tflite` must be exported from the model. Received: tflite="
                    f"{str(tflite)!r}, which holds a map of another ({error})"
                ) from error
            expected = keras_model.outputs(model, list(inputs.values()), batch_size)
        rows += _agreements("tflite", model, expected, received)
    return Report(tuple(rows))


def _agreements(artefact, model, expected, received):
    """Returns the rows of one artefact, for outputs by the names in a signature."""
    if len(expected) == len(received) == 1:
        return [_agreement(artefact, *expected.values(), *received.values())]
    if set(expected) != set(received):
        raise ValueError(
            f"The outputs of `{artefact}` must be those of the model: {', '.join(expected)}. "
            f"Received: {checks.printable(', '.join(received))}. Was it exported from this model?"
        )
    return [
        _agreement(artefact, expected[name], received[name], title)
        for name, title in zip(expected, names.of_outputs(model, expected), strict=True)
    ]


def _agreement(name, expected, received, output=None):
    if expected.shape != received.shape:
        which = "" if output is None else f" {output!r}"
        raise ValueError(
            f"The outputs{which} of `{name}` must have the shape of the model's, {expected.shape}. "
            f"Received: {received.shape}. Was it exported from this model?"
        )
    expected, received = expected.astype("float64"), received.astype("float64")
    with np.errstate(invalid="ignore"):
        difference = np.abs(expected - received)
    same_class = None
    if expected.ndim > 1 and expected.shape[-1] > 1 and output != MAP:
        same = expected.argmax(axis=-1) == received.argmax(axis=-1)
        same &= ~np.isnan(expected + received).any(axis=-1)
        same_class = float(same.mean())
    return Agreement(
        name=name,
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        same_class=same_class,
        images=len(expected),
        output=output,
    )
