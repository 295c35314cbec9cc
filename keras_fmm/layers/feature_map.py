"""The base of layers of feature maps: their dtype, layout and channels, and their sub-layers."""

import inspect
import types

import keras
from keras import ops

from keras_fmm import checks

# The functions whose names Keras' reader of .h5 files puts into the place of equal strings in a
# layer's config: "multiply" becomes `keras.layers.multiply`.
_NAMES = {function: name for name, function in inspect.getmembers(keras.layers, inspect.isfunction)}


class CastInputsMixin:
    """Casts the inputs of a layer, of any real dtype, to its compute dtype, that of its outputs.

    Keras casts floats alone, and says of every layer that its outputs have the compute dtype. Maps
    of integers or bools would round a gate or fail inside the backend.
    """

    def cast_inputs(self, inputs):
        """Returns inputs in the compute dtype; `call` begins with it.

        Args:
            inputs: tensor, or a structure of them.

        Raises:
            TypeError: they do not hold real numbers.
        """
        self._check_dtypes(inputs)
        return keras.tree.map_structure(lambda x: ops.cast(x, self.compute_dtype), inputs)

    def compute_output_spec(self, inputs, *args, **kwargs):
        # Symbolic calls do not come to `call`.
        self._check_dtypes(inputs)
        return super().compute_output_spec(inputs, *args, **kwargs)

    def _check_dtypes(self, inputs):
        for x in keras.tree.flatten(inputs):
            checks.real_numbers(f"The inputs of {type(self).__name__}", x)


class FeatureMapMixin(CastInputsMixin):
    """Reads the shapes of a layer that has a `data_format`, and makes and keeps its sub-layers.

    For a layer that is a `keras.layers.Conv2D` already; any other is a `FeatureMapLayer`.

    The config says of sub-layers, by name, what was set after they were made: that one is frozen,
    quantized, of another dtype policy or has LoRA enabled. In an ordinary layer it says nothing.
    """

    # What the config says of sub-layers that are not made yet.
    _states = types.MappingProxyType({})

    def channels_of(self, input_shape):
        """Returns the channels of an input shape; raises ValueError as `checks.channels_of`."""
        return checks.channels_of(type(self).__name__, input_shape, self.data_format)

    def sizes_of(self, input_shape):
        """Returns `(height, width, channels)`; raises ValueError as `checks.sizes_of`."""
        return checks.sizes_of(type(self).__name__, input_shape, self.data_format)

    def expect_channels(self, channels):
        """Lets Keras refuse inputs of other channels than the layer was built for."""
        axis = -1 if self.data_format == "channels_last" else 1
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={axis: channels})

    def make_sublayer(self, kind, input_shape, **arguments):
        """Returns a built sub-layer of the layer's dtype policy, frozen where the layer is.

        A layer that is frozen before it is built, as in a frozen model that is loaded, has frozen
        sub-layers. What the config says of a sub-layer of this name goes before that. Call it in
        `build`, and keep what it returns as an attribute.

        Args:
            kind: callable that returns a `keras.layers.Layer`, such as its class.
            input_shape: tuple, the shape of what the sub-layer will be called on.
            **arguments: of `kind`; give each a `name`, which the paths of its weights begin with.
        """
        layer = kind(**arguments, trainable=self.trainable, dtype=self.dtype_policy)
        _build(layer, input_shape, self._states.get(layer.name, {}))
        return layer

    def get_config(self):
        states = _states_in(self)
        return {**super().get_config(), **({"sublayers": states} if states else {})}

    @classmethod
    def from_config(cls, config):
        config = {key: config_text(value) for key, value in config.items()}
        states = config.pop("sublayers", {})
        layer = super().from_config(config)
        _set_state(layer, {"sublayers": states})
        return layer


