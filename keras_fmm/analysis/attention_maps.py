"""What the gates of a model attend to."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_fmm import checks, graph, hints, protocols
from keras_fmm.analysis.images import over_batches, prepared


def attention_maps(
    model: keras.Model,
    images: hints.ArrayLike,
    batch_size: int = 128,
    verbose: hints.Verbose = "auto",
    queries: Sequence[tuple[int, int]] | None = None,
    layers: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
    """Returns the map of every gate of a model, for each image.

    A gate is any layer with a method `attention_map(inputs)`, as all attention layers of this
    package have. Those in nested models are found, those inside a subclassed model or another
    layer are not.

    Args:
        model: functional or Sequential `keras.Model` of one input.
        images: array `(n, height, width, channels)`, or what the model takes; float32 or integers.
        batch_size: int, at least 1, default 128. The images that are run at once.
        verbose: "auto", 0, 1 or 2, default "auto". When progress is shown. "auto" shows a bar after
            five seconds, 0 never, 1 from the first step on; 2 writes one line at the end.
        queries: list of pairs of int or None, default None. For layers of self-attention: the row
            and column of each position whose looks are asked for, on the map that is attended to.
            None: all positions, which holds a number for each pair of positions. Gates, which have
            one map, do without.
        layers: list of str or None, default None. The names or paths of the gates whose maps are
            asked for, as where maps differ in size and `queries` lie on some of them alone. None:
            all.

    Returns:
        Dict of float32 NumPy arrays, by the layers' paths in the order in which they run. One in
        a nested model is "backbone/stage1_attention"; a later call of the same layer ends in ":2",
        ":3" and so on. (Keys with dots are found for one more release.) Each map is as the layer
        gives it, the images first: for a `FeatureGate` it broadcasts against the gate's inputs,
        such as `(n, 1, 1, channels)` or `(n, height, width, 1)`; for layers of self-attention
        `(n, queries, heads, height, width)`.

    Raises:
        TypeError: the images hold no numbers, `queries` are no pairs of integers, or `layers` no
            list of str.
        ValueError: the model has no gate, is subclassed or not built; the images do not fit it, or
            are not finite; one of `layers` is no gate or none at all; there are `queries`, but no
            layer takes them, or one lies outside of what it attends to.

    Example:

    >>> import numpy as np
    >>> from keras_fmm import models
    >>> model = models.ToyCNN(input_shape=(8, 8, 3), attention="squeeze_excite")
    >>> maps = attention_maps(model, np.zeros((5, 8, 8, 3)))
    >>> list(maps)
    ['stage1_attention', 'stage2_attention', 'stage3_attention']
    >>> maps["stage2_attention"].shape
    (5, 1, 1, 64)
    """
    batch_size = checks.positive_integer("batch_size", batch_size)
    model, images = prepared(model, images)
    flat = graph.flat_graph(model)
    gates = [call for call in flat.calls if isinstance(call.operation, protocols.HasAttentionMap)]
    if not gates:
        raise ValueError(
            "`model` must have a gate: a layer with a method `attention_map`. "
            f"Received: the model {model.name!r}, where neither it nor a model nested in it has "
            "one (a model called with `training=True` is not entered). Build it with "
            "`attention=...`, or upgrade it with `keras_fmm.models.upgrade`."
            f"{graph.said_of_closed(model)}"
        )
    if layers is not None:
        gates = _named(model, gates, checks.listed("layers", layers, str))
    if queries is not None:
        queries = [
            tuple(checks.listed("queries", query)) for query in checks.listed("queries", queries)
        ]
        if not any(_takes_queries(gate.operation) for gate in gates):
            raise ValueError(
                "`queries` are for layers of self-attention, whose `attention_map` takes them. "
                f"Received: queries={queries} for the model {model.name!r}, which has "
                f"{', '.join(gate.path for gate in gates)} alone. Leave it out."
            )
    asked = {} if queries is None else {"queries": queries}
    outputs = [
        graph.attention_map(gate, **(asked if _takes_queries(gate.operation) else {}))
        for gate in gates
    ]
    mapped = keras.Model(flat.inputs[0], outputs)

    def of_batch(images):
        # Keras gives the output itself where there is one.
        return keras.tree.flatten(mapped.predict_on_batch(images))

    maps = over_batches(of_batch, [images], batch_size, verbose)
    return graph.ByPath(zip((gate.path for gate in gates), maps, strict=True))


def _named(model, gates, paths):
    """Returns those of the gates that have one of these paths, in the order in which they run."""
    found = [graph.find_call(model, "layers", path) for path in paths]
    wanted = {(id(call.operation), call.number) for call in found}
    chosen = [gate for gate in gates if (id(gate.operation), gate.number) in wanted]
    if not chosen or len(chosen) < len(wanted):
        raise ValueError(
            "`layers` must name gates, layers with a method `attention_map`, in a model and not in "
            f"another layer. Received: layers={list(paths)} for the model {model.name!r}, whose "
            f"gates are {', '.join(gate.path for gate in gates)}."
        )
    return chosen


def _takes_queries(layer):
    return checks.takes(layer.attention_map, None, queries=None)
