"""The small networks that several questions of the FMM paper are asked of."""

import keras

from keras_fmm import layers, models

# What each candidate's gates are: none, the paper's, without their ReLU, added.
ATTENTIONS = {
    "CNN": None,
    "AM": layers.SqueezeExcite,
    "AMnoRL": lambda: layers.SqueezeExcite(activation=None),
    "AMnoMTP": lambda: layers.SqueezeExcite(merge="add"),
}


def builder(candidate):
    """Returns the function that builds a candidate's network."""

    def build(**arguments):
        return models.ToyCNN(attention=ATTENTIONS[candidate], **arguments)

    return build


def chain(residual, depth, input_shape, classes):
    """Returns a network of `depth` pre-activation blocks of 16 filters, named block1 and so on.

    `residual` is as of `layers.get_residual`.
    """

    def convolved(x):
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))
        return keras.layers.Conv2D(
            16, 3, padding="same", use_bias=False, kernel_initializer="he_normal"
        )(x)

    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(16, 3, padding="same", kernel_initializer="he_normal")(inputs)
    for block in range(1, depth + 1):
        x = layers.get_residual(residual, f"block{block}")([convolved(convolved(x)), x])
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(classes, "softmax")(x))
