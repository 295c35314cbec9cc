"""The base of all layers that gate feature maps."""

import inspect
import math

import keras
import numpy as np
from keras import ops

from keras_fmm import checks
from keras_fmm.layers.attention_map import AttentionMapMixin
from keras_fmm.layers.feature_map import FeatureMapLayer, config_text
from keras_fmm.layers.twice_sigmoid import twice_sigmoid
from keras_fmm.ops import from_channels_last, scale_channels, to_channels_last

# How far a gate's outputs may be from its inputs, of size 1, and it counts as the identity.
_TOLERANCE = 1e-4


@keras.saving.register_keras_serializable(package="keras_fmm")
class FeatureGate(AttentionMapMixin, FeatureMapLayer):
    """Merges feature maps with a gate computed from them: `outputs = merge(x, g(x))`.

    A subclass overrides `compute_attention_map`, which gives `g(x)`, makes its sub-layers in
    `build_attention`, says in `attention_multiply_adds` what `g` costs, and in `neutral_weights`
    which weights are 0 where the outputs are the inputs.

    Args:
        merge: str, default "multiply". "multiply", or "add": the FMM paper's ablation without the
            product, called AMnoMTP there.
        data_format: str or None, default None. "channels_last", "channels_first", or None for
            Keras' setting.
        gate_activation: str or callable, default None. The activation of the gate, which a
            subclass applies in `compute_attention_map`; None is the identity.
        **kwargs: the arguments of `keras.layers.Layer`.

    Call arguments:
        return_attention_map: bool, default False. Whether to return the gate instead of the merged
            features.

    Input shape:
        `(batch, height, width, channels)`, or `(batch, channels, height, width)` with
        "channels_first"; all but the channels may be unknown. Of any real dtype, integers and bools
        too: it is cast to the layer's compute dtype, which the outputs have.

    Output shape:
        That of the inputs.

    Example:

    >>> import keras, numpy as np
    >>> class Brightest(FeatureGate):
    ...     def compute_attention_map(self, inputs, training=None):
    ...         return keras.ops.max(inputs, axis=(1, 2), keepdims=True)
    >>> image = np.array([1.0, 2.0], "float32").reshape(1, 1, 2, 1)
    >>> keras.ops.convert_to_numpy(Brightest()(image)).ravel().tolist()
    [2.0, 4.0]
    >>> keras.ops.convert_to_numpy(Brightest().attention_map(image)).ravel().tolist()
    [2.0]

    Reference:
        Ye, He, Wang, Li, "Towards Understanding the Effectiveness of Attention Mechanism".
    """

    def __init__(self, merge="multiply", data_format=None, gate_activation=None, **kwargs):
        super().__init__(data_format=data_format, **kwargs)
        # Here too, for a gate whose `from_config` is its own.
        self.merge = checks.one_of("merge", config_text(merge), ("multiply", "add"))
        self.gate_activation = checks.of_keras(gate_activation=gate_activation)

    def build_sublayers(self, channels):
        self.build_attention(channels)

    def build_attention(self, channels):
        """Makes the sub-layers, each by `make_sublayer`; the default has none.

        `self.squeeze = self.make_sublayer(keras.layers.Dense, (None, channels), units=4,
        name="squeeze")` gives it the gate's dtype policy, freezes it where the gate is frozen, and
        builds it.

        Args:
            channels: int, the channels of the inputs.
        """

    def compute_attention_map(self, inputs, training=None):
        """Returns the gate.

        Args:
            inputs: tensor `(batch, height, width, channels)`, whatever `data_format` says.
            training: bool or None, default None. As of any layer of Keras.

        Returns:
            Tensor of rank 4 that broadcasts against the inputs.
        """
        raise NotImplementedError(
            "A gate must override `compute_attention_map`. "
            f"Received: {type(self).__name__}, which does not."
        )

    def call(self, inputs, training=None, return_attention_map=False):
        inputs = self.cast_inputs(inputs)
        # Built for an unknown height and width, it meets the real ones only here.
        self.channels_of(inputs.shape)
        gate = self.compute_attention_map(
            to_channels_last(inputs, self.data_format), training=training
        )
        rank = len(getattr(gate, "shape", ()))
        if rank != 4:
            raise ValueError(
                "`compute_attention_map` must return a tensor of rank 4 that broadcasts against "
                f"(batch, height, width, channels). Received: {type(self).__name__} {self.name!r}, "
                f"which returned {getattr(gate, 'shape', gate)}. Keep the axes of what it means "
                "over, by `keepdims=True`, or add them by `keras.ops.expand_dims`."
            )
        # A gate of a user's own may be of another dtype, as `inputs > 0` is.
        gate = from_channels_last(ops.cast(gate, self.compute_dtype), self.data_format)
        if return_attention_map:
            return gate
        return self._multiply(inputs, gate) if self.merge == "multiply" else inputs + gate

    def _multiply(self, inputs, gate):
        batch, height, width, channels = inputs.shape
        shapes = [(batch, 1, 1, channels)]
        if None not in (height, width):
            shapes.append((batch, height, width, 1))
        if self.data_format == "channels_last" and tuple(gate.shape) in shapes:
            return scale_channels(inputs, gate)
        return inputs * gate

    def neutral_weights(self):
        """Returns the weights of a built gate that are 0 where its outputs are its inputs.

        Those of the last product before `gate_activation`, its kernel and bias, in most gates. A
        gate made of other gates has theirs, and need not override this.

        Raises:
            NotImplementedError: the gate's class does not say, and it is not made of gates.
        """
        gates = _gates_in(self)
        if not gates:
            raise NotImplementedError(
                "A gate that starts as the identity must override `neutral_weights`, or all of "
                f"`start_as_identity`. Received: {type(self).__name__}, which does not. Return "
                "the weights that are 0 where the outputs are the inputs, such as the kernel "
                "before the `gate_activation`."
            )
        return [weight for gate in gates for weight in gate.neutral_weights()]

    def start_as_identity(self):
        """Sets the weights of a built gate so that its outputs are its inputs, and it still learns.

        For a gate that joins a trained network. Call it before the gate is traced or trained: a
        `gate_activation` of sigmoid becomes `twice_sigmoid` where that makes it the identity. The
        gate is called once, to see whether it is.

        Raises:
            NotImplementedError: the gate's class does not say how, see `neutral_weights`.
            ValueError: the gate is not built, or its outputs differ from its inputs with zeros in
                its `neutral_weights`, or its `gate_activation` gives one value whatever it is
                given, as a softmax of one number does; it is then left as it was.

        Example:

        >>> import keras, numpy as np
        >>> from keras_fmm import layers
        >>> gate = layers.SqueezeExcite(reduction=2)
        >>> gate.build((None, 4, 4, 8))
        >>> gate.start_as_identity()
        >>> x = np.random.rand(1, 4, 4, 8)
        >>> bool(np.allclose(keras.ops.convert_to_numpy(gate(x)), x))
        True
        """
        if not self.built:
            raise ValueError(
                "Only a built gate can start as the identity. "
                f"Received: the gate {self.name!r}. Call it, or its `build`, first."
            )
        weights = self.neutral_weights()
        gates = [self, *_gates_in(self)]
        for gate in gates:
            gate._check_that_it_learns()
        values = [keras.ops.convert_to_numpy(weight.value) for weight in weights]
        for weight in weights:
            weight.assign(keras.ops.zeros(weight.shape))
        difference = self._difference_from_inputs()
        if difference <= _TOLERANCE:
            return
        sigmoids = [gate for gate in gates if gate.gate_activation is keras.activations.sigmoid]
        for gate in sigmoids:
            gate.gate_activation = twice_sigmoid
        if sigmoids and self._difference_from_inputs() <= _TOLERANCE:
            return
        for gate in sigmoids:
            gate.gate_activation = keras.activations.sigmoid
        for weight, value in zip(weights, values, strict=True):
            weight.assign(value)
        activation = getattr(self.gate_activation, "__name__", self.gate_activation)
        neutral, cure = (0, "tanh") if self.merge == "add" else (1, "sigmoid")
        cure = f'Give it gate_activation="{cure}".'
        if self.gate_activation is keras.activations.linear:
            cure = f"Let `compute_attention_map` give {neutral} there."
        raise ValueError(
            f'With merge="{self.merge}" a gate starts as the identity where, with zeros in its '
            f"`neutral_weights`, its map is {neutral}. Received: {activation} as the "
            f"`gate_activation` of {self.name!r}, whose outputs differ from its inputs by up to "
            f"{difference:.3g}. {cure}"
        )

    def _check_that_it_learns(self):
        """Raises ValueError where the activation is the same for all that it could be given."""
        channels = self.attention_map(self._example()).shape[_channel_axis(self)]
        rising = np.linspace(-1, 1, 2 * channels, dtype="float32").reshape(2, 1, 1, channels)
        low, high = keras.ops.convert_to_numpy(
            self.gate_activation(keras.ops.convert_to_tensor(rising))
        )
        if np.array_equal(low, high) and np.ptp(low) == 0:
            raise ValueError(
                "A gate starts as the identity where it can still learn. Received: "
                f"{getattr(self.gate_activation, '__name__', self.gate_activation)} as the "
                f"`gate_activation` of {self.name!r}, whose map has {channels} number a position, "
                f'which it makes {low.flat[0]:.3g} always. Give it gate_activation="sigmoid".'
            )

    def _example(self):
        """Returns random inputs of the shape that the gate was built for."""
        batch, *sizes = self.get_build_config()["input_shape"]
        sizes = (batch or 2, *(size or 8 for size in sizes))
        inputs = np.random.default_rng(0).uniform(-1, 1, sizes)
        return keras.ops.convert_to_tensor(inputs, self.compute_dtype)

    def _difference_from_inputs(self):
        """Returns by how much the outputs differ at most from random inputs; infinite: in shape."""
        inputs = self._example()
        outputs = self(inputs, training=False)
        if tuple(outputs.shape) != tuple(inputs.shape):
            return math.inf
        # In float32: TensorFlow makes no array of a single bfloat16.
        difference = keras.ops.cast(keras.ops.max(keras.ops.abs(outputs - inputs)), "float32")
        return float(keras.ops.convert_to_numpy(difference))

    def attention_multiply_adds(self, height, width, channels):
        """Returns the multiply-adds of the gate alone, for one image; the default is 0.

        Args:
            height: int. Of the inputs.
            width: int. Of the inputs.
            channels: int. Of the inputs.
        """
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
        height, width, channels = self.sizes_of(input_shape)
        products = height * width * channels if self.merge == "multiply" else 0
        return self.attention_multiply_adds(height, width, channels) + products

    def get_config(self):
        config = {**super().get_config(), "merge": self.merge}
        # The constructor of a gate of a user's own need not take it.
        parameters = inspect.signature(type(self).__init__).parameters
        takes_any = any(taken.kind is taken.VAR_KEYWORD for taken in parameters.values())
        if takes_any or "gate_activation" in parameters:
            config["gate_activation"] = keras.activations.serialize(self.gate_activation)
        return config


def _channel_axis(gate):
    return -1 if gate.data_format == "channels_last" else 1


def _gates_in(gate):
    """Returns the gates that a gate is made of, those in them too."""
    parts = gate._flatten_layers(include_self=False)
    return [part for part in parts if isinstance(part, FeatureGate)]
