"""Batches for a detector that takes its targets as an input."""

import keras

from keras_fmm import checks


class ObjectsAsInput(keras.utils.PyDataset):
    """Batches of which the targets are an input, for `FasterRCNN`, in the order of others.

    Args:
        batches: `keras.utils.PyDataset` of (images, targets), such as `BoxDataset.batches` gives.
            Where it has weights, for a last batch that had to be filled up, that is refused.

    Returns:
        Of each batch ((images, targets),).

    Raises:
        TypeError: `batches` is no `keras.utils.PyDataset`.
        ValueError: a batch has weights, which the losses inside a model do not see.

    Example:

    >>> from keras_fmm import data
    >>> batches = data.load_boxes("digits_on_canvas").batches("train", 4)
    >>> ((images, targets),) = ObjectsAsInput(batches)[0]
    >>> images.shape, targets.shape
    ((4, 96, 96, 1), (4, 5, 5))
    """

    def __init__(self, batches):
        self.batches = checks.instance("batches", batches, keras.utils.PyDataset)
        super().__init__()

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        images, targets, *weights = self.batches[index]
        if weights:
            raise ValueError(
                "`batches` must have no weights, which the losses inside a model do not see. "
                "Received: batches that are filled up. Give `drop_remainder=True`."
            )
        return ((images, targets),)

    def on_epoch_begin(self):
        self.batches.on_epoch_begin()

    def on_epoch_end(self):
        self.batches.on_epoch_end()
