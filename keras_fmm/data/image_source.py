"""Examples in image files, read by several threads as they are needed."""

import concurrent.futures
import functools
import os
import pathlib
import weakref
import zlib

import numpy as np

from keras_fmm.data import image_files
from keras_fmm.data.tfrecords import IN_MEMORY_BYTES

_CHUNK = 32


class ImageFileSource:
    """Image files and their labels, in a stored order; see `ArraySource`.

    What was read in a size stays in memory, as far as `IN_MEMORY_BYTES` reach: the first images of
    the stored order. Those of another size take their place.

    Args:
        paths: list of str.
        labels: int32 array `(n,)`.
        channels: 1 or 3.
        fit: None, "crop" or "pad", as of `image_files.decoded`.
        image_size: (height, width), to which images are resized where no other size is asked for;
            None: as they are.
    """

    is_indexed = True
    dtype = "float32"

    def __init__(self, paths, labels, channels, fit=None, image_size=None):
        self.paths = paths
        self.labels = labels
        self.size = self.shuffle_buffer = len(paths)
        self.image_size = image_size
        self._channels = channels
        self._fit = fit
        self._kept = _Kept(0, (0, 0), channels)
        self._ahead = {}

    def resident(self):
        return self

    def look(self, progress):
        """Reads every file once, and says what it is.

        Args:
            progress: function, called with 1 after each file.

        Returns:
            List, by file: a pair of the height and width of the image and the checksum of the
            file, or a str that says why it cannot be read.
        """
        found = []
        for start in range(0, self.size, _CHUNK):
            for one in pool().map(self._look, range(start, min(start + _CHUNK, self.size))):
                found.append(one)
                progress(1)
        return found

    def _look(self, index):
        path = pathlib.Path(self.paths[index])
        # For the smallest picture, too, all bytes of a JPEG are looked at.
        size = self.image_size or (1, 1)
        try:
            if not path.is_file():
                return "it is a link to nothing" if path.is_symlink() else "it is no file"
            if path.stat().st_size == 0:
                return "it is empty"
            with open(path, "rb") as file:
                image, whole = image_files.decoded(file, self._channels, size, self._fit)
                file.seek(0)
                checksum = functools.reduce(
                    lambda sum, part: zlib.crc32(part, sum), iter(lambda: file.read(2**20), b""), 0
                )
        except OSError as error:
            return error.strerror or image_files.reason(error)
        # Pillow raises whatever the bytes of a damaged file lead its readers to.
        except Exception as error:
            return image_files.reason(error)
        if self.image_size is not None:
            self._kept_in(size).put(index, image)
        return whole, checksum

    def chunks(self, indices, image_size=None):
        # Images of several sizes come one by one.
        length = 1 if (image_size or self.image_size) is None else _CHUNK
        for start in range(0, len(indices), length):
            found = self._read(indices[start : start + length], image_size)
            self.begin(indices[start + length : start + 2 * length], image_size)
            yield found

    def begin(self, indices, image_size=None):
        """Has threads read the images at `indices` ahead of time; those of the last call only."""
        keys = [(int(index), image_size or self.image_size) for index in indices]
        self._ahead = {key: self._reading(*key) for key in keys}

    def _reading(self, index, size):
        """Returns the future of an image."""
        return self._ahead.get((index, size)) or pool().submit(self._image, index, size)

    def _read(self, indices, image_size):
        size = image_size or self.image_size
        waiting = {index: self._reading(index, size) for index in map(int, indices)}
        return np.stack([waiting[int(i)].result() for i in indices]), self.labels[indices]

    def _image(self, index, size):
        kept = self._kept_in(size)
        image = kept.get(index)
        if image is None:
            image = image_files.read(self.paths[index], self._channels, size, self._fit)
            kept.put(index, image)
        return image

    def _kept_in(self, size):
        if size is not None and self._kept.size != size:
            bytes_each = 2 * size[0] * size[1] * self._channels
            count = min(self.size, IN_MEMORY_BYTES // bytes_each)
            self._kept = _Kept(count, size, self._channels)
        return self._kept if size is not None else _Kept(0, (0, 0), self._channels)

    def items(self, indices):
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices(indices)

    def batches(self, items, batch_size, drop_remainder=False, image_size=None):
        import tensorflow as tf

        from keras_fmm.data import pipelines

        size = image_size or self.image_size
        _SOURCES[id(self)] = self

        def example(indices):
            images, labels = _traced()(tf.constant(id(self), tf.int64), indices, tf.constant(size))
            images.set_shape((*indices.shape, *size, self._channels))
            labels.set_shape(indices.shape)
            return images, labels

        return pipelines.examples(items.batch(batch_size, drop_remainder), example)


class _Kept:
    """The first `count` images in a size, as far as they were read."""

    def __init__(self, count, size, channels):
        self.size = size
        # Memory is taken where it is written.
        self._images = np.empty((count, *size, channels), "uint16")
        self._is_here = np.zeros(count, bool)

    def get(self, index):
        if index < len(self._is_here) and self._is_here[index]:
            return image_files.unpacked(self._images[index])
        return None

    def put(self, index, image):
        if index < len(self._is_here):
            self._images[index] = image_files.packed(image)
            self._is_here[index] = True


# By their `id`; whoever reads from one of them must hold it.
_SOURCES = weakref.WeakValueDictionary()


@functools.cache
def _traced():
    """Returns the function of TensorFlow's that reads from a source.

    There is one for all: TensorFlow keeps what `tf.numpy_function` is given as long as the process
    lives.
    """
    import tensorflow as tf

    def read(key, indices, size):
        return _SOURCES[int(key)]._read(indices, tuple(map(int, size)))

    @tf.function(
        input_signature=[
            tf.TensorSpec((), tf.int64),
            tf.TensorSpec((None,), tf.int64),
            tf.TensorSpec((2,), tf.int32),
        ],
        autograph=False,
    )
    def traced(key, indices, size):
        return tf.numpy_function(read, [key, indices, size], (tf.float32, tf.int32))

    return traced


@functools.cache
def pool():
    """Returns the threads that read; Pillow decodes and resizes outside of Python's lock."""
    from PIL import Image

    # Pillow loads its rarer formats at the first file that needs one; of two threads that come to
    # this together, one would not know its file.
    Image.init()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return concurrent.futures.ThreadPoolExecutor(cores or 1, "keras_fmm_images")
