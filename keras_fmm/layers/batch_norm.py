"""The batch norm inside the layers."""

import keras
from keras import ops

from keras_fmm.ops import normalized


class BatchNorm(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` of the last axis, of any batch, traced faster in training.

    A replica of `tf.distribute.MirroredStrategy` may get no image of a last, small batch. Keras'
    own layer then divides by zero: its moving statistics and gradients are NaN, on all replicas.
    Here both stay as they are.

    A layer's parts are in no config: it is saved as its weights alone.
    """

    def build(self, input_shape):
        super().build(input_shape)
        # It takes maps and lists of positions.
        self.input_spec = None

    def call(self, inputs, training=None):
        batch = inputs.shape[0]
        is_training = bool(training) and self.trainable and batch != 0
        # Synchronized, the statistics are of all replicas' images.
        if not is_training or self.synchronized:
            return super().call(inputs, training=is_training)
        outputs, mean, variance = normalized(inputs, self.gamma, self.beta, self.epsilon)
        rate = ops.convert_to_tensor(1 - self.momentum, mean.dtype)
        is_empty = ops.equal(ops.size(inputs), 0) if batch is None else None
        for moving, found in ((self.moving_mean, mean), (self.moving_variance, variance)):
            value = ops.cast(moving, found.dtype)
            if is_empty is not None:
                found = ops.where(is_empty, value, found)
            moving.assign(value + (found - value) * rate)
        return ops.cast(outputs, self.compute_dtype)
