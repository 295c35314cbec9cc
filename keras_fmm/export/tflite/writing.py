"""Writing a TFLite file: the model is checked, converted, quantized, tried and compared."""

import math
import pathlib
from collections.abc import Sequence
from typing import Any

import keras

from keras_fmm import checks, files, half_precision, hints
from keras_fmm.export import arguments, names
from keras_fmm.export import attention_map as maps
from keras_fmm.export.tflite import (
    bias_correction,
    calibration,
    conversion,
    flatbuffers,
    litert,
    metadata,
    quantizations,
    ranges,
    verification,
)
from keras_fmm.input_range import images_expected, normalized_range
from keras_fmm.progress import Progress


def to_tflite(
    model: keras.Model,
    path: hints.Path,
    batch_size: int | None = 1,
    quantization: str | None = None,
    representative_data: Any = None,
    io_dtype: str = "float32",
    class_names: Sequence[str] | None = None,
    input_range: tuple[float, float] | None = None,
    attention_map: str | keras.layers.Layer | None = None,
    verbose: hints.Verbose = "auto",
    min_agreement: float | None = None,
    aspect_ratio: str | None = None,
) -> pathlib.Path:
    """Writes a TFLite file of builtin operators, quantized on request, whole or not at all.

    The file is run once with LiteRT before it counts as written: one that converts without an
    error can still be refused when it is loaded. A model of half or mixed precision is rebuilt
    under float32 first. Unknown height and width stay unknown (`Interpreter.resize_tensor_input`
    sets them; the trial run takes 96), which is slow: LiteRT's fast kernels need known sizes.

    `quantization` says how weights and the values between the layers are stored. LiteRT's fast
    kernels take the whole file but for the last two:

    - None: both are float32.
    - "float16": weights are float16, values float32. The file has half the size.
    - "int8": both are int8, and values float32 from each output's last product on. The file has a
      quarter of the size (large networks) to a half (small ones).
    - "dynamic": weights are int8, values float32 and in products int8. The file has as little; the
      fast kernels take most operators. With images it says more exactly what the model says.
    - "int16x8": weights are int8, values int16. The file has as little; the fast kernels take no
      operator.

    Args:
        model: a built `keras.Model`, on the TensorFlow backend, that gives one tensor, or a list or
            a dict of tensors. Several inputs are taken if it is functional and needs no
            `representative_data`; the file's signature has their names.
        path: str or `os.PathLike` that ends in ".tflite". A file that is there is replaced.
        batch_size: int from 1 to 65,535 or None, default 1. The batch that the file takes; None
            for any (slower).
        quantization: None, "float16", "dynamic", "int8" or "int16x8", default None. See above.
        representative_data: array, tf.data pipeline, iterable, function or None, default None. Some
            hundred images as the model is fed in training: an array, a tf.data pipeline of batches,
            with or without labels, an iterable of batches, or a function that returns one. "int8"
            and "int16x8" need them, for the range of every value; with "dynamic" they may be given.
            In all three the biases then make up for what rounding the weights changes, and the
            file is compared with the model. The first 500 images are taken. Not looked at
            otherwise, nor with "dynamic" for a model of several inputs or a subclassed one.
        io_dtype: str, default "float32". "float32", or for "int8" also "int8" and "uint8", for
            "int16x8" "int16": of the file's input and output, whose scale and zero point `inspect`
            tells. Images of 0 to 255 are themselves in "uint8". With integers the last product
            gives integers too, and scores that are close are the same more often.
        class_names: list or tuple of str or None, default None. The names of the model's classes in
            order; kept in the file.
        input_range: pair of numbers or None, default None. What the images' darkest and lightest
            values are for the model, such as (0, 255); kept in the file. See `read_metadata`.
            Leave it out where the model's first layer is a `models.Preprocessing`, which tells
            more and is kept too.
        attention_map: str, `keras.layers.Layer` or None, default None. A gate of the model, by its
            name or path as in `keras_fmm.graph`, or itself: its map, as
            `analysis.attention_maps` gives it, is the file's second output, behind the scores.
            For a functional model of one input and one output. The path is kept in the file.
        verbose: "auto", 0, 1 or 2, default "auto". When progress is shown. "auto" shows a bar of
            the images that are looked at once the work has taken five seconds, 0 never, 1 from the
            first step on; 2 writes one line at the end. Without images there is one step.
        min_agreement: number from 0 to 1 or None, default None. For what part of the first hundred
            images of `representative_data` a quantized file must name the class that the model
            names, in each output of scores: probabilities, or the one output of rank 2 beside an
            attention map. None warns where it is less than expected.
        aspect_ratio: "stretch", "crop", "pad" or None, default None. How images of another ratio of
            sides were brought to the model's in training, in the words of `data.load_image`; kept
            in the file, for what reads images for it.

    Returns:
        `pathlib.Path`, the file.

    Raises:
        ImportError: TensorFlow or LiteRT is not installed.
        TypeError: `model` is not a `keras.Model`, or an argument is of no type that fits.
        ValueError: the model needs operators that TFLite lacks (they are named), or has layers that
            Keras has quantized and the converter cannot write; LiteRT cannot run what came out, or
            ends the process that tries; an output of the quantized file is broken (not finite, the
            same for all images, or little better than chance) or agrees less than `min_agreement`,
            which is none or cannot be measured; `model` is not built, cannot be rebuilt under
            float32, or gives more than a list or dict of tensors; `attention_map` is no gate that
            stands in it, or was given for a subclassed model or several inputs or outputs; `path`
            ends otherwise; Keras does not run on TensorFlow; an argument is none of the above;
            `representative_data` is missing, empty, of another shape, not finite, scaled otherwise
            than the model needs (as far as its own scaling or its first batch norm tell; nothing
            does of a model that has neither), or not in `input_range`.
        OSError: the file cannot be written.

    Whatever is raised, what was at `path` before is still there.

    Example:

    >>> import tempfile, keras, numpy as np
    >>> from keras_fmm import export
    >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    >>> path = export.to_tflite(model, tempfile.mkdtemp() + "/toy.tflite")
    >>> export.run_tflite(path, np.zeros((5, 8, 8, 3))).shape
    (5, 192)
    """
    arguments.tensorflow_backend()
    arguments.built_model(model)
    path = arguments.file_path(path, ".tflite")
    if batch_size is not None:
        batch_size = checks.positive_integer("batch_size", batch_size, below=2**16)
    quantization, io_dtype = quantizations.checked(quantization, io_dtype)
    min_agreement = quantizations.checked_agreement(
        min_agreement, quantization, representative_data
    )
    class_names = arguments.checked_class_names(class_names, model)
    input_range = metadata.checked_input_range(input_range)
    if aspect_ratio is not None:
        checks.one_of("aspect_ratio", aspect_ratio, metadata.ASPECT_RATIOS)
    expected = _images_expected(model, input_range)
    if attention_map is not None:
        attention_map = maps.checked_layer(model, attention_map)
    litert.library()
    model = half_precision.as_float32(model)
    names.check_outputs(model)
    fed = input_range or (expected and _range_of(expected))
    images = calibration.checked_images(model, quantization, representative_data, fed)
    if attention_map is not None:
        model = maps.with_map(model, attention_map)
    progress = Progress(_steps(quantization, images), verbose)
    with files.replacing(path) as temporary, arguments.tensorflow_files():
        content, *reference = conversion.convert(
            model, batch_size, quantization, io_dtype, images, progress
        )
        if quantization == "int8":
            content = ranges.quantized(content, images, io_dtype, progress)
            conversion.warn_of_division(model, content)
        elif reference:
            moves = bias_correction.shifts(content, *reference, images, progress)
            content = bias_correction.corrected(content, moves)
        del reference
        temporary.write_bytes(flatbuffers.in_order(content))
        try:
            session = verification.trial_run(temporary, model, is_apart=quantization == "int8")
        except ValueError as error:
            if refusal := conversion.quantized_error(model):
                raise refusal from error
            raise
        if images is not None:
            verification.check_outputs(
                session, model, images, quantization, min_agreement, attention_map is not None
            )
        progress.add(math.inf)
        called = names.of_inputs(model)
        called = called if len(called) > 1 else None
        metadata.attach(
            temporary,
            quantization,
            class_names,
            input_range,
            called,
            attention_map,
            expected,
            aspect_ratio,
        )
    return path


def _images_expected(model, input_range):
    """Returns what the model itself says of its images, or None; refuses what contradicts it."""
    expected = images_expected(model)
    if expected is None or input_range is None or expected["is_inside"]:
        return expected
    raise ValueError(
        "`input_range` must be left out for a model that takes normalized images: each channel has "
        f"a range of its own. Received: input_range={tuple(input_range)}, model={model!r}, whose "
        f"images have the means {expected['image_mean']} and deviations {expected['image_std']}. "
        "Leave it out, or build the model with `include_preprocessing=True` for images of 0 to 255."
    )


def _range_of(expected):
    return (0.0, 255.0) if expected["is_inside"] else normalized_range(expected)


def _steps(quantization, images):
    """Returns how many steps writing takes: each look at an image, and the trial."""
    if images is None:
        return 1
    # Equalization, and the shifts of biases.
    few = min(len(images), bias_correction.MOST_IMAGES)
    looks = {"int8": 3 * len(images) + 2 * few, "int16x8": len(images) + few}
    return 1 + looks.get(quantization, few)
