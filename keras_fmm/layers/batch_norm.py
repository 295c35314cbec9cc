"""Batch normalisation inside the attention layers."""

import keras
from keras import ops


class BatchNorm(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` that bears a batch without an image.

    A replica of `tf.distribute.MirroredStrategy` may get none of a last, small batch. Keras' own
    layer then divides by zero: its moving statistics and gradients are NaN, on all replicas. Here
    the moving statistics stand for those of such a batch, and so stay as they are.
    """

    def _moments(self, inputs, mask):
        mean, variance = super()._moments(inputs, mask)
        batch = inputs.shape[0]
        # Synchronized, they are of all replicas' images.
        if self.synchronized or (isinstance(batch, int) and batch > 0):
            return mean, variance
        is_empty = ops.equal(ops.shape(inputs)[0], 0)
        return tuple(
            ops.where(is_empty, ops.cast(kept, found.dtype), found)
            for kept, found in ((self.moving_mean, mean), (self.moving_variance, variance))
        )
