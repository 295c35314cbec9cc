"""Writing a TensorFlow SavedModel, and running one."""

import contextlib
import functools
import pathlib
import re
from collections.abc import Sequence

import keras
import numpy as np

from keras_fmm import checks, files, hints
from keras_fmm.export import arguments, names


def to_saved_model(
    model: keras.Model,
    path: hints.Path,
    class_names: Sequence[str] | None = None,
    preprocessing: keras.layers.Layer | None = None,
) -> pathlib.Path:
    """Writes a SavedModel that serves batches of any size, whole or not at all.

    The signature is `serving_default`; its code and weights are inside, so that it is served
    without Keras and without this package. A model of mixed precision stays one. With class names
    there is a second one, `classify`: it takes `images`, uint8 `(batch, height, width, channels)`,
    as cameras and decoders give them, and returns `scores`, float32 `(batch, classes)`, and
    `class_names`, strings of the same shape, the best class first.

    Args:
        model: a built `keras.Model`, on the TensorFlow backend, that gives one tensor, or a list or
            a dict of tensors. Of several inputs the signature has the names.
        path: str or `os.PathLike`, the folder to write. A SavedModel that is there is replaced;
            a folder that holds anything else, beside a SavedModel too, is refused.
        class_names: list or tuple of str or None, default None. The names of the model's classes in
            order; needs a functional or Sequential model of one input.
        preprocessing: `keras.layers.Layer`, model or None, default None (the model takes images as
            they are). What `classify` gives the images as float32 before the model, such as
            `keras.layers.Rescaling(1 / 255)`.

    Returns:
        `pathlib.Path`, the folder.

    Raises:
        ImportError: TensorFlow is not installed.
        TypeError: `model` is not a `keras.Model`, `path` is no path, `class_names` is no list of
            str, or `preprocessing` is no layer.
        ValueError: `model` is not built, `path` is a file, a folder of other files or the one that
            the process is in, Keras does not run on
            TensorFlow, the names are not as many as the classes, `preprocessing` is given without
            names, or the outputs are nested deeper.
        OSError: the folder cannot be written. What was at `path` before is still there.

    Example:

    >>> import tempfile, keras, numpy as np
    >>> from keras_fmm import export
    >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    >>> path = export.to_saved_model(model, tempfile.mkdtemp() + "/toy")
    >>> export.run_saved_model(path, np.zeros((5, 8, 8, 3))).shape
    (5, 192)
    """
    arguments.tensorflow_backend()
    arguments.built_model(model)
    path = arguments.folder_path(path)
    _refuse_other_files(path)
    class_names = arguments.checked_class_names(class_names, model)
    if class_names is not None:
        shapes = [len(x.shape) for x in getattr(model, "outputs", None) or []]
        if len(getattr(model, "inputs", None) or []) != 1 or shapes != [2]:
            raise ValueError(
                "`class_names` need a functional or Sequential model of one input and of outputs "
                f"(batch, classes). Received: model={model!r}"
            )
    names.check_outputs(model)
    if preprocessing is not None and class_names is None:
        raise ValueError(
            "`preprocessing` is for the signature `classify`, which needs `class_names`. Received: "
            "class_names=None. Give the names, or put the layer into the model."
        )
    if preprocessing is not None and not isinstance(preprocessing, keras.layers.Layer):
        raise TypeError(
            "`preprocessing` must be a keras.layers.Layer. "
            f"Received: preprocessing={preprocessing!r}"
        )
    with files.replacing(path) as temporary, arguments.tensorflow_files():
        if class_names is None:
            # Without it, inputs are called as their tensors, which the user may never have seen.
            several = len(names.of_inputs(model)) > 1
            given = {"input_signature": [arguments.input_specs(model)]} if several else {}
            model.export(temporary, format="tf_saved_model", verbose=False, **given)
        else:
            _write_classifier(model, temporary, class_names, preprocessing)
        _refuse_other_files(path)  # what has come meanwhile
    return path


def _refuse_other_files(path):
    """Raises where a folder, which is to be replaced, holds what is not of a SavedModel."""
    lost = sorted(_other_files(path)) if path.is_dir() else []
    if lost:
        raise ValueError(
            f"`path` must be a new or empty folder or a SavedModel. Received: path={str(path)!r}, "
            f"whose files would be lost: {', '.join(lost[:3])}{', ...' if lost[3:] else ''}. "
            "Move them away, or choose another name."
        )


def _other_files(path):
    """Returns the names of what in a folder is not of the SavedModel that it holds, if any."""
    from google.protobuf import message
    from tensorflow.core.protobuf import saved_model_pb2

    entries = {entry.relative_to(path).as_posix(): entry for entry in path.rglob("*")}
    saved = saved_model_pb2.SavedModel()
    with contextlib.suppress(OSError, message.DecodeError):
        saved.ParseFromString((path / "saved_model.pb").read_bytes())
    if not saved.meta_graphs:
        return set(entries)
    # keras_metadata.pb is Keras 2's.
    files_of_it = {"saved_model.pb", "fingerprint.pb", "keras_metadata.pb"}
    files_of_it |= {f"assets/{x.filename}" for g in saved.meta_graphs for x in g.asset_file_def}
    variables = re.compile(r"variables/variables\.(index|data-\d{5}-of-\d{5})")
    return {
        name
        for name, entry in entries.items()
        if entry.is_symlink()
        or not (
            entry.is_dir()
            if name in ("variables", "assets")
            else entry.is_file() and (name in files_of_it or variables.fullmatch(name))
        )
    }


