"""Feature maps of a backbone, for detection, segmentation and Grad-CAM."""

import re

import keras

from keras_fmm import checks, graph


def feature_model(model, names=None):
    """Returns a model that gives feature maps from inside another; the layers are shared.

    Args:
        model: functional or built Sequential `keras.Model`.
        names: list or tuple of str or None, default None: names of stages ("stage2" is the end of
            the second stage of a backbone of this package, with its activation where it has one),
            or names or paths of layers ("backbone/conv1", see `keras_fmm.graph`). None: every
            stage, the first first.

    Returns:
        `keras.Model` from the inputs of `model` to a list of maps, in the order of `names`. A
        nested model whose inside is asked for is cut to that, under a name of its own; what stands
        behind it runs it once more, and Keras cannot load such a model from a file.

    Raises:
        TypeError: `names` is no list or tuple of str.
        ValueError: the model is not functional or has no stages, a name stands for no layer, for
            several, or for one inside a layer that is no model.

    Example:

    >>> from keras_fmm import models
    >>> backbone = models.ResNet18(include_top=False, input_shape=(64, 64, 3), stem="imagenet")
    >>> [x.shape for x in feature_model(backbone).outputs]
    [(None, 16, 16, 64), (None, 8, 8, 128), (None, 4, 4, 256), (None, 2, 2, 512)]
    """
    graph.check_model(model)
    # The layers are in the order in which they run, so that the last one of a stage ends it.
    ends = {}
    for layer in model.layers:
        match = re.match(r"(stage\d+)_", layer.name)
        if match is not None:
            ends[match.group(1)] = f"/{layer.name}"
    if names is None and not ends:
        raise ValueError(
            "`names` must name layers where a model has no stages. "
            f"Received: names=None for the model {model.name!r}. Give a list of layers' names."
        )
    names = list(ends) if names is None else checks.listed("names", names, str)
    if not names:
        raise ValueError("`names` must name at least one layer. Received: names=[]")
    paths = [_path(model, name, ends) for name in names]
    inputs = graph.functional(model).input
    return keras.Model(inputs, _outputs(model, paths), name=model.name)


def _path(model, name, ends):
    """Returns the path of the call that a name of a stage or a layer stands for."""
    is_stage = isinstance(name, str) and re.fullmatch(r"stage\d+", name)
    known = {*ends, *(layer.name for layer in model.layers)}
    if is_stage and ends and name not in known:
        raise ValueError(
            "`names` must name stages or layers of the model. Received: "
            f"names={name!r} for the model {model.name!r}, whose stages are {', '.join(ends)}."
        )
    return graph.find_call(model, "names", ends.get(name, name) if is_stage else name).path


def _outputs(model, paths):
    """Returns the outputs of calls in a model: its own tensors, or what a nested model is cut to.

    No layer learns of it, so that `layer.output` stays what it was.
    """
    nodes = {call.path: call.node for call in graph.level(model).calls}
    names = [layer.name for layer in graph.input_layers(model)]
    inputs = dict(zip(names, model.inputs, strict=True))
    found, inside = {}, {}
    for path in paths:
        first, _, rest = path.partition("/")
        if rest:
            inside.setdefault(nodes[first].operation, []).append((first, rest))
        else:
            outputs = nodes[path].outputs if path in nodes else [inputs[path]]
            found[path] = outputs[0] if len(outputs) == 1 else outputs
    for nested, wanted in inside.items():
        if not graph.is_graph(nested):
            raise ValueError(
                "`names` must name layers of the model or of functional models nested in it. "
                f"Received: {wanted[0][1]!r} inside {nested.name!r} of class "
                f"{type(nested).__name__}. Name that."
            )
        # One for all its calls: Keras saves the layers of two models only once.
        rests = list(dict.fromkeys(rest for _, rest in wanted))
        outputs = _outputs(nested, rests)
        outputs = outputs if len(rests) > 1 else outputs[0]
        cut = keras.Model(graph.functional(nested).input, outputs)
        for first in dict.fromkeys(first for first, _ in wanted):
            arguments = nodes[first].arguments
            maps = graph.unnoted(cut, *arguments.args, **arguments.kwargs)
            maps = maps if len(rests) > 1 else [maps]
            found.update((f"{first}/{rest}", x) for rest, x in zip(rests, maps, strict=True))
    return [found[path] for path in paths]
