"""The batch norm inside the layers."""

import keras

from keras_fmm.ops import normalized


class BatchNorm(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` of the last axis, which is traced faster in training.

    A layer's parts are in no config: it is saved as its weights alone.
    """

    def call(self, inputs, training=None):
        if not (training and self.trainable) or self.synchronized:
            return super().call(inputs, training=training)
        outputs, mean, variance = normalized(inputs, self.gamma, self.beta, self.epsilon)
        rate = keras.ops.convert_to_tensor(1 - self.momentum, mean.dtype)
        for moving, found in ((self.moving_mean, mean), (self.moving_variance, variance)):
            value = keras.ops.cast(moving, found.dtype)
            moving.assign(value + (found - value) * rate)
        return keras.ops.cast(outputs, self.compute_dtype)
