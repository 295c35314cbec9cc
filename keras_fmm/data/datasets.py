"""A dataset of labelled images, divided into train, validation and test."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_fmm import checks
from keras_fmm.data import arguments, splits
from keras_fmm.data.arrays import ArraySource
from keras_fmm.data.batches import Batches
from keras_fmm.data.tfrecords import collect

if TYPE_CHECKING:
    import tensorflow as tf


class ImageDataset:
    """Labelled images in three splits; `load`, `load_folder` and `load_arrays` make it.

    The splits are disjoint. `arrays` and `pipeline` give the same examples for the same split,
    and without shuffling in the same order.

    Args:
        name: str. The dataset's name, for messages.
        input_shape: tuple of 3. Height, width and channels of one image; height and width are
            None where the images differ in size.
        class_names: list or tuple of str. Label i is the class of name i.
        parts: dict. By split, each of the three, a pair of a source of examples and the indices of
            those in the split.
        identity: dict that JSON can hold, default None. What else makes it this dataset.
        left_out: list or tuple of str, default (). Files that were asked to be left out.

    Attributes:
        name: str. As given.
        input_shape: tuple of 3. As given.
        class_names: tuple of str. As given.
        classes: int. How many classes there are.
        sizes: dict. The number of examples by split: "train", "validation" and "test".
        identity: dict. Of `load_folder`: "class_names", "files" (how many, and a checksum of their
            names, labels and contents) and how they are read. A run whose `config` holds it is not
            gone on with when the files have changed. Of `subset` "subset". Else empty: there the
            name says it.
        left_out: tuple of str. As given.

    Raises:
        TypeError: an argument is of no type that fits.
        ValueError: `input_shape` is not of three sizes, at least 1, with the channels known, or
            `parts` has not the three splits.

    Example:

    >>> from keras_fmm import data
    >>> dataset = data.load("digits")
    >>> dataset
    ImageDataset('digits', input_shape=(8, 8, 1), classes=10, train=1294, validation=144, test=359)
    >>> images, labels = dataset.arrays("test")
    >>> images.shape, str(images.dtype), str(labels.dtype)
    ((359, 8, 8, 1), 'uint8', 'int32')
    """

    def __init__(
        self,
        name: str,
        input_shape: tuple[int | None, ...],
        class_names: Sequence[str],
        parts: Mapping,
        identity: Mapping | None = None,
        left_out: Sequence[str] = (),
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f"`name` must be a str. Received: name={name!r}")
        self.name = name
        self.input_shape = checks.shape("input_shape", input_shape)
        if len(self.input_shape) != 3 or self.input_shape[2] is None:
            raise ValueError(
                "`input_shape` must be (height, width, channels), with the channels known. "
                f"Received: input_shape={self.input_shape}"
            )
        self.class_names = tuple(checks.listed("class_names", class_names, str))
        self.classes = len(self.class_names)
        self._parts = checks.mapping("parts", parts)
        for split in splits.NAMES:
            if not isinstance(parts.get(split), (list, tuple)) or len(parts[split]) != 2:
                raise ValueError(
                    f"`parts` must have a pair of a source and indices for each of {splits.NAMES}. "
                    f"Received: {parts.get(split)!r} for {split!r}"
                )
        self.sizes = {split: len(parts[split][1]) for split in splits.NAMES}
        self.identity = dict(checks.mapping("identity", {} if identity is None else identity))
        self.left_out = tuple(checks.listed("left_out", left_out, str))

    def __repr__(self):
        sizes = ", ".join(f"{split}={size}" for split, size in self.sizes.items())
        return (
            f"ImageDataset({self.name!r}, input_shape={self.input_shape}, "
            f"classes={self.classes}, {sizes})"
        )

    def arrays(
        self,
        split: str,
        image_size: tuple[int, int] | None = None,
        at: np.ndarray | Sequence[int] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the examples of a split in memory.

        Args:
            split: str. "train", "validation" or "test".
            image_size: pair of int, default None. Height and width to resize the images to, at most
                16,384, bilinearly with antialiasing. It must be given where the images differ in
                size.
            at: array or list of int, default None (all). Which of the split, from 0 on, each once.

        Returns:
            Images and labels. The images are an array `(n, height, width, channels)`, uint8 in
            0..255 as stored, or float32 in the same range where `image_size` is given or the
            images are those of `load_folder`. The labels are an int32 array `(n,)`, each at least 0
            and below `classes`.

        Raises:
            TypeError: `image_size` or `at` is of no type that fits.
            ValueError: an unknown split; images of different sizes and no `image_size`; in `at` a
                number that is not in the split, or one twice.
            OSError: the stored files are damaged.
        """
        source, indices = self._part(split)
        size = arguments.image_size(image_size, self)
        shape = self.input_shape if size is None else (*size, self.input_shape[2])
        if at is None:
            return collect(source.resident(), indices, shape, size)
        at = arguments.positions("at", at, len(indices))
        order = np.argsort(at)
        images, labels = collect(source.resident(), indices[at[order]], shape, size)
        back = np.argsort(order)
        return images[back], labels[back]

    def subset(
        self,
        train: int | None = None,
        validation: int | None = None,
        test: int | None = None,
        seed: int = 0,
    ) -> "ImageDataset":
        """Returns the dataset of at most so many examples of a split, of each class its share.

        To try something in a fraction of the time. The examples that are kept follow from the
        split, their number and `seed`, the same on every machine, and stay in stored order; nothing
        is copied. Of a dataset of tensorflow-datasets that is not held in memory all images of a
        split are decoded once, to know its labels.

        Args:
            train, validation, test: int, at least 1, default None (all). How many of the split to
                keep; all where it has no more.
            seed: int from 0 to `2**32 - 1`, default 0. Which are kept.

        Returns:
            `ImageDataset`. Where a split has become smaller, its `identity` has "subset": a list of
            dicts, one for each such call, of sizes and seed.

        Raises:
            TypeError: an argument is no int.
            ValueError: an argument is out of range.

        Example:

        >>> from keras_fmm import data
        >>> data.load("digits").subset(train=100, validation=50).sizes
        {'train': 100, 'validation': 50, 'test': 359}
        """
        seed = arguments.seed(seed)
        parts = {}
        for split, size in {"train": train, "validation": validation, "test": test}.items():
            source, indices = self._part(split)
            if size is not None:
                size = checks.positive_integer(split, size)
                if size < len(indices):
                    every = np.arange(len(indices))
                    fraction = size / len(indices)
                    kept = splits.cut(every, fraction, seed, self.labels(split))[1]
                    indices = np.asarray(indices)[kept]
            parts[split] = (source, indices)
        sizes = {split: len(indices) for split, (_, indices) in parts.items()}
        identity = self.identity
        if sizes != self.sizes:
            before = identity.get("subset", [])
            identity = {**identity, "subset": [*before, {**sizes, "seed": seed}]}
        return ImageDataset(
            self.name, self.input_shape, self.class_names, parts, identity, self.left_out
        )

    def labels(self, split: str) -> np.ndarray:
        """Returns the labels of a split in stored order, an int32 array `(n,)`.

        Of `load_folder` and of arrays no image is read for them.

        Args:
            split: str. "train", "validation" or "test".

        Example:

        >>> from keras_fmm import data
        >>> data.load("digits").labels("test").shape
        (359,)
        """
        source, indices = self._part(split)
        if hasattr(source, "labels"):
            return source.labels[indices]
        labels = [some for _, some in source.resident().chunks(indices)]
        return np.concatenate([np.empty(0, "int32"), *labels])

    def file_paths(self, split: str) -> list[str] | None:
        """Returns the image files of a split in stored order, or None where it has no files.

        Args:
            split: str. "train", "validation" or "test".
        """
        source, indices = self._part(split)
        paths = getattr(source, "paths", None)
        return None if paths is None else [paths[index] for index in indices]

    def chunks(
        self, split: str, image_size: tuple[int, int] | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the examples of a split as (images, labels), NumPy arrays of some length each.

        For statistics over a split that may not fit in memory. Images of different sizes come
        one at a time.

        Args:
            split: str. "train", "validation" or "test".
            image_size: pair of int, default None. As of `arrays`, but not needed where images
                differ in size.
        """
        source, indices = self._part(split)
        if image_size is not None:
            image_size = arguments.image_size(image_size, self)
        yield from source.resident().chunks(indices, image_size)

    def steps(self, split: str, batch_size: int, drop_remainder: bool = False) -> int:
        """Returns how many batches one pass over a split has.

        Args:
            split: str. "train", "validation" or "test".
            batch_size: int, at least 1. Examples in a batch.
            drop_remainder: bool, default False. Whether a last batch that is not full is left out.

        Example:

        >>> from keras_fmm import data
        >>> data.load("digits").steps("train", 100)
        13
        """
        drop_remainder = checks.flag("drop_remainder", drop_remainder)
        self._part(split)
        return steps_of(self, split, batch_size, drop_remainder)

    def pipeline(
        self,
        split: str,
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int = 0,
        initial_epoch: int = 0,
        epochs: int | None = None,
        drop_remainder: bool = False,
        image_size: tuple[int, int] | None = None,
    ) -> "tf.data.Dataset":
        """Returns a `tf.data.Dataset` of batches (images, labels), for `model.fit`.

        With `shuffle=False` it is one pass in stored order, for evaluation. Else it is the epochs
        `initial_epoch` to `epochs - 1` laid one after another, no batch in two epochs, so
        `model.fit` needs `steps_per_epoch`. The order of an epoch follows from `seed` and its
        number alone, not from what ran before: a run resumed at epoch k, with `initial_epoch=k`
        here and in `model.fit`, sees what it would have seen.

        Splits that take less than 1 GiB decoded are held in memory and shuffled wholly. Larger
        ones, and images of different sizes, are read from their files each epoch and shuffled
        through a buffer of 10,000 still encoded images (tensorflow-datasets has already stored
        most datasets in random order).

        Args:
            split: str. "train", "validation" or "test".
            batch_size: int, at least 1, default 32. Examples in a batch; under a `tf.distribute`
                strategy, of all replicas together, and then a multiple of their number (Keras'
                `fit` fails on another).
            shuffle: bool, default True. False gives one pass in stored order.
            seed: int from 0 to `2**32 - 1`, default 0. What the order follows from.
            initial_epoch: int, at least 0, default 0. The first epoch. Only with `shuffle`.
            epochs: int above `initial_epoch`, default None. The last epoch plus one; None is
                without end. Only with `shuffle`.
            drop_remainder: bool, default False. Whether a last batch that is not full is left out.
            image_size: pair of int, default None. As of `arrays`.

        Returns:
            `tf.data.Dataset` of known cardinality. Images `(batch, height, width, channels)` as of
            `arrays`, labels int32 `(batch,)`.

        Raises:
            ValueError: an unknown split or one without a batch; images of different sizes and no
                `image_size`; epochs without `shuffle`.
            ImportError: TensorFlow is absent.
            OSError: the stored files are damaged. Where they are not held in memory, TensorFlow
                raises `tf.errors.DataLossError` when it comes to a damaged record, and
                `tf.errors.InvalidArgumentError` at a damaged image. `arrays` names the record.

        Example:

        >>> from keras_fmm import data
        >>> dataset = data.load("digits")
        >>> train = dataset.pipeline("train", batch_size=100, shuffle=True, epochs=2)
        >>> train.cardinality().numpy() == 2 * dataset.steps("train", batch_size=100)
        np.True_
        """
        shuffle = checks.flag("shuffle", shuffle)
        drop_remainder = checks.flag("drop_remainder", drop_remainder)
        checks.package("tensorflow", "A pipeline", "tensorflow")
        from keras_fmm.data import pipelines

        source, indices = self._part(split)
        size = arguments.image_size(image_size, self)
        seed = arguments.seed(seed)
        steps = some_steps(self, split, batch_size, drop_remainder)
        _check_epochs(shuffle, initial_epoch, epochs)
        source = source.resident()
        items = source.items(indices)

        def batches(items):
            return source.batches(items, batch_size, drop_remainder, size)

        if not shuffle:
            found = pipelines.one_pass(items, batches, steps)
        else:
            found = pipelines.shuffled_epochs(
                items, batches, steps, source.shuffle_buffer, seed, initial_epoch, epochs
            )
        # TensorFlow's graphs hold no object of Python's that they read from.
        found._source = source
        return found

    def batches(
        self,
        split: str,
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int = 0,
        initial_epoch: int = 0,
        drop_remainder: bool = False,
        image_size: tuple[int, int] | None = None,
        share: tuple[int, int] = (0, 1),
        multiple: int = 1,
    ) -> Batches:
        """Returns a `keras.utils.PyDataset` of batches (images, labels), which needs NumPy alone.

        It is to `pipeline` as JAX and PyTorch are to TensorFlow: the order of an epoch follows from
        `seed` and its number alone (it is another one than `pipeline`'s), and each epoch of `fit`
        is one pass. Give `fit` `shuffle=False`: Keras would shuffle the batches once more, by
        Python's own generator, which no run restores and which differs from host to host. Keras
        ends an epoch before the first one of each `fit`, which therefore has the order of
        `initial_epoch + 1`. The split is held in memory, but for that of `load_folder`, whose files
        are read as they are needed.

        Where several hosts train together each takes a part of every batch, by `share`, which
        together are the batch of one host. Where devices share an evaluation, its last batch must
        be a `multiple` of their number: it is filled up with examples of weight 0, and all others
        have a weight, one and the same, at which `evaluate` gives the loss and the
        `weighted_metrics` (not the `metrics`) of the split as it is.

        Args:
            split: str. "train", "validation" or "test".
            batch_size: int, at least 1, default 32. Examples in a batch, of all hosts together.
            shuffle: bool, default True. False gives the stored order.
            seed: int from 0 to `2**32 - 1`, default 0. What the order follows from.
            initial_epoch: int, at least 0, default 0. The epoch that the first pass is. Only with
                `shuffle`.
            drop_remainder: bool, default False. Whether a last batch that is not full is left out.
            image_size: pair of int, default None. As of `arrays`.
            share: pair of int, default (0, 1). This host's number and how many hosts there are;
                the latter divides `multiple`, and with `drop_remainder` it may divide `batch_size`
                instead.
            multiple: int, at least 1, default 1. What the length of a batch is a multiple of; it
                divides `batch_size`.

        Returns:
            `keras.utils.PyDataset` of (images, labels) as of `arrays`, or of (images, labels,
            weights) where the last batch had to be filled up; weights are float32 `(batch,)`.

        Raises:
            TypeError: an argument is of no type that fits.
            ValueError: an unknown split or one without a batch; images of different sizes and no
                `image_size`; an initial epoch without `shuffle`; a share that is none, or that does
                not come out even.
            OSError: the stored files are damaged.

        Example:

        >>> from keras_fmm import data
        >>> whole = data.load("digits").batches("train", 64)[0]
        >>> second = data.load("digits").batches("train", 64, share=(1, 2), multiple=2)[0]
        >>> bool((whole[0][32:] == second[0]).all())
        True
        """
        shuffle = checks.flag("shuffle", shuffle)
        drop_remainder = checks.flag("drop_remainder", drop_remainder)
        source, indices = self._part(split)
        size = arguments.image_size(image_size, self)
        seed = arguments.seed(seed)
        steps = some_steps(self, split, batch_size, drop_remainder)
        _check_epochs(shuffle, initial_epoch, None)
        multiple = checks.positive_integer("multiple", multiple)
        checks.divides("multiple", multiple, batch_size, "the batch")
        share = arguments.share(share, batch_size if drop_remainder else multiple)
        source = source.resident()
        if not source.is_indexed:
            images, labels = self.arrays(split, image_size)
            source, indices, size = ArraySource(images, labels), np.arange(len(labels)), None
        return Batches(
            source,
            indices,
            batch_size,
            steps,
            size,
            seed if shuffle else None,
            initial_epoch,
            share,
            multiple,
        )

    def _part(self, split):
        return self._parts[checks.one_of("split", split, splits.NAMES)]


def steps_of(dataset, split, batch_size, drop_remainder):
    """Returns how many batches one pass over a split has."""
    batch_size = checks.positive_integer("batch_size", batch_size)
    size = dataset.sizes[split]
    return size // batch_size if drop_remainder else -(-size // batch_size)


def some_steps(dataset, split, batch_size, drop_remainder):
    """Returns what `steps_of` does, and raises where that is none."""
    steps = steps_of(dataset, split, batch_size, drop_remainder)
    if steps == 0:
        raise ValueError(
            f"The split {split!r} of {dataset.name!r} has no batch of this size. Received: "
            f"batch_size={batch_size}, drop_remainder={drop_remainder}, {dataset.sizes[split]} "
            "examples. Choose a smaller batch, or a larger `validation_fraction` of the dataset."
        )
    return steps


def _check_epochs(shuffle, initial_epoch, epochs):
    rule = "an integer from 0 to 2147483647"
    checks.integer("initial_epoch", initial_epoch, rule, below=checks.SIZES)
    if epochs is not None and checks.positive_integer("epochs", epochs) <= initial_epoch:
        raise ValueError(
            "`epochs` is the number of the last epoch plus one, as in `model.fit`, and must be "
            f"above `initial_epoch`. Received: initial_epoch={initial_epoch}, epochs={epochs}"
        )
    if not shuffle and (initial_epoch or epochs is not None):
        raise ValueError(
            "Without `shuffle` a pipeline is one pass, the same in every epoch. Received: "
            f"shuffle={shuffle}, initial_epoch={initial_epoch}, epochs={epochs}. "
            "Leave the epochs out, or set shuffle=True."
        )
