"""Keras' random image layers by name, drawn so that an epoch is the same whatever ran before it."""

import ast
import contextlib
import difflib
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_fmm import checks, hints
from keras_fmm.training.strategy import on_cpu

if TYPE_CHECKING:
    import tensorflow as tf

_FLIPS = ("horizontal", "vertical", "horizontal_and_vertical")


def _layers():
    """Returns Keras' layers that transform images for training, by their names, a dict."""
    found = {name: getattr(keras.layers, name) for name in dir(keras.layers)}
    return {name: x for name, x in found.items() if hasattr(x, "get_random_transformation")}


class Augmentation:
    """Random changes of training images, by layers of Keras, one after another.

    What is drawn for a batch follows from `seed` and the batch's number alone: a run that goes on
    sees what it would have seen. It is drawn on the CPU, in float32. `MixUp` and `CutMix` mix
    labels too, which are one-hot then (`mixes_labels`); the loss must be one for such labels.

    Args:
        layers: str, or list or tuple of `keras.layers.Layer`. A str names layers of `keras.layers`
            with commas between, each as it is called: `"RandomFlip('horizontal'), MixUp(0.2)"`;
            `random_flip` means the same, and without brackets a layer has its own defaults.
            Images are of 0 to 255.
        input_shape: tuple of 3 int. Height, width and channels of one image, which no layer may
            change.
        classes: int, at least 1. How many classes there are.
        seed: int from 0 to `2**32 - 1`, default 0.

    Attributes:
        layers: list of `keras.layers.Layer`.
        mixes_labels: bool.

    Raises:
        TypeError: `layers` is neither, or one is no image layer of Keras.
        ValueError: no layer; a name that is none, with the nearest; arguments that are no literals
            or that the layer does not take; a layer that does not take such images, or gives
            others than of this shape.

    Example:

    >>> augmentation = Augmentation("RandomFlip, random_rotation(0.1)", (8, 8, 1), classes=10)
    >>> images, labels = np.ones((2, 8, 8, 1), "uint8"), np.array([3, 4])
    >>> images, labels = augmentation(images, labels, number=0)
    >>> images.shape, str(images.dtype), labels
    ((2, 8, 8, 1), 'float32', array([3, 4]))
    """

    def __init__(
        self,
        layers: str | Sequence[keras.layers.Layer],
        input_shape: tuple[int, int, int],
        classes: int,
        seed: int = 0,
    ) -> None:
        self.input_shape = checks.shape("input_shape", input_shape)
        if len(self.input_shape) != 3 or None in self.input_shape:
            raise ValueError(
                "`input_shape` must be (height, width, channels), all known. "
                f"Received: input_shape={input_shape}. Give images of one size."
            )
        self.classes = checks.positive_integer("classes", classes)
        self.seed = checks.integer("seed", seed, "from 0 to 2**32 - 1", below=2**32)
        with _alone():
            self.layers = _parsed(layers) if isinstance(layers, str) else _given(layers)
            mixing = (keras.layers.MixUp, keras.layers.CutMix)
            self.mixes_labels = any(isinstance(layer, mixing) for layer in self.layers)
            self._try()
            # Each layer's, and those of the layers in it.
            inner = [x for layer in self.layers for x in (layer, *layer._flatten_layers())]
            found = [getattr(layer, "generator", None) for layer in inner]
            self._generators = list({id(x): x for x in found if x is not None}.values())

    def __call__(
        self, images: hints.ArrayLike, labels: hints.ArrayLike, number: int, part: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns a changed batch.

        Args:
            images: array `(n, height, width, channels)`, of 0 to 255.
            labels: int array `(n,)`.
            number: int. The batch's, counted from the first one of the run.
            part: int, default 0. Which host's part of that batch it is.

        Returns:
            Float32 array of the images' shape, and the labels as they were, or where they are mixed
            a float32 array `(n, classes)`.
        """
        draw = np.random.default_rng((self.seed, int(number), part))
        labels = np.asarray(labels)
        if self.mixes_labels:
            labels = self.one_hot(labels)
        batch = np.asarray(images, "float32")
        before = random.getstate()
        # Keras' AugMix chooses by Python's own generator.
        random.seed(int(draw.integers(2**31)))
        try:
            return self._drawn(draw, batch, labels)
        finally:
            random.setstate(before)

    def _drawn(self, draw, batch, labels):
        with _alone():
            for generator in self._generators:
                state = [draw.integers(2**31), 0]
                generator.state.assign(np.array(state, generator.state.dtype))
            for layer in self.layers:
                batch, labels = _changed(layer, batch, labels)
        return batch, labels

    def one_hot(self, labels: hints.ArrayLike) -> np.ndarray:
        """Returns int labels as a float32 array `(n, classes)`."""
        return np.eye(self.classes, dtype="float32")[np.asarray(labels)]

    def pipeline(self, batches: "tf.data.Dataset", first: int) -> "tf.data.Dataset":
        """Returns a changed `tf.data.Dataset`.

        Args:
            batches: `tf.data.Dataset` of (images, labels), full batches.
            first: int. The number of its first batch.
        """
        import tensorflow as tf

        # One batch after another: a layer's state is one.
        def changed(number, batch):
            images, labels = batch
            kind = tf.float32 if self.mixes_labels else labels.dtype
            given = [images, labels, number]
            images, labels = tf.numpy_function(self, given, [tf.float32, kind])
            images.set_shape((batch[0].shape[0], *self.input_shape))
            end = (self.classes,) if self.mixes_labels else ()
            labels.set_shape((batch[1].shape[0], *end))
            return images, labels

        numbers = tf.data.Dataset.counter(first)
        changes = tf.data.Dataset.zip(numbers, batches).map(changed)
        return changes.prefetch(tf.data.AUTOTUNE)

    def batches(
        self, batches: keras.utils.PyDataset, initial_epoch: int, part: int = 0
    ) -> keras.utils.PyDataset:
        """Returns a changed `keras.utils.PyDataset`.

        Args:
            batches: `keras.utils.PyDataset` of (images, labels).
            initial_epoch: int. The epoch that its first pass is.
            part: int, default 0. Which host's part of the batches it gives.
        """
        return _Batches(self, batches, initial_epoch, part)

    def validation(
        self, batches: "tf.data.Dataset | keras.utils.PyDataset"
    ) -> "tf.data.Dataset | keras.utils.PyDataset":
        """Returns batches to validate on: unchanged, with labels as the changed ones have.

        Args:
            batches: `tf.data.Dataset` or `keras.utils.PyDataset` of (images, labels), or (images,
                labels, weights).
        """
        if not self.mixes_labels:
            return batches
        if isinstance(batches, keras.utils.PyDataset):
            return _OneHot(self, batches)
        import tensorflow as tf

        return batches.map(lambda x, y, *w: (x, tf.one_hot(y, self.classes), *w))

    def _try(self):
        shape = (2, *self.input_shape)
        for layer in self.layers:
            # Neither zero nor the same everywhere, as equalization would divide by its range.
            images = np.linspace(0, 255, int(np.prod(shape)), dtype="float32").reshape(shape)
            labels = self.one_hot([0, self.classes - 1])
            try:
                images, _ = _changed(layer, images, labels)
                if images.shape != shape:
                    raise ValueError(f"it makes images of {images.shape[1:]}")
                if not np.isfinite(images).all():
                    raise ValueError("it gives a NaN or an infinity")
            # Keras and the backends raise many kinds.
            except Exception as error:
                raise ValueError(
                    "Each layer of an augmentation must take the dataset's images, and give as "
                    f"many of the same size. Received: {type(layer).__name__} for images of "
                    f"{self.input_shape} ({str(error).splitlines()[0]}). Leave it out, or give it "
                    "other arguments."
                ) from error


class _Batches(keras.utils.PyDataset):
    def __init__(self, augmentation, batches, initial_epoch, part):
        super().__init__()
        self._augmentation = augmentation
        self._batches = batches
        self._epoch = initial_epoch
        self._part = part

    def __len__(self):
        return len(self._batches)

    def __getitem__(self, index):
        images, labels = self._batches[index]
        number = self._epoch * len(self) + index
        return self._augmentation(images, labels, number, self._part)

    def on_epoch_end(self):
        self._batches.on_epoch_end()
        self._epoch += 1


class _OneHot(keras.utils.PyDataset):
    def __init__(self, augmentation, batches):
        super().__init__()
        self._augmentation = augmentation
        self._batches = batches

    def __len__(self):
        return len(self._batches)

    def __getitem__(self, index):
        images, labels, *weights = self._batches[index]
        return images, self._augmentation.one_hot(labels), *weights


@contextlib.contextmanager
def _alone():
    """On this process' CPU, whatever devices train."""
    distribution = keras.distribution.distribution()
    if distribution is not None:
        keras.distribution.set_distribution(None)
    try:
        with on_cpu():
            yield
    finally:
        if distribution is not None:
            keras.distribution.set_distribution(distribution)


def _changed(layer, images, labels):
    if labels.ndim == 1:
        return _array(layer(images, training=True)), labels
    # Those that mix labels take them as well; of the others not all do.
    if not isinstance(layer, (keras.layers.MixUp, keras.layers.CutMix)):
        return _array(layer(images, training=True)), labels
    found = layer({"images": images, "labels": labels}, training=True)
    return _array(found["images"]), _array(found["labels"])


def _array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def _given(layers):
    layers = checks.listed("layers", layers)
    for layer in layers:
        if not hasattr(layer, "get_random_transformation"):
            raise TypeError(
                "`layers` must be layers of Keras that transform images, or a str that names them. "
                f"Received: {layer!r}"
            )
    if not layers:
        raise ValueError("`layers` must have at least one. Received: layers=[]")
    return layers


def _parsed(text):
    """Returns the layers that a str names."""
    try:
        tree = ast.parse(f"({text.strip()},)", mode="eval").body
        items = tree.elts
        calls = [
            (item.func, item) if isinstance(item, ast.Call) else (item, None) for item in items
        ]
        if not calls or not all(isinstance(name, ast.Name) for name, _ in calls):
            raise ValueError("it is no list of names")
        given = [
            (
                name.id,
                [ast.literal_eval(value) for value in (call.args if call else [])],
                {x.arg: ast.literal_eval(x.value) for x in (call.keywords if call else [])},
            )
            for name, call in calls
        ]
    except (SyntaxError, ValueError, TypeError, AttributeError, RecursionError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else error
        raise ValueError(
            "An augmentation must name layers of `keras.layers`, with commas between, each alone "
            f"or called with plain values. Received: {text!r} ({reason}). "
            "Write e.g. \"RandomFlip('horizontal'), RandomRotation(0.1)\"."
        ) from error
    return [_named(*item) for item in given]


def _named(name, arguments, keywords):
    known = {x.lower(): x for x in _layers()}
    plain = name.replace("_", "").lower()
    if plain not in known:
        # Of most the name begins so.
        tried = [plain, f"random{plain}"]
        close = [x for text in tried for x in difflib.get_close_matches(text, known, 3, 0.7)]
        nearest = [known[x] for x in dict.fromkeys(close)] or sorted(known.values())
        raise ValueError(
            "An augmentation must name layers of `keras.layers` that transform images. "
            f"Received: {name!r}. Did you mean {', '.join(nearest)}?"
        )
    kind = _layers()[known[plain]]
    try:
        # Not half precision, which Keras' policy may say: images are of 0 to 255.
        layer = kind(*arguments, **{"dtype": "float32", **keywords})
        # Keras looks at it late, and takes an unknown one for none.
        if getattr(layer, "mode", _FLIPS[0]) not in _FLIPS:
            raise ValueError(f"`mode` must be one of {', '.join(_FLIPS)}")
        return layer
    # Layers raise many kinds over their arguments.
    except Exception as error:
        raise ValueError(
            f"An augmentation's layers must get what they take. Received: {known[plain]} with "
            f"{[*arguments, *(f'{key}={value!r}' for key, value in keywords.items())]} "
            f"({str(error).splitlines()[0]})"
        ) from error
