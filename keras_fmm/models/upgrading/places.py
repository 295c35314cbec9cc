"""Which layers of a model are meant: by name, by predicate, or what can be."""

import collections
import inspect

import keras

from keras_fmm import checks, graph
from keras_fmm.models.upgrading.residuals import cannot_be_merged
from keras_fmm.models.upgrading.structure import is_convolution, is_feature_map
from keras_fmm.protocols import ReplacesConvolution


def cannot_be_gated(structure, operation):
    """Returns why a gate cannot follow this; None where it can."""
    outputs = structure.outputs.get(id(operation))
    if outputs is None:
        return "is inside another layer, which is no functional model"
    if isinstance(operation, keras.layers.InputLayer):
        return "is an input"
    if len(outputs) != 1:
        return f"has {len(outputs)} outputs"
    if not is_feature_map(outputs):
        return f"gives {outputs[0].dtype} of shape {tuple(outputs[0].shape)}"
    return structure.several_channels(operation)


def cannot_be_replaced(structure, operation):
    """Returns why this convolution cannot be replaced; None where it can."""
    kind = type(operation)
    if id(operation) not in structure.outputs:
        return "is inside another layer, which is no functional model"
    if isinstance(operation, ReplacesConvolution):
        article = "an" if kind.__name__[0] in "AEIO" else "a"
        return f"is {article} {kind.__name__} already"
    if kind is not keras.layers.Conv2D:
        subclass = ", which may compute something else" * issubclass(kind, keras.layers.Conv2D)
        return f"is of class {kind.__name__}{subclass}"
    if operation.groups != 1:
        return f"has groups={operation.groups}"
    if operation.quantization_mode is not None:
        return f"is quantized to {operation.quantization_mode}"
    if operation.lora_enabled:
        return "has LoRA enabled"
    if not is_feature_map(structure.outputs[id(operation)]):
        return "does not give a map of rank 4"
    return None


_REFUSALS = {"attention": cannot_be_gated, "residual": cannot_be_merged}


def choose(structure, argument, where, default, refusal, among=None):
    """Returns the chosen layers, operations and nested models, each once.

    Args:
        structure: `Structure`.
        argument: str, "attention", "convolution" or "residual", for the errors.
        where: None, a predicate or a sequence of names.
        default: function of a list of candidates; gives the choice for None.
        refusal: function `(structure, operation)` that says why one cannot be chosen, or None.
        among: list of what a predicate is called on; None: the layers.

    Raises:
        ValueError: nothing is chosen, or a name is unknown, ambiguous or cannot be chosen.
        TypeError: `where` is none of the three.
    """
    name = f"{argument}_where"
    # A layer and a class can be called too, and say nothing of a layer.
    is_predicate = callable(where) and not isinstance(where, (keras.Operation, type))
    if is_predicate and not checks.takes(where, structure.model):
        raise TypeError(
            f"`{name}` as a function must be of one argument, a layer. "
            f"Received: {name}={where!r}, which takes {inspect.signature(where)}."
        )
    if where is None or is_predicate:
        among = structure.layers() if among is None else among
        candidates = [layer for layer in among if not refusal(structure, layer)]
        chosen = default(candidates) if where is None else [x for x in candidates if where(x)]
    else:
        names = _as_names(name, where)
        chosen = [graph.find_layer(structure.model, name, item).operation for item in names]
        for operation in chosen:
            reason = refusal(structure, operation)
            if reason:
                raise ValueError(
                    f"`{name}` must name {_RULES[argument]}. Received: "
                    f"{structure.paths(operation)[0]!r}, which {reason}. Leave it out."
                )
    if not chosen:
        received = "None, which takes the default" if where is None else repr(where)
        raise ValueError(
            f"`{name}` must choose at least one layer. Received: {name}={received}, of a model "
            f"with {_summary(structure, argument)}. Name layers, or take another model."
            f"{graph.said_of_closed(structure.model)}"
        )
    return list({id(operation): operation for operation in chosen}.values())


_RULES = {
    "attention": "layers with one float output of rank 4",
    "convolution": "layers of the very class keras.layers.Conv2D with groups=1",
    "residual": "sums of a residual branch and its shortcut",
}


def _as_names(name, where):
    names = None if isinstance(where, (str, bytes)) else where
    try:
        names = list(names)
    except TypeError:
        names = [None]
    if not all(isinstance(item, str) for item in names):
        raise TypeError(
            f"`{name}` must be None, a list of layer names or a function of a layer. "
            f"Received: {name}={where!r}. For one layer give a list of one name."
        )
    return names


def _summary(structure, argument):
    """Says what a model holds, by kinds with a count and an example."""
    kinds = collections.defaultdict(list)
    for path, operation in structure.places.items():
        if id(operation) not in structure.outputs:
            continue
        if argument == "convolution" and is_convolution(operation):
            sizes = "x".join(map(str, operation.kernel_size))
            groups = getattr(operation, "groups", 1)
            kind = f"{type(operation).__name__} {sizes}" + f" (groups={groups})" * (groups > 1)
        elif argument != "convolution" and _REFUSALS[argument](structure, operation) is None:
            kind = type(operation).__name__
        else:
            continue
        kinds[kind].append(path)
    listed = "; ".join(
        f"{len(paths)} {kind}, such as {paths[0]!r}" for kind, paths in kinds.items()
    )
    what = {
        "attention": "feature maps",
        "convolution": "convolutions",
        "residual": "sums of a residual branch and its shortcut",
    }[argument]
    return f"these {what}: {listed}" if listed else f"no {what}"
