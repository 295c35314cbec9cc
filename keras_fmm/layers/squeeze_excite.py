"""Squeeze-and-excitation."""

import keras
from keras import ops

from keras_fmm import checks
from keras_fmm.layers.feature_gate import FeatureGate
from keras_fmm.ops import spatial_mean


@keras.saving.register_keras_serializable(package="keras_fmm")
class SqueezeExcite(FeatureGate):
    """Gates each channel by what all channels hold on average.

    `g(x) = gate_activation(W2 . activation(W1 . mean(x) + b1) + b2)`, with the mean over space
    and `max(1, channels // reduction)` hidden units, or the nearest multiple of `divisor`.

    Args:
        reduction: int, default 16. By how much there are fewer hidden units than channels, at
            least 1; one larger than the channels gives one hidden unit.
        activation: str or callable, default "relu". The activation of the hidden units; None is
            the FMM paper's ablation AMnoRL.
        gate_activation: str or callable, default "sigmoid". The activation of the gate; None is
            the identity.
        merge: str, default "multiply". "multiply" or "add", see `FeatureGate`.
        use_bias: bool, default True. Whether both products have a bias.
        kernel_initializer: str or initializer, default "glorot_uniform". Of both kernels.
        bias_initializer: str or initializer, default "zeros". Of both biases.
        kernel_regularizer: str, regularizer or None, default None. Of both kernels.
        bias_regularizer: str, regularizer or None, default None. Of both biases.
        data_format: str or None, default None. "channels_last", "channels_first", or None for
            Keras' setting.
        divisor: int, default 1. What the number of hidden units is rounded to a multiple of, at
            least one; 8 in the networks of timm.
        **kwargs: the arguments of `keras.layers.Layer`.

    Input shape:
        `(batch, height, width, channels)`, or as `data_format` says; all but the channels may be
        unknown.

    Output shape:
        That of the inputs. `attention_map` gives `(batch, 1, 1, channels)`.

    The weights are, in order: squeeze kernel `(channels, hidden)`, squeeze bias, excite kernel
    `(hidden, channels)`, excite bias.

    Example:

    >>> import keras
    >>> inputs = keras.Input((32, 32, 64))
    >>> layer = SqueezeExcite(reduction=16)
    >>> layer(inputs).shape
    (None, 32, 32, 64)
    >>> layer.count_params()
    580

    Reference:
        Hu, Shen, Sun, "Squeeze-and-Excitation Networks", equations 2 to 4. Differs from the paper:
        the products have biases by default; `use_bias=False` is equation 3 as it stands.
        https://arxiv.org/abs/1709.01507
    """

    def __init__(
        self,
        reduction=16,
        activation="relu",
        gate_activation="sigmoid",
        merge="multiply",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        data_format=None,
        divisor=1,
        **kwargs,
    ):
        super().__init__(
            merge=merge, data_format=data_format, gate_activation=gate_activation, **kwargs
        )
        self.reduction = checks.positive_integer("reduction", reduction)
        self.activation = checks.of_keras(activation=activation)
        self.use_bias = checks.flag("use_bias", use_bias)
        self.kernel_initializer = checks.of_keras(kernel_initializer=kernel_initializer)
        self.bias_initializer = checks.of_keras(bias_initializer=bias_initializer)
        self.kernel_regularizer = checks.of_keras(kernel_regularizer=kernel_regularizer)
        self.bias_regularizer = checks.of_keras(bias_regularizer=bias_regularizer)
        self.divisor = checks.positive_integer("divisor", divisor, checks.CHANNELS)

    def build_attention(self, channels):
        hidden = self._hidden_units(channels)
        self.squeeze = self._product(channels, hidden, self.activation, "squeeze")
        self.excite = self._product(hidden, channels, None, "excite")

    def _hidden_units(self, channels):
        half = self.divisor // 2
        rounded = (channels // self.reduction + half) // self.divisor * self.divisor
        return max(self.divisor, rounded)

    def _product(self, inputs, units, activation, name):
        return self.make_sublayer(
            keras.layers.Dense,
            (None, inputs),
            units=units,
            activation=activation,
            use_bias=self.use_bias,
            kernel_initializer=_fresh(self.kernel_initializer),
            bias_initializer=_fresh(self.bias_initializer),
            kernel_regularizer=self.kernel_regularizer,
            bias_regularizer=self.bias_regularizer,
            name=name,
        )

    def excitation(self, inputs):
        """Returns the gate before its activation, `(batch, channels)`.

        Args:
            inputs: tensor `(batch, height, width, channels)`, whatever `data_format` says.
        """
        return self.excite(self.squeeze(spatial_mean(inputs)))

    def compute_attention_map(self, inputs, training=None):
        gate = self.gate_activation(self.excitation(inputs))
        return ops.reshape(gate, (-1, 1, 1, gate.shape[-1]))

    def neutral_weights(self):
        return self.excite.weights

    def attention_multiply_adds(self, height, width, channels):
        return 2 * channels * self._hidden_units(channels)

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "reduction": self.reduction,
                "activation": keras.activations.serialize(self.activation),
                "use_bias": self.use_bias,
                "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
                "bias_initializer": keras.initializers.serialize(self.bias_initializer),
                "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
                "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
                "divisor": self.divisor,
            }
        )
        return config


def _fresh(initializer):
    # One object used for both products would draw the same numbers for both.
    if isinstance(initializer, keras.initializers.Initializer):
        return initializer.clone()
    return initializer
