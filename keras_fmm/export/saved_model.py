"""Writing a TensorFlow SavedModel, and running one."""

import functools
import pathlib

import keras
import numpy as np

from keras_fmm import checks, files
from keras_fmm.export import arguments, metadata


def to_saved_model(model, path, class_names=None, preprocessing=None):
    """Writes a SavedModel that serves batches of any size, whole or not at all.

    The signature is `serving_default`; its code and weights are inside, so that it is served
    without Keras and without this package. A model of mixed precision stays one. With class names
    there is a second one, `classify`: it takes `images`, uint8 `(batch, height, width, channels)`,
    as cameras and decoders give them, and returns `scores`, float32 `(batch, classes)`, and
    `class_names`, strings of the same shape, the best class first.

    Args:
        model: a built `keras.Model`, on the TensorFlow backend.
        path: str or `os.PathLike`, the folder to write. A SavedModel that is there is replaced;
            any other folder that holds something is refused.
        class_names: sequence of str, of the model's classes in order; needs a functional or
            Sequential model of one input.
        preprocessing: `keras.layers.Layer` (or model) that `classify` gives the images as float32
            before the model, such as `keras.layers.Rescaling(1 / 255)`; None for a model that
            takes images as they are.

    Returns:
        `pathlib.Path`, the folder.

    Raises:
        TypeError: `model` is not a `keras.Model`, `class_names` is no sequence of str, or
            `preprocessing` is no layer.
        ValueError: `model` is not built, `path` is a folder of other files, Keras does not run on
            TensorFlow, the names are not as many as the classes, or `preprocessing` is given
            without names.
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
    path = pathlib.Path(path)
    if path.is_dir() and any(path.iterdir()) and not (path / "saved_model.pb").is_file():
        raise ValueError(
            f"`path` must be a new or empty folder or a SavedModel. Received: path={str(path)!r}, "
            "whose files would be lost. Choose another name."
        )
    class_names = metadata.checked_class_names(class_names, model)
    if class_names is not None:
        shapes = [len(x.shape) for x in getattr(model, "outputs", None) or []]
        if len(getattr(model, "inputs", None) or []) != 1 or shapes != [2]:
            raise ValueError(
                "`class_names` need a functional or Sequential model of one input and of outputs "
                f"(batch, classes). Received: model={model!r}"
            )
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
            model.export(temporary, format="tf_saved_model", verbose=False)
        else:
            _write_classifier(model, temporary, class_names, preprocessing)
    return path


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
    names = tf.constant(class_names)

    def classify(images):
        x = tf.cast(images, "float32")
        if preprocessing is not None:
            x = preprocessing(x, training=False)
        x = keras.tree.pack_sequence_as(specs, [tf.cast(x, inputs.dtype)])
        scores = tf.cast(model(x, training=False), "float32")
        order = tf.argsort(scores, axis=-1, direction="DESCENDING", stable=True)
        return {
            "scores": tf.gather(scores, order, axis=-1, batch_dims=1),
            "class_names": tf.gather(names, order),
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


def run_saved_model(path, images, batch_size=32):
    """Returns what a SavedModel of one input and one output says of images.

    Args:
        path: str or `os.PathLike`, the folder.
        images: array of numbers, shape (n, height, width, channels); fed as the input's dtype.
        batch_size: int, how many images to run at a time.

    Returns:
        array of n outputs, e.g. (n, classes), of the model's output dtype.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        TypeError: `images` does not hold numbers, or `batch_size` is no integer.
        ValueError: `path` is no whole SavedModel with one input and one output in the signature
            `serving_default`, or `images` does not fit its input.

    Example: see `to_saved_model`.
    """
    import tensorflow as tf

    batch_size = checks.positive_integer("batch_size", batch_size)
    path = pathlib.Path(path)
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
    inputs = serve.structured_input_signature[1]
    if len(inputs) != 1 or len(serve.structured_outputs) != 1:
        raise ValueError(
            f"`path` must be a SavedModel of one input and one output. Received: path={str(path)!r}"
            f" with inputs {sorted(inputs)} and outputs {sorted(serve.structured_outputs)}"
        )
    ((name, spec),) = inputs.items()
    images = arguments.fitting_images(
        images, tuple(spec.shape), spec.dtype.as_numpy_dtype, f"the SavedModel {path}"
    )
    outputs = []
    for start in range(0, len(images), batch_size):
        (output,) = serve(**{name: tf.constant(images[start : start + batch_size])}).values()
        outputs.append(output.numpy())
    return np.concatenate(outputs)
