"""Whether images are in the range that a model was made for, told by what becomes of them.

Two things tell. One is what arrives at the first layers that learn, where the model scales its
images on the way: wherever that is, and by whatever it is done. The other is what the first batch
norm met in training. Where neither tells, nothing is said: a convolution takes any numbers.
"""

import functools
import inspect

import keras
import numpy as np

from keras_fmm import graph, protocols

# So many images tell enough.
_MOST_IMAGES = 16
# Scaled images spread less than this where they were scaled before, and reach more than that where
# they never were: images of 0..1 that are divided by 255 spread by 0.004 at most.
_LEAST_SPREAD = 0.02
_GREATEST_VALUE = 20.0
# How far the variance of features may be from what their batch norm met in training. For images
# that were divided by 255, or not, it differs by a factor of 65,000.
_GREATEST_RATIO = 1000.0
# What was scaled, be it by a dataset's mean and deviation, stays below the first; what is stored
# from 0 to 255 is above the second somewhere.
_GREATEST_SCALED = 3.0
_LEAST_STORED = 20.0


def images_expected(model):
    """Returns what the layer that a model's images come to first tells of them, or None.

    Args:
        model: `keras.Model`.

    Returns:
        dict, as of `protocols.TellsImages`; None where no such layer is the first, or its means are
        not as many as the images' channels.
    """
    if not graph.is_graph(model) or len(model.inputs) != 1:
        return None
    read = graph.read(model)
    (images,) = read.inputs
    for call in read.calls:
        tells = isinstance(call.operation, protocols.TellsImages)
        if tells and not call.is_entered and any(x is images for x in _tensors(call)):
            found = call.operation.images_expected()
            return found if len(found["image_mean"]) == images.shape[-1] else None
    return None


def normalized_range(expected):
    """Returns the least and the greatest number of normalized images, a pair of float.

    Args:
        expected: what `images_expected` returned.
    """
    pairs = list(zip(expected["image_mean"], expected["image_std"], strict=True))
    return min(-mean / std for mean, std in pairs), max((1 - mean) / std for mean, std in pairs)


def scaling_problem(model, images):
    """Says what a model makes of images that were scaled before, or never.

    Images that are dark or flat are taken: it speaks only where the images would be right if they
    were multiplied by 255, or divided by it.

    Args:
        model: functional or Sequential `keras.Model` of one input.
        images: array of numbers, a batch of what the model takes; some of them are looked at.

    Returns:
        str, to be put behind "Received: ", with the cure; None where the images look right, are no
        images but vectors, or where nothing tells.
    """
    if images.ndim < 3 or not graph.is_graph(model):
        return None
    beginning = _Beginning(model, images)
    verdict = beginning.verdict()
    if verdict == "flat" and beginning.looks_scaled and beginning.verdict(255.0) == "right":
        cure = "Give images as they are stored (0 to 255 for most), not scaled."
    elif verdict == "great" and beginning.looks_stored and beginning.verdict(1 / 255) == "right":
        cure = "Scale them as for training: divided by 255 they fit."
    else:
        return None
    return f"images from {images.min():.3g} to {images.max():.3g}, {beginning.told()}. {cure}"


def declared_problem(images, input_range):
    """Says how images are not in the range that a model's images are said to have, or None.

    Args:
        images: array of numbers.
        input_range: pair of float, the darkest and the lightest value.
    """
    low, high = input_range
    size = high - low
    # Resizing overshoots a little.
    is_outside = images.min() < low - size / 2 or images.max() > high + size / 2
    if not is_outside and not (size > 100 and _look_scaled(images)):
        return None
    return (
        f"images from {images.min():.3g} to {images.max():.3g}, for input_range="
        f"({low:.6g}, {high:.6g}). Give the range that the model was trained on, and images in it."
    )


