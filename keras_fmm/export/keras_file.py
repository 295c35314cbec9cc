"""Saving a model as a .keras file."""

import pathlib

import keras

from keras_fmm import files, hints
from keras_fmm.export import arguments


def save_model(model: keras.Model, path: hints.Path) -> pathlib.Path:
    """Saves a model with its weights and training state as a .keras file, whole or not at all.

    Works on every backend; a file saved on one loads on another.

    Args:
        model: a built `keras.Model`.
        path: str or `os.PathLike` that ends in ".keras". A file that is there is replaced.

    Returns:
        `pathlib.Path`, the file.

    Raises:
        TypeError: `model` is not a `keras.Model`.
        ValueError: `model` is not built, or `path` ends otherwise or is a folder.
        OSError: the file cannot be written. What was at `path` before is still there.

    Example:

    >>> import tempfile, keras
    >>> from keras_fmm import export
    >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    >>> path = export.save_model(model, tempfile.mkdtemp() + "/toy.keras")
    >>> keras.models.load_model(path).output_shape
    (None, 192)
    """
    arguments.built_model(model)
    path = arguments.file_path(path, ".keras")
    with files.replacing(path) as temporary:
        model.save(temporary)
    return path
