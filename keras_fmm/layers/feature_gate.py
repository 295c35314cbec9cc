"""The base of all layers that gate feature maps."""

import keras
import numpy as np

from keras_fmm import checks
from keras_fmm.layers.attention_map import AttentionMapMixin
from keras_fmm.layers.twice_sigmoid import twice_sigmoid
from keras_fmm.ops import from_channels_last, to_channels_last


@keras.saving.register_keras_serializable(package="keras_fmm")
class FeatureGate(AttentionMapMixin, keras.layers.Layer):
    """Merges feature maps with a gate computed from them: `outputs = merge(x, g(x))`.

    A subclass overrides `compute_attention_map`, which gives `g(x)`, creates and builds its
    sub-layers in `build_attention`, says in `attention_multiply_adds` what `g` costs, and sets in
    `start_as_identity` the weights with which the outputs are the inputs.

    Args:
        merge: "multiply" (default), or "add": the FMM paper's ablation without the product,
            called AMnoMTP there.
        data_format: "channels_last", "channels_first" or None for Keras' setting.
        **kwargs: the arguments of `keras.layers.Layer`.

    Call arguments:
        return_attention_map: bool, return the gate instead of the merged features.

    Input shape:
        `(batch, height, width, channels)`, or `(batch, channels, height, width)` with
        "channels_first"; all but the channels may be unknown.

    Output shape:
        That of the inputs.

    Example:

    >>> import keras, numpy as np
    >>> class Brightest(FeatureGate):
    ...     def compute_attention_map(self, inputs, training=None):
    ...         return keras.ops.max(inputs, axis=(1, 2), keepdims=True)
    >>> image = np.array([1.0, 2.0], "float32").reshape(1, 1, 2, 1)
    >>> np.asarray(Brightest()(image)).ravel().tolist()
    [2.0, 4.0]
    >>> np.asarray(Brightest().attention_map(image)).ravel().tolist()
    [2.0]

    Reference:
        Ye, He, Wang, Li, "Towards Understanding the Effectiveness of Attention Mechanism".
    """

    def __init__(self, merge="multiply", data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.merge = checks.one_of("merge", merge, ("multiply", "add"))
        self.data_format = checks.data_format(data_format)

    def build(self, input_shape):
        channels = checks.channels_of(type(self).__name__, input_shape, self.data_format)
        axis = -1 if self.data_format == "channels_last" else 1
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={axis: channels})
        self.build_attention(channels)

    def build_attention(self, channels):
        """Creates and builds the sub-layers; the default has none.

        Give each `dtype=self.dtype_policy` and `trainable=self.trainable`: a layer that is frozen
        before it is built, as in a frozen model that is loaded, must have frozen sub-layers.

        Args:
            channels: int, the channels of the inputs.
        """

    def compute_attention_map(self, inputs, training=None):
        """Returns the gate.

        Args:
            inputs: tensor `(batch, height, width, channels)`, whatever `data_format` says.
            training: bool or None.

        Returns:
            Tensor of rank 4 that broadcasts against the inputs.
        """
        raise NotImplementedError(
            "A gate must override `compute_attention_map`. "
            f"Received: {type(self).__name__}, which does not."
        )

    def call(self, inputs, training=None, return_attention_map=False):
        gate = self.compute_attention_map(
            to_channels_last(inputs, self.data_format), training=training
        )
        gate = from_channels_last(gate, self.data_format)
        if return_attention_map:
            return gate
        return self._multiply(inputs, gate) if self.merge == "multiply" else inputs + gate

    def _multiply(self, inputs, gate):
        return inputs * gate

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def start_as_identity(self):
        """Sets the weights of a built gate so that its outputs are its inputs, and it still learns.

        For a gate that joins a trained network. Call it before the gate is traced or trained: a
        `gate_activation` of sigmoid becomes `twice_sigmoid`.

        Raises:
            NotImplementedError: the gate's class does not say how.
            ValueError: the gate is not built, or its activation of 0 leaves the inputs different.

        Example:

        >>> import numpy as np
        >>> from keras_fmm import layers
        >>> gate = layers.SqueezeExcite(reduction=2)
        >>> gate.build((None, 4, 4, 8))
        >>> gate.start_as_identity()
        >>> x = np.random.rand(1, 4, 4, 8)
        >>> bool(np.allclose(gate(x), x))
        True
        """
        raise NotImplementedError(
            "A gate that starts as the identity must override `start_as_identity`. "
            f"Received: {type(self).__name__}, which does not. Set in it the weights with which "
            "the outputs are the inputs, such as a zero kernel before a `twice_sigmoid`."
        )

    def _identity_activation(self):
        """Returns the `gate_activation` with which a gate of zeros gives back its inputs."""
        if not self.built:
            raise ValueError(
                "Only a built gate can start as the identity. "
                f"Received: the gate {self.name!r}. Call it, or its `build`, first."
            )
        activation = self.gate_activation
        if self.merge == "multiply" and activation is keras.activations.sigmoid:
            activation = twice_sigmoid
        neutral, cure = (0, "tanh") if self.merge == "add" else (1, "sigmoid")
        # Several entries: a softmax of one is 1.
        start = np.asarray(activation(keras.ops.zeros((1, 1, 1, 8))))
        if not np.allclose(start, neutral):
            raise ValueError(
                f'With merge="{self.merge}" a gate starts as the identity where `gate_activation` '
                f"of 0 is {neutral}. Received: {getattr(activation, '__name__', activation)}, "
                f"which gives {start.flat[0]:g}, in the gate {self.name!r}. Give it "
                f'gate_activation="{cure}".'
            )
        return activation

    def attention_multiply_adds(self, height, width, channels):
        """Returns the multiply-adds of the gate alone, for one image; the default is 0."""
        return 0

    def multiply_adds(self, input_shape):
        """Returns the multiply-adds of one image: the gate's, and one for each entry multiplied.

        Multiplications in convolutions, matrix products and products of features are counted;
        sums, pooling, bias, normalisation and activation are not.

        Args:
            input_shape: tuple of 4, the batch first and ignored, the rest known.

        Raises:
            ValueError: height, width or channels are not known.
        """
        height, width, channels = checks.sizes_of(
            type(self).__name__, input_shape, self.data_format
        )
        products = height * width * channels if self.merge == "multiply" else 0
        return self.attention_multiply_adds(height, width, channels) + products

    def get_config(self):
        return {**super().get_config(), "merge": self.merge, "data_format": self.data_format}
