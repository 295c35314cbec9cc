"""Rebuilding a model of half or mixed precision under float32."""

import warnings

import keras

_HALF_POLICIES = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


def half_precision_layers(model):
    """Returns the names of the layers of `model`, at any depth, that compute in half precision."""
    return [
        layer.name
        for layer in model._flatten_layers()
        if layer.compute_dtype in ("float16", "bfloat16")
    ]


def as_float32(model):
    """Returns a copy of `model` whose layers all compute in float32, with the same weights.

    The copy is made from the configuration, so that custom layers need `get_config` (registered
    or not); the weights are copied in order. Not covered: a layer that is shared between a model
    and one nested in it, and a quantized layer.

    Args:
        model: a built `keras.Model`; returned as it is if nothing in it is of half precision.

    Raises:
        ValueError: the copy cannot be made.
    """
    if not half_precision_layers(model):
        return model
    # Keras' own stay out: keras.layers.Add would be taken for the operation Add, and so on.
    custom = {
        keras.saving.get_registered_name(type(layer)): type(layer)
        for layer in model._flatten_layers()
        if type(layer).__module__.split(".")[0] != "keras"
    }
    before = keras.config.dtype_policy()
    # Layers that a layer makes in its constructor take the policy of the moment.
    keras.config.set_dtype_policy("float32")
    try:
        with warnings.catch_warnings():
            # That a lambda may not load elsewhere does not matter: nothing is saved.
            warnings.simplefilter("ignore", UserWarning)
            config = _with_float32(keras.saving.serialize_keras_object(model))
        copy = keras.saving.deserialize_keras_object(config, custom_objects=custom, safe_mode=False)
        copy.set_weights(model.get_weights())
    except (NotImplementedError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise _no_copy(model, error) from error
    finally:
        keras.config.set_dtype_policy(before)
    if left := half_precision_layers(copy):
        raise _no_copy(model, f"these layers stay in half precision: {', '.join(left)}")
    return copy


def _with_float32(config):
    """Returns `config` with float32 for every half-precision dtype, and nothing about training."""
    if isinstance(config, dict):
        if config.get("class_name") in ("DTypePolicy", "FloatDTypePolicy"):
            if config["config"].get("name") in _HALF_POLICIES:
                return {**config, "config": {**config["config"], "name": "float32"}}
            return config
        return {
            key: "float32"
            if key.endswith("dtype") and isinstance(value, str) and value in _HALF_POLICIES
            else _with_float32(value)
            for key, value in config.items()
            if key != "compile_config"
        }
    if isinstance(config, (list, tuple)):
        return type(config)(_with_float32(item) for item in config)
    return config


def _no_copy(model, reason):
    return ValueError(
        "A model of half or mixed precision is rebuilt under float32, from its "
        f"configuration. Received: model={model!r}, which cannot be rebuilt ({reason}). Make the "
        "model under the policy float32, copy the weights with "
        "`model32.set_weights(model.get_weights())`, and take that."
    )
