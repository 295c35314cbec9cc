"""What a model, a path and images must be before anything is written or run."""

import contextlib
import errno
import pathlib

import keras
import numpy as np

from keras_fmm import checks
from keras_fmm.export import names


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
    """Returns where Keras runs on TensorFlow.

    Raises:
        ImportError: TensorFlow is not installed.
        ValueError: Keras runs on another backend.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        checks.package("tensorflow", "Export, with KERAS_BACKEND=tensorflow,", "tensorflow")
        raise ValueError(
            f"export needs the TensorFlow backend. Received: backend={backend}. "
            "Save the model as .keras and load it with KERAS_BACKEND=tensorflow."
        )


def file_path(path, ending):
    """Returns `path` as a `pathlib.Path` if a file of this ending can be written there.

    Raises:
        TypeError: it is no path.
        ValueError: it is empty or ends otherwise, or a folder (which would be replaced) is there.
    """
    path = checks.path("path", path)
    if path.suffix != ending:
        raise ValueError(f"`path` must end in {ending!r}. Received: path={str(path)!r}")
    if path.is_dir():
        raise ValueError(
            f"`path` must name a file. Received: path={str(path)!r}, which is a folder. "
            "Choose another name, or remove the folder."
        )
    return path


def folder_path(path):
    """Returns `path` as a `pathlib.Path` if a folder can be written there, or replaced.

    Raises:
        TypeError: it is no path.
        ValueError: it is empty or a file, or the process is in that folder.
    """
    path = checks.path("path", path)
    if path.exists() and not path.is_dir():
        raise ValueError(
            f"`path` must name a folder. Received: path={str(path)!r}, which is a file. "
            "Choose another name, or remove the file."
        )
    if pathlib.Path.cwd().is_relative_to(path.resolve()):
        raise ValueError(
            f"`path` must name a folder of its own. Received: path={str(path)!r}, the folder that "
            "the process is in, or one above. Add a name to it."
        )
    return path


def input_specs(model, batch_size=None):
    """Returns what `model` is called on: a structure of `keras.InputSpec` of this batch size.

    Several inputs have names, by which they are known in a file; one has none.

    Args:
        model: a built `keras.Model`. A subclassed one has the height and width it was built with.
        batch_size: int or None, default None (any).

    Raises:
        ValueError: a subclassed model of several inputs, or one that was built without a shape.
    """

    def spec(shape, dtype, name=None):
        return keras.InputSpec(shape=(batch_size, *shape[1:]), dtype=dtype, name=name)

    if isinstance(model, keras.Sequential):
        return spec(model.inputs[0].shape, model.inputs[0].dtype)
    if getattr(model, "inputs", None):
        count = len(model.inputs)
        called = (names.in_signature(names.of_inputs(model)) if count > 1 else None) or [
            None
        ] * count
        flat = [spec(x.shape, x.dtype, name) for x, name in zip(model.inputs, called, strict=True)]
        return keras.tree.pack_sequence_as(model.input, flat)
    shape = (model.get_build_config() or {}).get("input_shape")
    if not shape or not all(size is None or isinstance(size, int) for size in shape):
        raise ValueError(
            "A subclassed model must have one input and be built for its shape. "
            f"Received: model={model!r}, built for {model.get_build_config()}. Call it once on "
            "a batch of images, or wrap it in a functional model."
        )
    return spec(shape, model.input_dtype)


def checked_class_names(class_names, model):
    """Returns the names as a list, one for each entry of the model's last axis, or None.

    Raises:
        TypeError: they are not a list or tuple of str.
        ValueError: they are not as many as the model's outputs, or a name has a line's end.
    """
    if class_names is None:
        return None
    found = checks.names("class_names", class_names)
    outputs = getattr(model, "outputs", None) or [None]
    classes = None if outputs[0] is None else outputs[0].shape[-1]
    if len(outputs) != 1 or classes not in (None, len(found)):
        raise ValueError(
            "`class_names` must name each class of a model of one output. Received: "
            f"{len(found)} names for outputs of shape {[x.shape for x in outputs if x is not None]}"
        )
    # Twice is no mistake: two of ImageNet's thousand classes are called "crane".
    if not all(map(is_line, found)):
        raise ValueError(
            "`class_names` must be names of one line each, that UTF-8 can hold. "
            f"Received: class_names={found!r}"
        )
    return found


def is_line(name):
    """Returns whether a str is one line of text that UTF-8 can hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return name.splitlines() == [name] and bool(name.strip())


