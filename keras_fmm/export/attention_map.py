"""A model that gives the attention map of one of its layers beside its scores."""

import keras

from keras_fmm import graph, protocols

# What the second output is called.
MAP = "attention_map"


def checked_layer(model, layer):
    """Returns the path of a gate in a model.

    Args:
        model: a built `keras.Model`.
        layer: str, the gate's name or path as in `keras_fmm.graph`, or the layer itself.

    Raises:
        TypeError: `layer` is neither.
        ValueError: it is none of the model's gates, or the model is subclassed or has several
            inputs or outputs.
    """
    return _gate(model, layer)[1].path


def with_map(model, layer):
    """Returns a model that gives a list: what `model` gives, and a gate's map.

    The weights are the model's, which does not learn of it.

    Args, raises: as `checked_layer`.
    """
    flat, gate = _gate(model, layer)
    both = keras.Model(flat.inputs, [*flat.outputs, graph.attention_map(gate)])
    both.output_names = [*graph.functional(model).output_names, MAP]
    # A flat graph has operations in the layers' places: this model finds its weights here.
    both.model = model
    return both


def _gate(model, layer):
    """Returns a flat graph of the model and which call in it is meant."""
    graph.check_model(model)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            "`attention_map` takes a model of one input and one output. Received: "
            f"{len(model.inputs)} inputs and {len(model.outputs)} outputs of the model "
            f"{model.name!r}."
        )
    flat = graph.flat_graph(model)
    gates = [call for call in flat.calls if isinstance(call.operation, protocols.HasAttentionMap)]
    if isinstance(layer, keras.layers.Layer):
        operation, number = layer, 0
    else:
        found = graph.find_call(model, "attention_map", layer)
        operation, number = found.operation, found.number
    for gate in gates:
        if gate.operation is operation and gate.number == number:
            return flat, gate
    known = ", ".join(repr(gate.path) for gate in gates[:20]) or "none"
    raise ValueError(
        "`attention_map` must be a gate that stands in the model: a layer with a method "
        f"`attention_map`. Received: attention_map={layer!r}, which is none. The gates of the "
        f"model {model.name!r}: {known}.{graph.said_of_closed(model)}"
    )