def lacks_scaling(model, images):
    """Says whether whole numbers of 0 to 255 come unscaled to layers that learn from their size.

    It is False where that is not known: where a layer that scales, or one of the user's, is inside
    the first that has weights, where the model has a `call` of its own, or where a batch norm met
    such images in training.

    Args: as of `scaling_problem`.
    """
    if images.ndim < 3 or images.dtype.kind not in "iu" or not graph.is_graph(model):
        return False
    if "float" not in model.inputs[0].dtype:
        return False
    beginning = _Beginning(model, images)
    return beginning.looks_stored and beginning.is_bare and beginning.verdict() != "right"


class _Beginning:
    """What the beginning of a model makes of images.

    Attributes:
        looks_scaled: bool, whether the images look as if they were scaled before.
        looks_stored: bool, whether they look as if they never were.
    """

    def __init__(self, model, images):
        self.looks_scaled = _look_scaled(images)
        self.looks_stored = bool(images.max() > _LEAST_STORED)
        images = images[:: max(1, len(images) // _MOST_IMAGES)][:_MOST_IMAGES]
        self._graph = graph.read(model)
        self._size = model.inputs[0].shape[0]
        self._images = images.astype("float32")

    def verdict(self, factor=1.0):
        """Says what the images are if they are multiplied: "flat", "great", "right" or None."""
        if not self._images.std() > 0:
            return None
        for measured in (self._at_norm(factor), self._at_learning(factor)):
            if measured is not None:
                spread, least, greatest, most = measured
                return "flat" if spread < least else "great" if greatest > most else "right"
        return None

    def told(self):
        """Says what the verdict on the images is told by."""
        measured = self._at_learning()
        if measured is None:
            spread, least, greatest, _ = self._at_norm()
            ratio = spread if spread < least else greatest
            return (
                f"whose features have {ratio:.2g} times the variance that the layer "
                f"{self._norm.path!r} met in training"
            )
        return (
            f"which the model's layer {self._scaler.path!r} scales to a spread of "
            f"{measured[0]:.2g} and values up to {measured[2]:.2g}"
        )

    @property
    def is_bare(self):
        """Whether the images are known to come to the first layers that learn as they are."""
        takers = [call for call, _ in self._learning]
        return bool(takers) and self._scaler is None and all(map(_depends_on_size, takers))

    def _at_norm(self, factor=1.0):
        """Returns the features' variance at the first batch norm in parts of what that met."""
        if self._norm is None:
            return None
        norm, tensor = self._norm.operation, _tensors(self._norm)[0]
        features = self._run(self._images * factor, until=self._norm)
        if id(tensor) not in features:
            return None
        features = _array(features[id(tensor)])
        axes = tuple(axis for axis in range(features.ndim) if axis != norm.axis % features.ndim)
        met = np.asarray(norm.moving_variance) + norm.epsilon
        mean = np.expand_dims(np.asarray(norm.moving_mean), axes)
        # About their own mean, and about that of training.
        spread = np.median(features.var(axes) / met)
        greatest = np.median(np.square(features - mean).mean(axes) / met)
        return spread, 1 / _GREATEST_RATIO, greatest, _GREATEST_RATIO

    def _at_learning(self, factor=1.0):
        """Returns spread and size of what arrives at layers that learn where the model scales."""
        if self._scaler is None:
            return None
        tensor = next(x for _, x in self._learning if self._is_scaled(x))
        dark, bright = (_array(values[id(tensor)]) for values in self._uniform)
        gain = np.abs(bright - dark).max() / 255
        if not gain > 0:
            # Each image is standardized by itself.
            return None
        # Some networks take 0 to 255 themselves, from which a mean is subtracted at the most.
        is_shifted = np.isclose(gain, 1, rtol=1e-3) and np.abs(dark).max() > _GREATEST_VALUE
        unit = 255.0 if is_shifted or gain > 100 else 1.0
        arriving = _array(self._run(self._images * factor, _passes)[id(tensor)])
        spread = np.std(arriving - dark[:1])
        return spread, _LEAST_SPREAD * unit, np.abs(arriving).max(), _GREATEST_VALUE * unit

    @functools.cached_property
    def _norm(self):
        """The call of the first batch norm, if it was trained; or None."""
        for call in self._graph.calls:
            norm = call.operation
            if isinstance(norm, keras.layers.BatchNormalization):
                mean, variance = np.asarray(norm.moving_mean), np.asarray(norm.moving_variance)
                return call if mean.any() or (variance != 1).any() else None
        return None

    @functools.cached_property
    def _learning(self):
        """Pairs of a call that learns, or has what was learned, and a tensor that comes to it."""
        dark, _ = self._uniform
        return [
            (call, tensor)
            for call in self._graph.calls
            if not call.is_entered and id(call.outputs[0]) not in dark
            for tensor in _tensors(call)
            if id(tensor) in dark
        ] or [(None, tensor) for tensor in self._graph.outputs if id(tensor) in dark]

    @functools.cached_property
    def _scaler(self):
        """The first call whose output is scaled, if what arrives at the layers that learn is."""
        dark, _ = self._uniform
        if not any(self._is_scaled(tensor) for _, tensor in self._learning):
            return None
        return next(
            call
            for call in self._graph.calls
            if not call.is_entered
            and any(id(x) in dark and self._is_scaled(x) for x in call.outputs)
        )

    def _is_scaled(self, tensor):
        """Says whether a uniform image of 0 or 255 is another one here; zeros may be padded."""
        dark, bright = (_array(values[id(tensor)]) for values in self._uniform)
        return bool(np.abs(dark).max() > 1e-3) or not np.isclose(bright.max(), 255, rtol=1e-3)

    @functools.cached_property
    def _uniform(self):
        """What comes of an image of zeros, and of one of 255, by the ids of tensors."""
        image = np.zeros_like(self._images[:1])
        return self._run(image, _passes), self._run(image + 255, _passes)

    def _run(self, images, is_run=lambda operation: True, until=None):
        """Returns what a model's calls make of images, by the ids of symbolic tensors."""
        if self._size is not None:
            images = np.resize(images, (self._size, *images.shape[1:]))
        start = self._graph.inputs[0]
        values = {id(start): keras.ops.convert_to_tensor(images.astype(start.dtype))}
        for call in self._graph.calls:
            if call is until:
                break
            if call.is_entered or not is_run(call.operation):
                continue
            if any(id(x) not in values for x in _tensors(call)):
                continue
            args, kwargs = graph.filled((call.args, call.kwargs), values)
            # Layers of augmentation change images unless they are told not to.
            if "training" in inspect.signature(call.operation.call).parameters:
                kwargs["training"] = False
            try:
                outputs = keras.tree.flatten(call.operation(*args, **kwargs))
            except Exception:
                # A user's layer may not run by itself; what it gives is then not known.
                continue
            values.update(zip(map(id, call.outputs), outputs, strict=True))
        return values


def _look_scaled(images):
    if images.dtype.kind != "f":
        return False
    greatest = np.abs(images).max()
    return bool(greatest <= 1 or (greatest <= _GREATEST_SCALED and (images % 1).any()))


def _array(tensor):
    return keras.ops.convert_to_numpy(tensor).astype("float32")


def _tensors(call):
    found = keras.tree.flatten((call.args, call.kwargs))
    return [x for x in found if isinstance(x, keras.KerasTensor)]


def _passes(operation):
    """Says whether an operation hands images on without having learned anything of them."""
    # An activation gives larger numbers for larger ones.
    passing = (keras.layers.Normalization, keras.layers.PReLU)
    return isinstance(operation, passing) or not getattr(operation, "weights", None)


def _depends_on_size(call):
    """Says whether a call is of a layer that takes larger numbers for another image."""
    layer = getattr(call, "operation", None)
    # What comes after a normalizer is the same for images of any range.
    if not isinstance(layer, keras.layers.Layer) or isinstance(layer, graph.NORMALIZERS):
        return False
    scaling = (keras.layers.Rescaling, keras.layers.Normalization, keras.layers.Lambda)
    return all(
        type(part).__module__.split(".")[0] in ("keras", "keras_fmm")
        and not isinstance(part, scaling)
        for part in layer._flatten_layers()
    )