def _write_classifier(model, path, class_names, preprocessing):
    import tensorflow as tf

    specs = arguments.input_specs(model)
    (inputs,) = keras.tree.flatten(specs)
    shape = inputs.shape
    if getattr(preprocessing, "inputs", None):
        shape = preprocessing.inputs[0].shape
    if preprocessing is not None:
        # Builds it too.
        given = preprocessing(keras.KerasTensor(shape)).shape
        if len(given) != len(inputs.shape) or any(
            None not in (one, other) and one != other
            for one, other in zip(given, inputs.shape, strict=True)
        ):
            raise ValueError(
                f"`preprocessing` must give what the model takes, {inputs.shape}. "
                f"Received: {preprocessing!r}, which gives {given}"
            )
    known = tf.constant(class_names)

    def classify(images):
        x = tf.cast(images, "float32")
        if preprocessing is not None:
            x = preprocessing(x, training=False)
        x = keras.tree.pack_sequence_as(specs, [tf.cast(x, inputs.dtype)])
        scores = tf.cast(model(x, training=False), "float32")
        order = tf.argsort(scores, axis=-1, direction="DESCENDING", stable=True)
        return {
            "scores": tf.gather(scores, order, axis=-1, batch_dims=1),
            "class_names": tf.gather(known, order),
        }

    archive = keras.export.ExportArchive()
    archive.track(model)
    if preprocessing is not None:
        archive.track(preprocessing)
    # The first one is also the signature `serving_default`.
    archive.add_endpoint("serve", functools.partial(model.__call__, training=False), [specs])
    spec = tf.TensorSpec(shape, "uint8", name="images")
    archive.add_endpoint("classify", classify, [spec])
    archive.write_out(str(path), verbose=False)


def run_saved_model(
    path: hints.Path, images: hints.Inputs, batch_size: int = 32
) -> np.ndarray | list | dict:
    """Returns what a SavedModel says of images.

    Args:
        path: str or `os.PathLike`, the folder.
        images: array of numbers, shape (n, height, width, channels), fed as the input's dtype; for
            several inputs a list or tuple of arrays in the model's order, or a dict of arrays by
            name, as in `run_tflite`.
        batch_size: int, at least 1, default 32. How many images to run at a time.

    Returns:
        array of n outputs, e.g. (n, classes), of the model's output dtype; of a model of several
        outputs a list of them in the model's order, or a dict where the model gives one.

    Raises:
        ImportError: TensorFlow is not installed.
        FileNotFoundError: there is nothing at `path`.
        TypeError: `images` does not hold numbers, or `batch_size` is no integer.
        ValueError: `path` is no whole SavedModel with a signature `serving_default`, it gives
            outputs without a batch, or `images` does not fit its inputs.

    Example: see `to_saved_model`.
    """
    return names.as_given(outputs_of_saved_model(path, images, batch_size))


def outputs_of_saved_model(path, images, batch_size=32):
    """Returns as `run_saved_model`, but always a dict by the names in the signature.

    Args: as `run_saved_model`; and `images` may be a function of the inputs' names, a list, to
        them.
    """
    tf = checks.package("tensorflow", "Running a SavedModel", "tensorflow")
    batch_size = checks.positive_integer("batch_size", batch_size)
    path = checks.path("path", path)
    if not path.exists():
        raise FileNotFoundError(f"There is no SavedModel at {path}.")
    try:
        # The signature does not keep the variables alive: hold what was loaded until it has run.
        loaded = tf.saved_model.load(path)
        serve = loaded.signatures["serving_default"]
    except (OSError, LookupError, ValueError, RuntimeError, tf.errors.OpError) as error:
        raise ValueError(
            f"`path` must be a whole SavedModel with a signature serving_default. Received: "
            f"path={str(path)!r}, which cannot be loaded ({error}). Export the model again."
        ) from error
    signature = serve.structured_input_signature[1]
    called, is_ordered = _inputs(loaded, signature)
    if callable(images):
        images = images(list(called))
    wanted = {
        name: (tuple(signature[key].shape), signature[key].dtype.as_numpy_dtype)
        for name, key in called.items()
    }
    of = f"the SavedModel {path}"
    inputs = arguments.fitting_inputs(images, wanted, of, is_ordered)
    parts, counts = [], []
    for start in range(0, len(next(iter(inputs.values()))), batch_size):
        batch = {name: array[start : start + batch_size] for name, array in inputs.items()}
        found = serve(**{called[name]: tf.constant(array) for name, array in batch.items()})
        parts.append({name: output.numpy() for name, output in found.items()})
        counts.append(len(next(iter(batch.values()))))
    return names.joined(parts, counts, of)


def _inputs(loaded, signature):
    """Returns the signature's name of each input by the model's, and whether they are in order."""
    keys = {name: name for name in signature}
    try:
        # What Keras' exporter leaves beside the signature: the structure that the model takes.
        ((structure, *_), _) = loaded.serve.concrete_functions[0].structured_input_signature
    except (AttributeError, IndexError, ValueError):
        return names.in_order(keys)
    specs = names.flat_dict(structure)
    if specs is None:
        return names.in_order(keys, [spec.name for spec in keras.tree.flatten(structure)])
    if {spec.name for spec in specs.values()} == set(signature):
        return {key: spec.name for key, spec in specs.items()}, True
    return names.in_order(keys, list(specs))
