"""The small networks that several questions of the FMM paper are asked of."""

import keras

from keras_fmm import layers, models


@keras.saving.register_keras_serializable(package="recipes")
class ConstantGate(layers.FeatureGate):
    """Multiplies each channel by a learned number from 0 to 1, the same for all images."""

    def build_attention(self, channels):
        self.logits = self.add_weight(shape=(channels,), initializer="zeros", name="logits")

    def compute_attention_map(self, inputs, training=None):
        return keras.ops.reshape(keras.ops.sigmoid(self.logits), (1, 1, 1, -1))


@keras.saving.register_keras_serializable(package="recipes")
class ShuffledGate(layers.SqueezeExcite):
    """Squeeze-and-excite that multiplies each image by the gate of the one before in its batch."""

    def compute_attention_map(self, inputs, training=None):
        return keras.ops.roll(super().compute_attention_map(inputs, training), 1, axis=0)


# What each candidate's gates are: none, the paper's, without their ReLU, added.
ATTENTIONS = {
    "CNN": None,
    "AM": layers.SqueezeExcite,
    "AMnoRL": lambda: layers.SqueezeExcite(activation=None),
    "AMnoMTP": lambda: layers.SqueezeExcite(merge="add"),
}

# Their accuracy in percent in the paper's Table I.
TABLE_1 = {
    "mnist": {"CNN": 98.61, "AM": 99.03, "AMnoRL": 99.06, "AMnoMTP": 98.69},
    "cifar10": {"CNN": 79.57, "AM": 80.40, "AMnoRL": 80.12, "AMnoMTP": 79.66},
}

# What the paper lacks. The paper's added gate lies between 0 and 1; AMadd's is as large, has as
# many parameters, and may lower a channel too. A product whose factor knows nothing of the image,
# and one whose factor is another image's.
MORE_ATTENTIONS = {
    "AMadd": lambda: layers.SqueezeExcite(merge="add", gate_activation="tanh"),
    "AMconstant": ConstantGate,
    "AMshuffled": ShuffledGate,
}


def builder(candidate):
    """Returns the function that builds a candidate's network."""

    def build(**arguments):
        attention = {**ATTENTIONS, **MORE_ATTENTIONS}[candidate]
        return models.ToyCNN(attention=attention, **arguments)

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
