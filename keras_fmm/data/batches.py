"""Batches of arrays whose order in epoch e follows from the seed and e alone; no TensorFlow."""

import keras
import numpy as np


class Batches(keras.utils.PyDataset):
    """Batches of a split for `model.fit`; see `ImageDataset.batches`.

    Args:
        source: `ArraySource` or `ImageFileSource`.
        indices: int64 array `(n,)`, of the examples of the split.
        batch_size: int.
        steps: int, how many batches one pass has.
        image_size: None, or (height, width), to which images are resized.
        seed: int, or None for the stored order.
        initial_epoch: int, the epoch it begins with.
        share: pair of int, which part of each batch, and of how many.
        multiple: int, what a batch is filled up to a multiple of.
    """

    def __init__(
        self, source, indices, batch_size, steps, image_size, seed, initial_epoch, share, multiple
    ):
        super().__init__()
        self._source = source
        self._indices = self._order = indices
        self._batch_size = batch_size
        self._steps = steps
        self._image_size = image_size
        self._seed = seed
        self._epoch = initial_epoch
        self._share = share
        # All examples, and those that fill up.
        self._size = min(steps * batch_size, len(indices))
        self._filled = self._size + -self._size % multiple
        self._shuffle()

    def __len__(self):
        return self._steps

    def __getitem__(self, index):
        rows, chosen = self._chosen(index)
        chunks = list(self._source.chunks(chosen, self._image_size))
        if index + 1 < self._steps:
            self._source.begin(self._chosen(index + 1)[1], self._image_size)
        images, labels = (np.concatenate(some) for some in zip(*chunks, strict=True))
        if self._filled == self._size:
            return images, labels
        # Keras divides a batch's loss by its length, fillings included, and then averages by it.
        weight = self._filled / self._size
        return images, labels, np.where(rows < self._size, weight, 0).astype("float32")

    def _chosen(self, index):
        """Returns which rows of the epoch a batch has, and which examples they are."""
        start = index * self._batch_size
        stop = min(start + self._batch_size, self._filled)
        part, parts = self._share
        first = start + (stop - start) * part // parts
        last = start + (stop - start) * (part + 1) // parts
        rows = np.arange(first, last)
        # What fills up is the last example once more, which then does not count.
        return rows, self._order[np.minimum(rows, self._size - 1)]

    def on_epoch_end(self):
        self._epoch += 1
        self._shuffle()

    def _shuffle(self):
        if self._seed is not None:
            generator = np.random.default_rng((self._seed, self._epoch))
            self._order = generator.permutation(self._indices)
