"""Examples in the record files of tensorflow-datasets, read as a stream or held in memory."""

import functools
import math
import os
import re

import numpy as np

from keras_fmm.data.arrays import ArraySource

# Decoded splits up to this size are held in memory: all of CIFAR, MNIST and STL-10's labelled part.
IN_MEMORY_BYTES = 2**30
SHUFFLE_BUFFER = 10_000


class RecordSource:
    """One split of a prepared tensorflow-datasets dataset, in stored order; see `ArraySource`.

    Args:
        builder: `tfds.core.DatasetBuilder`, prepared; its supervised keys are an image and a class.
        split: str, the name of a split of `builder`.

    Raises:
        OSError: a file of the split is missing or too short.
    """

    shuffle_buffer = SHUFFLE_BUFFER
    is_indexed = False
    dtype = "uint8"

    def __init__(self, builder, split):
        info = builder.info.splits[split]
        self.size = info.num_examples
        self._builder = builder
        self._split = split
        self._image, self._label = builder.info.supervised_keys
        self._shape = builder.info.features[self._image].shape
        check_files(builder, split)

    def resident(self):
        if None in self._shape or self.size * math.prod(self._shape) > IN_MEMORY_BYTES:
            return self
        return self._in_memory

    @functools.cached_property
    def _in_memory(self):
        return ArraySource(*collect(self, np.arange(self.size), self._shape))

    def chunks(self, indices, image_size=None):
        import tensorflow as tf

        size = 256 if image_size is not None or None not in self._shape else 1
        batches = self.batches(self.items(indices), size, image_size=image_size)
        done = 0
        try:
            for batch in batches.as_numpy_iterator():
                yield batch
                done += len(batch[1])
        except tf.errors.OpError as error:
            where = self._first_broken(indices[done : done + size], indices, done)
            raise damaged(self._builder, where + reason(error)) from error

    def _first_broken(self, numbers, indices, start):
        """Says which of some records has an image that cannot be decoded, "" where none has."""
        import tensorflow as tf

        decode = self._builder.info.features[self._image].decode_example
        try:
            for number, (image, _) in zip(numbers, self.items(indices).skip(start), strict=False):
                try:
                    decode(image)
                # Of another size it is a ValueError.
                except (tf.errors.OpError, ValueError):
                    info = self._builder.info.splits[self._split]
                    shard = np.searchsorted(np.cumsum(info.shard_lengths), number, side="right")
                    return f"image {number} of {self._split}, in {info.filepaths[shard].name}: "
        except tf.errors.OpError:
            # The records themselves cannot be read.
            pass
        return ""

    def items(self, indices):
        import tensorflow as tf
        import tensorflow_datasets as tfds

        records = self._builder.as_dataset(
            split=self._split,
            shuffle_files=False,
            decoders={self._image: tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        )
        pairs = records.map(lambda record: (record[self._image], record[self._label]))
        if len(indices) == self.size:
            return pairs
        wanted = np.zeros(self.size, bool)
        wanted[indices] = True
        with tf.device("CPU:0"):
            wanted = tf.constant(wanted)
        return pairs.enumerate().filter(lambda i, _: wanted[i]).map(lambda _, pair: pair)

    def batches(self, items, batch_size, drop_remainder=False, image_size=None):
        import tensorflow as tf

        from keras_fmm.data import pipelines

        features = self._builder.info.features
        decode, classes = features[self._image].decode_example, features[self._label].num_classes

        def read(image, label):
            # Before the cast, which makes 0 of 2**32.
            is_class = tf.logical_and(label >= 0, label < classes)
            told = ["a label must be of the classes 0 to", classes - 1, "and is", label]
            with tf.control_dependencies([tf.debugging.Assert(is_class, told)]):
                return decode(image), tf.cast(label, "int32")

        return pipelines.examples(items, read, image_size).batch(batch_size, drop_remainder)


def check_files(builder, split):
    """Raises OSError where a file of a split is missing or too short."""
    info = builder.info.splits[split]
    missing = [path.name for path in info.filepaths if not path.exists()]
    if missing:
        raise damaged(builder, f"it lacks {missing[0]}")
    # The files hold the examples and a few bytes more for each.
    size = sum(os.path.getsize(path) for path in info.filepaths)
    if builder.info.file_format.value == "tfrecord" and size < info.num_bytes:
        raise damaged(builder, f"its {split} files have {size} bytes of {int(info.num_bytes)}")


def collect(source, indices, shape, image_size=None):
    """Returns the examples of `source` at `indices` as two arrays (images, labels).

    Args:
        source: `ArraySource`, `ImageFileSource` or `RecordSource`.
        indices: int64 array `(n,)`, increasing.
        shape: tuple, (height, width, channels) of each image that `source` gives.
        image_size: None, or (height, width), to which the images are resized.
    """
    dtype = source.dtype if image_size is None else "float32"
    images = np.empty((len(indices), *shape), dtype)
    labels = np.empty(len(indices), "int32")
    start = 0
    for some_images, some_labels in source.chunks(indices, image_size):
        stop = start + len(some_labels)
        images[start:stop] = some_images
        labels[start:stop] = some_labels
        start = stop
    return images, labels


def reason(error):
    """Returns what a TensorFlow error says, without where in which graph it happened."""
    text = re.sub(
        r"\{\{function_node.*?\}\}|Error in user-defined function .*?: ", "", error.message
    )
    text = re.sub(r"^.*Iterator::\S+ ", "", text.partition("[[")[0].partition("[Op:")[0])
    return " ".join(text.split()).rstrip(".") or type(error).__name__


def damaged(builder, reason):
    """Returns the error to raise where the folder of `builder` cannot be read."""
    return OSError(
        f"The dataset {builder.name!r} in {builder.data_dir} is damaged: {reason}. "
        "Delete that folder and load the dataset again, which prepares it anew."
    )
