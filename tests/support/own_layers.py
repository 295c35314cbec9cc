"""Layers as a user would write them, one for each role that a model's parts have."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="own")
class Experts(keras.layers.Layer):
    """A convolution whose kernel each image mixes from several; no Conv2D, and knows fewer words.

    It has no data format, no dilation, no activation, and its kernel is square.
    """

    def __init__(self, filters, kernel_size, strides, padding, use_bias, experts=2, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.padding = padding
        self.use_bias = use_bias
        self.experts = experts

    def build(self, input_shape):
        shape = (self.kernel_size, self.kernel_size, input_shape[-1], self.filters)
        self.stack = self.add_weight(name="stack", shape=(self.experts, *shape))
        self.mix = keras.layers.Dense(
            self.experts,
            activation="softmax",
            dtype=self.dtype_policy,
            trainable=self.trainable,
            name="mix",
        )
        self.mix.build((None, input_shape[-1]))
        if self.use_bias:
            self.shift = self.add_weight(name="shift", shape=(self.filters,))

    def call(self, inputs):
        parts = ops.expand_dims(self.mix(ops.mean(inputs, axis=(1, 2))), (1, 2, 3))
        outputs = sum(
            parts[..., index] * ops.conv(inputs, self.stack[index], self.strides, self.padding)
            for index in range(self.experts)
        )
        return outputs + self.shift if self.use_bias else outputs

    def multiply_adds(self, input_shape):
        outputs = self.compute_output_spec(keras.KerasTensor(input_shape)).shape
        return math.prod(outputs[1:]) * self.experts * self.kernel_size**2 * input_shape[-1]

    def start_as_convolution(self, kernel, bias=None):
        self.stack.assign(ops.stack([kernel] * self.experts))
        if self.use_bias:
            self.shift.assign(bias)

    def get_config(self):
        names = ("filters", "kernel_size", "strides", "padding", "use_bias", "experts")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="own")
class Bent(keras.layers.Layer):
    """`x + F(x) * (1 + b * x)` with b from 0: a fresh one is the sum."""

    def build(self, input_shape):
        self.bend = self.add_weight(name="bend", shape=(input_shape[0][-1],), initializer="zeros")

    def call(self, inputs):
        branch, shortcut = inputs
        return shortcut + branch * (1 + self.bend * shortcut)