class FeatureMapLayer(FeatureMapMixin, keras.layers.Layer):
    """A layer from feature maps to feature maps of the same shape, of any height and width.

    A subclass makes its sub-layers in `build_sublayers` and overrides `call`, which begins with
    `inputs = self.cast_inputs(inputs)`: maps of any real dtype, integers and bools too, are cast to
    the layer's compute dtype, which the outputs have. One whose outputs have another shape
    overrides `compute_output_shape`.

    Args:
        data_format: str or None, default None. "channels_last", "channels_first", or None for
            Keras' setting.
        **kwargs: the arguments of `keras.layers.Layer`.
    """

    def __init__(self, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = checks.data_format(data_format)

    def build(self, input_shape):
        channels = self.channels_of(input_shape)
        self.expect_channels(channels)
        self.build_sublayers(channels)
        # Those that a user's class makes without `make_sublayer`; who loads weights calls nothing.
        _set_state(self, {"sublayers": self._states})
        if not all(layer.built for layer in self._layers):
            inputs = keras.KerasTensor(input_shape, self.compute_dtype)
            keras.Operation.compute_output_spec(self, inputs)

    def build_sublayers(self, channels):
        """Makes the sub-layers, each by `make_sublayer`; the default has none.

        Args:
            channels: int, the channels of the inputs.
        """

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "data_format": self.data_format}


def config_text(value):
    """Returns the name that a value of a config was before Keras' reader of .h5 files had it."""
    return _NAMES.get(value, value) if inspect.isfunction(value) else value


def _states_in(layer):
    """Returns, by name, what each sub-layer is otherwise than the layer would make it."""
    states = {child.name: _state(child, layer) for child in layer._layers}
    return {name: state for name, state in states.items() if state}


def _state(layer, parent):
    state = {}
    if layer.trainable != parent.trainable:
        state["trainable"] = layer.trainable
    if layer.dtype_policy != parent.dtype_policy:
        state["dtype"] = keras.dtype_policies.serialize(layer.dtype_policy)
    if getattr(layer, "quantization_config", None) is not None:
        config = keras.saving.serialize_keras_object(layer.quantization_config)
        state["quantization_config"] = config
    if getattr(layer, "lora_rank", None):
        state |= {"lora_rank": layer.lora_rank, "lora_alpha": layer.lora_alpha}
    if states := _states_in(layer):
        state["sublayers"] = states
    return state


def _set_state(layer, state):
    """Gives a layer and what is in it what `_state` says, as far as they have it not yet."""
    if "trainable" in state:
        layer.trainable = state["trainable"]
    config = keras.saving.deserialize_keras_object(state.get("quantization_config"))
    policy = layer.dtype_policy
    if "dtype" in state:
        policy = keras.dtype_policies.deserialize(state["dtype"])
    rank, alpha = state.get("lora_rank"), state.get("lora_alpha")
    if not layer.built:
        layer.dtype_policy = policy
        if config is not None:
            layer.quantization_config = config
        if rank:
            layer.lora_rank, layer.lora_alpha = rank, alpha
    elif policy != layer.dtype_policy:
        if policy.quantization_mode is None:
            layer.dtype_policy = policy
        else:
            layer.quantize(policy.quantization_mode, config=config)
    if layer.built and rank and not layer.lora_enabled:
        layer.enable_lora(rank, lora_alpha=alpha)
    if "sublayers" in state:
        layer._states = state["sublayers"]
        for child in layer._layers:
            _set_state(child, layer._states.get(child.name, {}))


def _build(layer, input_shape, state):
    """Builds a layer that is as `_state` says."""
    _set_state(layer, state)
    policy = layer.dtype_policy
    if policy.quantization_mode not in ("int8", "int4", "float8"):
        layer.build(input_shape)
        return
    # What Keras quantizes has its variables in another order than what it builds quantized, and
    # `set_weights` and .h5 files go by the order. What is calibrated cannot be quantized so.
    config = layer.quantization_config
    layer.dtype_policy = policy.get_config()["source_name"]
    layer.build(input_shape)
    layer.quantize(policy.quantization_mode, config=config)
