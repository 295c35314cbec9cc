"""Examples held in memory, and the digits that come with scikit-learn."""

import functools

import keras
import numpy as np

from keras_fmm import checks


class ArraySource:
    """Images and labels in memory, in a stored order.

    A source gives its examples at some indices two ways: `chunks` for NumPy, and for tf.data
    `items`, in the form that is cheap to shuffle, of which `batches` makes examples.

    Args:
        images: uint8 array `(n, height, width, channels)`.
        labels: int32 array `(n,)`.

    Attributes:
        size: int, how many examples there are.
        shuffle_buffer: int, how many items are shuffled at once.
        is_indexed: bool, whether `chunks` takes indices in any order, also one twice, and `begin`
            is there.
        dtype: str, of the images where they are not resized.
    """

    is_indexed = True
    dtype = "uint8"

    def __init__(self, images, labels):
        self.images = images
        self.labels = labels
        self.size = len(images)
        self.shuffle_buffer = self.size

    def resident(self):
        """Returns this source held in memory if it is small enough, else the source itself."""
        return self

    def begin(self, indices, image_size=None):
        """Is told what `chunks` is called with soon."""

    def chunks(self, indices, image_size=None):
        """Yields the examples at `indices` as NumPy pairs (images, labels) of some length each."""
        for start in range(0, len(indices), 1024):
            part = indices[start : start + 1024]
            images = self.images[part]
            if image_size is not None:
                images = resize(images, image_size)
            yield images, self.labels[part]

    def items(self, indices):
        """Returns a `tf.data.Dataset` of the items at `indices`, to shuffle and to batch."""
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices(indices)

    def batches(self, items, batch_size, drop_remainder=False, image_size=None):
        """Returns a `tf.data.Dataset` of batches (images, labels) of the examples of `items`."""
        import tensorflow as tf

        from keras_fmm.data import pipelines

        def read(indices):
            return tuple(tf.gather(tensor, indices) for tensor in self._tensors)

        return pipelines.examples(items.batch(batch_size, drop_remainder), read, image_size)

    @functools.cached_property
    def _tensors(self):
        import tensorflow as tf

        with tf.init_scope(), tf.device("CPU:0"):  # eager even where a graph is being traced
            return tf.constant(self.images), tf.constant(self.labels)


def resize(images, image_size):
    """Returns float32 images in the same range, resized bilinearly with antialiasing."""
    images = keras.ops.image.resize(
        images.astype("float32"), image_size, antialias=True, data_format="channels_last"
    )
    return keras.ops.convert_to_numpy(images)


def digits():
    """Returns the 1,797 scanned digits of scikit-learn, 8x8, 17 grey levels spread over 0..255.

    Returns:
        `ArraySource`, and the class names.
    """
    datasets = checks.package("sklearn.datasets", "The dataset 'digits'", "data").load_digits()
    images = np.rint(datasets.images[..., np.newaxis] * (255 / 16)).astype("uint8")
    return ArraySource(images, datasets.target.astype("int32")), tuple("0123456789")
