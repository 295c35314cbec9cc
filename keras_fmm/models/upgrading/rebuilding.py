"""Layers of their own from the configs of others, and the state that goes with them."""

import tempfile
import types

import keras


def rebuild(operation, path):
    """Returns a new layer or operation of the same config and name, not built.

    Args:
        operation: a `keras.layers.Layer` or a bare operation.
        path: str, its name in the error.

    Raises:
        ValueError: it cannot be rebuilt from its config.
    """
    try:
        if isinstance(operation, keras.layers.Lambda):
            clone = _rebuild_lambda(operation)
        else:
            with keras.saving.custom_object_scope(custom_objects(operation)):
                clone = type(operation).from_config(operation.get_config())
    # A class of the user's may raise anything, and Keras does of a config.
    except Exception as error:
        rule = "Every layer of the model must be one that Keras can make again from its config. "
        received = f"Received: {path!r} of class {type(operation).__name__}"
        if nameless := _nameless_functions(operation):
            raise ValueError(
                f"{rule}{received} with {nameless}, which Keras finds by no name. Give a "
                "function that has one (`def`), registered with "
                "`keras.saving.register_keras_serializable`, or set that of the layer in the model "
                "to it."
            ) from error
        raise ValueError(
            f"{rule}{received}, which it cannot ({error}). "
            "Give the class `get_config`, and register its own functions and classes with "
            "`keras.saving.register_keras_serializable`."
        ) from error
    # The config of a bare operation may be without it.
    clone.name = operation.name
    return clone


def _nameless_functions(operation):
    """Returns the attributes of a layer that are callable and not by `def`, as an error names them.

    They are lambdas, partials, methods of other objects, and functions of NumPy and JAX.
    """
    found = {
        name: value
        for layer in _with_sublayers(operation)
        for name, value in vars(layer).items()
        if callable(value)
        # Keras wraps methods of layers into attributes of the same names.
        and not hasattr(type(layer), name)
        and not isinstance(value, type)
        and not hasattr(value, "get_config")
        and not (isinstance(value, types.FunctionType) and value.__name__ != "<lambda>")
    }
    return ", ".join(f"{name}={value!r}" for name, value in found.items())


def _rebuild_lambda(layer):
    # The config of a lambda is its code without the names that the code refers to.
    return type(layer)(
        layer.function,
        output_shape=layer._output_shape,
        mask=layer.mask,
        arguments=layer.arguments,
        **keras.layers.Layer.get_config(layer),
    )


def custom_objects(operation):
    """Returns, by name, the classes and functions in a layer that Keras may not find by itself."""
    found = {}
    for layer in _with_sublayers(operation):
        for name, value in [(None, layer), *vars(layer).items()]:
            is_function = isinstance(value, types.FunctionType)
            kind = value if is_function else type(value)
            # Keras wraps methods of layers into attributes of the same names; and its own classes
            # must stay out, as two share a name: keras.layers.Add and the operation Add.
            is_method = is_function and hasattr(type(layer), name)
            is_keras = kind.__module__.split(".")[0] == "keras"
            if not is_method and not is_keras and (is_function or hasattr(kind, "get_config")):
                found[kind.__name__] = kind
    return found


def _with_sublayers(operation):
    is_layer = isinstance(operation, keras.layers.Layer)
    return operation._flatten_layers() if is_layer else [operation]


def carry_state(layer, clone, path):
    """Gives a built clone the weights, seeds and trainable flags of the layer.

    Args:
        layer: built `keras.layers.Layer`.
        clone: a layer made by `rebuild` of it, and built for the same inputs.
        path: str, the layer's name in the error.

    Raises:
        ValueError: the two do not have the same variables or sub-layers.
    """
    sublayers, clones = layer._flatten_layers(), clone._flatten_layers()
    if _pairs(layer, clone) is None or len(sublayers) != len(clones):
        raise ValueError(
            "A layer made from another's config must have the same variables. "
            f"Received: {path!r} of class {type(layer).__name__}, with "
            f"{_signature(layer.variables)}; made again it has {_signature(clone.variables)}. Let "
            "its `get_config` say all that its variables depend on, and `build` make them."
        )
    for old, new in _pairs(layer, clone):
        # A copy: on JAX two variables of one array lose it when either is trained.
        new.assign(keras.ops.copy(old))
    carry_flags(layer, clone)
    for old, new in zip(sublayers, clones, strict=True):
        # keras.layers.Normalization computes from its variables when they are set.
        if hasattr(new, "finalize_state"):
            new.finalize_state()
        # A vocabulary is in no variable.
        if hasattr(old, "save_assets"):
            with tempfile.TemporaryDirectory() as folder:
                old.save_assets(folder)
                new.load_assets(folder)


def carry_flags(layer, clone):
    """Freezes and thaws a clone, its sub-layers and variables as those of the layer are."""
    for old, new in zip(layer._flatten_layers(), clone._flatten_layers(), strict=True):
        new.trainable = old.trainable
    # A variable can be frozen by itself, as LoRA does.
    for old, new in _pairs(layer, clone):
        new.trainable = old.trainable


def _pairs(layer, clone):
    """Returns the variables of both in pairs; None where they are not alike."""
    lists = [layer.variables, clone.variables]
    if _signature(lists[0]) != _signature(lists[1]):
        # What Keras has quantized has its variables in another order than what it makes so.
        lists = [sorted(variables, key=lambda variable: variable.path) for variables in lists]
    if _signature(lists[0]) != _signature(lists[1]):
        return None
    return list(zip(*lists, strict=True))


def _signature(variables):
    return [(tuple(variable.shape), variable.dtype) for variable in variables]
