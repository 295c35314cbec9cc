"""The calls of a model's layers as one flat graph, models nested in it entered.

The paths by which measurements name layers and calls, one grammar for all: the names of the models
and layers in which a layer stands and its own, joined by dots, "backbone.stage1_attention". That is
the layer's first call; ":2" and so on follow the name of what the graph calls again, "shared:2",
"twice:2.inside". Inside a layer that is no model they stand last, "gate.excite:2", and "_2" and so
on follow where such a layer holds several layers of one name.
"""

import collections
import typing

import keras


class Call(typing.NamedTuple):
    """One call of a layer, a bare operation or a nested model in a flat graph.

    `path` is as the module says; of what is inside a layer that is no model there is no call. The
    arguments and the output are symbolic, in the flat graph.
    """

    path: str
    layer: keras.Operation
    args: tuple
    kwargs: dict
    output: typing.Any


def flat_graph(model):
    """Returns a graph that computes what a model does, with every inner output within reach.

    Keras has no tensors of inside a nested model that belong to the whole. Here each layer is
    called anew through an operation that stands for it, so that the weights are the model's and
    neither the model nor its layers learn of it: their `output` stays what it was.

    Args:
        model: functional or Sequential `keras.Model`, built.

    Returns:
        inputs: list of fresh `keras.Input`, as `model.inputs`.
        calls: list of `Call` in the order in which they run, a nested model's own after those in
            it.
        outputs: list, as `model.outputs`.
    """
    inputs = [keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name) for x in model.inputs]
    calls = []
    outputs = _enter(model, inputs, "", calls, collections.Counter())
    return inputs, calls, keras.tree.flatten(outputs)


def numbered(calls):
    """Returns for each call its layer's id and how many calls the layer had before it.

    By these a call in a model is found among those of its logits, where a nested model that is cut
    has another name, and so other paths.
    """
    counts = collections.Counter()
    found = []
    for call in calls:
        found.append((id(call.layer), counts[id(call.layer)]))
        counts[id(call.layer)] += 1
    return found


def _enter(model, tensors, prefix, calls, counts):
    """Adds the calls of a model on these inputs to a list, and returns its outputs."""

    def call(layer, *args, **kwargs):
        path = prefix + layer.name
        counts[path] += 1
        if counts[path] > 1:
            path += f":{counts[path]}"
        if _is_graph(layer, kwargs):
            given = args[0] if args else kwargs["inputs"]
            output = _enter(layer, given, path + ".", calls, counts)
        else:
            output = _StandIn(layer, path)(*args, **kwargs)
        calls.append(Call(path, layer, args, kwargs, output))
        return output

    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs[0], model.outputs[0])
    outputs = model._run_through_graph(tensors, call_fn=call)
    # As Keras does: a model of a list of one output gives the output.
    return outputs[0] if isinstance(outputs, list) and len(outputs) == 1 else outputs


def _is_graph(layer, kwargs):
    """Says whether the call of a layer is that of a graph of others, and of nothing more."""
    return (
        isinstance(layer, keras.Model)
        and bool(getattr(layer, "inputs", None))
        # Not a `call` of the user's own, nor one in training mode, which its layers would not see.
        and type(layer).call.__module__.partition(".")[0] == "keras"
        and not kwargs.get("training")
    )


class _StandIn(keras.Operation):
    """Calls a layer. Called symbolically itself, it keeps the layer from noting the call."""

    def __init__(self, layer, path):
        # Keras takes slashes in names for scopes.
        super().__init__(name=path.replace("/", "|"))
        self.layer = layer

    def call(self, *args, **kwargs):
        return self.layer(*args, **kwargs)

    def compute_output_spec(self, *args, **kwargs):
        return self.layer.compute_output_spec(*args, **kwargs)
