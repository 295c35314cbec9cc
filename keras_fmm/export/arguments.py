"""What a model, a path and images must be before anything is written or run."""

import contextlib
import errno
import pathlib

import keras
import numpy as np


def built_model(model):
    """Returns `model` if it is a `keras.Model` that has its weights.

    Raises:
        TypeError: it is not a `keras.Model`.
        ValueError: it is not built.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a keras.Model. Received: model={model!r}")
    if not model.built:
        raise ValueError(
            f"`model` must be built. Received: model={model!r}, which has no weights yet. "
            "Call it once on a batch of images, or give its first layer a keras.Input."
        )
    return model


def tensorflow_backend():
    """Raises ValueError unless Keras runs on TensorFlow."""
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ValueError(
            f"export needs the TensorFlow backend. Received: backend={backend}. "
            "Save the model as .keras and load it with KERAS_BACKEND=tensorflow."
        )


def file_path(path, ending):
    """Returns `path` as a `pathlib.Path` if a file of this ending can be written there.

    Raises:
        ValueError: it ends otherwise, or a folder (which would be replaced) is there.
    """
    path = pathlib.Path(path)
    if path.suffix != ending:
        raise ValueError(f"`path` must end in {ending!r}. Received: path={str(path)!r}")
    if path.is_dir():
        raise ValueError(
            f"`path` must name a file. Received: path={str(path)!r}, which is a folder. "
            "Choose another name, or remove the folder."
        )
    return path


def input_specs(model, batch_size=None):
    """Returns what `model` is called on: a structure of `keras.InputSpec` of this batch size.

    Args:
        model: a built `keras.Model`. A subclassed one has the height and width it was built with.
        batch_size: int, or None for any.

    Raises:
        ValueError: a subclassed model of several inputs, or one that was built without a shape.
    """

    def spec(shape, dtype):
        return keras.InputSpec(shape=(batch_size, *shape[1:]), dtype=dtype)

    if isinstance(model, keras.Sequential):
        return spec(model.inputs[0].shape, model.inputs[0].dtype)
    if getattr(model, "inputs", None):
        return keras.tree.map_structure(lambda x: spec(x.shape, x.dtype), model.input)
    shape = (model.get_build_config() or {}).get("input_shape")
    if not shape or not all(size is None or isinstance(size, int) for size in shape):
        raise ValueError(
            "A subclassed model must have one input and be built for its shape. "
            f"Received: model={model!r}, built for {model.get_build_config()}. Call it once on "
            "a batch of images, or wrap it in a functional model."
        )
    return spec(shape, model.input_dtype)


def fitting_images(images, shape, dtype, of):
    """Returns `images` in `dtype` if they can be the input of a model.

    Args:
        images: array of numbers, the batch first.
        shape: the input's shape, the batch first; None or -1 where any size fits.
        dtype: the input's dtype.
        of: str, names in the error whose input that is.

    Raises:
        TypeError: `images` does not hold numbers.
        ValueError: there is no image, or they do not fit the shape.
    """
    images = np.asarray(images)
    if not np.issubdtype(images.dtype, np.number):
        raise TypeError(f"`images` must hold numbers. Received: images of dtype {images.dtype}")
    wanted = tuple(None if size in (None, -1) else int(size) for size in shape[1:])
    fits = len(images.shape) == len(wanted) + 1 and all(
        size in (None, received) for size, received in zip(wanted, images.shape[1:], strict=True)
    )
    if not fits or len(images) == 0:
        raise ValueError(
            f"`images` must hold at least one image and have the shape {(None, *wanted)}, that of "
            f"the input of {of}. Received: images of shape {images.shape}"
        )
    return images.astype(dtype, copy=False)


@contextlib.contextmanager
def tensorflow_files():
    """Turns TensorFlow's errors of a full or unwritable disk into OSError."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(errno.EIO, error.message) from error