def fitting_inputs(images, wanted, of, is_ordered=True):
    """Returns what goes into each input, by the input's name, if it fits.

    Args:
        images: array of numbers, the batch first; for several inputs a list or tuple of arrays in
            the model's order, or a dict of arrays by name.
        wanted: dict of the inputs' names to pairs of shape and dtype, in the model's order.
        of: str, names in the error whose inputs they are.
        is_ordered: bool, default True. False where the model's order is not known, and a dict is
            needed.

    Raises:
        TypeError: an array does not hold numbers.
        ValueError: there is not one array for each input, one does not fit, or they are not of as
            many images.
    """
    known = ", ".join(repr(name) for name in wanted)
    if isinstance(images, dict):
        if len(images) == len(wanted) == 1 and names.are_numbered(wanted):
            # A file of one input does not keep its name.
            images = dict(zip(wanted, images.values(), strict=True))
        if set(images) != set(wanted):
            raise ValueError(
                f"`images` must have one array for each input of {of}: {known}. "
                f"Received: a dict of {', '.join(map(repr, images)) or 'nothing'}"
            )
        given = images
    elif len(wanted) == 1:
        ((name, (shape, _)),) = wanted.items()
        is_listed = isinstance(images, (list, tuple)) and len(images) == 1
        is_whole = is_listed and getattr(images[0], "ndim", None) == len(shape)
        given = {name: images[0] if is_whole else images}
    else:
        if not is_ordered or not isinstance(images, (list, tuple)) or len(images) != len(wanted):
            form = "a list in this order, or a dict" if is_ordered else "a dict of arrays by name"
            received = f"one {type(images).__name__}"
            if isinstance(images, (list, tuple)):
                received = f"a {type(images).__name__} of {len(images)}"
            raise ValueError(
                f"`images` must have one array for each input of {of}: {known}. "
                f"Received: {received}. Give {form}."
            )
        given = dict(zip(wanted, images, strict=True))
    label = "images[{!r}]" if len(wanted) > 1 else "images"
    found = {
        name: fitting_images(given[name], shape, dtype, of, label.format(name))
        for name, (shape, dtype) in wanted.items()
    }
    counts = {name: len(array) for name, array in found.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(
            f"`images` must be as many for each input of {of}. Received: "
            + ", ".join(f"{count} for {name!r}" for name, count in counts.items())
        )
    return found


def fitting_images(images, shape, dtype, of, name="images"):
    """Returns `images` in `dtype` if they can be the input of a model.

    Args:
        images: array of numbers, the batch first.
        shape: the input's shape, the batch first; None or -1 where any size fits.
        dtype: the input's dtype.
        of: str, names in the error whose input that is.
        name: str, default "images". The argument's name, quoted in errors.

    Raises:
        TypeError: `images` does not hold real numbers.
        ValueError: there is no image, they do not fit the shape, or an input of integers would
            change them.
    """
    images = checks.real_array(name, images)
    wanted = tuple(None if size in (None, -1) else int(size) for size in shape[1:])
    fits = len(images.shape) == len(wanted) + 1 and all(
        size in (None, received) for size, received in zip(wanted, images.shape[1:], strict=True)
    )
    if not fits or 0 in images.shape:
        raise ValueError(
            f"`{name}` must hold at least one image and have the shape {(None, *wanted)}, that of "
            f"the input of {of}. Received: images of shape {images.shape}"
        )
    with np.errstate(invalid="ignore"):
        fed = images.astype(dtype, copy=False)
    if np.issubdtype(dtype, np.integer) and (fed != images).any():
        raise ValueError(
            f"`{name}` must be whole numbers of {np.dtype(dtype)}, which the input of {of} takes. "
            f"Received: {images.dtype} from {images.min():.3g} to {images.max():.3g}. Round the "
            "images, and do not scale them."
        )
    return fed


@contextlib.contextmanager
def tensorflow_files():
    """Turns TensorFlow's errors of a full or unwritable disk into OSError."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(errno.EIO, error.message) from error
