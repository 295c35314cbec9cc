"""Where attention goes in a model when nobody says where."""

import functools
import operator

import keras

from keras_fmm.graph import NORMALIZERS
from keras_fmm.models.upgrading.structure import is_convolution, is_feature_map, sides
from keras_fmm.protocols import StartsAsSum

_GLOBAL_POOLING = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)


def default_convolutions(structure, candidates):
    """Returns those of the candidates, all Conv2D, that are 3x3 or larger and not the stem.

    Where there is none: the 1x1 ones that are not the stem and see more than one position.
    """
    stem, single = set(), set()
    for place, call in enumerate(structure.calls):
        if not structure.has_convolution_before(place):
            stem.add(id(call.operation))
        if call.sources and _is_single(structure.calls[call.sources[0]]):
            single.add(id(call.operation))
    body = [layer for layer in candidates if id(layer) not in stem]
    wide = [layer for layer in body if min(layer.kernel_size) >= 3]
    pointwise = [layer for layer in body if tuple(layer.kernel_size) == (1, 1)]
    return wide or [layer for layer in pointwise if id(layer) not in single]


def _is_single(call):
    """Says whether a call gives a map of one position."""
    return is_feature_map(call.outputs) and tuple(sides(call)) == (1, 1)


def default_gates(structure):
    """Returns what ends the residual branches; without any, what precedes each downsampling."""
    places = _branch_ends(structure) or _before_downsamplings(structure)
    found = {}
    for place in places:
        operation = structure.calls[place].operation
        found[id(operation)] = operation
    return list(found.values())


def _branch_ends(structure):
    ends = []
    for call in structure.calls:
        if is_sum(call.operation) or isinstance(call.operation, StartsAsSum):
            ends += branches(structure, call.sources)
        elif _is_own_merge(structure, call):
            ends += _linear(structure, branches(structure, call.sources))
        elif _is_product(call.operation):
            # Other products are gates more often than residuals: of a map with one computed from
            # it by a sigmoid, or of one position.
            ends += _linear(structure, branches(structure, call.sources, identity_only=True))
    return ends


def is_sum(operation):
    """Says whether this is `keras.layers.Add` or a bare sum."""
    is_layer = isinstance(operation, keras.layers.Layer)
    return isinstance(operation, keras.layers.Add) or (
        not is_layer and type(operation).__name__ == "Add"
    )


def _is_product(operation):
    is_layer = isinstance(operation, keras.layers.Layer)
    return isinstance(operation, keras.layers.Multiply) or (
        not is_layer and type(operation).__name__ == "Multiply"
    )


def _is_own_merge(structure, call):
    """Says whether a layer of a user's own makes one map of two of its shape."""
    is_of_keras = type(call.operation).__module__.split(".")[0] == "keras"
    is_own = isinstance(call.operation, keras.layers.Layer) and not is_of_keras
    maps = [structure.calls[source].outputs for source in call.sources]
    return is_own and len(maps) == 2 and all(map(is_feature_map, [*maps, call.outputs]))


def _linear(structure, ends):
    return [end for end in ends if _ends_linear(structure.calls[end].operation)]


def _ends_linear(operation):
    activation = getattr(operation, "activation", keras.activations.linear)
    return bool(_weights(operation)) and activation is keras.activations.linear


def branches(structure, sources, identity_only=False):
    """Returns which inputs of a sum end residual branches; none where it has no shortcut.

    The shortcut is the one with the shortest way from their nearest common ancestor; an input
    that all others come from has none at all.
    """
    maps = [structure.calls[source].outputs for source in sources]
    if len(sources) < 2 or not all(is_feature_map(outputs) for outputs in maps):
        return []
    # Sizes may be unknown within a nested model and known around it; but one of 1 beside one that
    # is not known is of a map of one position.
    shapes = [outputs[0].shape for outputs in maps]
    for axis, sizes in enumerate(map(set, zip(*shapes, strict=True))):
        if len(sizes - {None}) > 1 or (axis > 0 and sizes == {None, 1}):
            return []
    common = functools.reduce(operator.and_, (structure.reach(source) for source in sources))
    if not common:
        return []
    nearest = common.bit_length() - 1
    lengths = [_longest_way(structure, nearest, source) for source in sources]
    shortcut = min(lengths)
    if identity_only and shortcut > 0:
        return []
    return [
        source
        for source, length in zip(sources, lengths, strict=True)
        if length > shortcut and _weights_between(structure, nearest, source)
    ]


def _longest_way(structure, first, last):
    lengths = {first: 0}
    for place in structure.between(first, last):
        sources = structure.calls[place].sources
        lengths[place] = 1 + max(lengths[source] for source in sources if source in lengths)
    return lengths[last]


def _weights(operation):
    return getattr(operation, "weights", [])


def _weights_between(structure, first, last):
    places = structure.between(first, last)
    return any(_weights(structure.calls[place].operation) for place in places)


def _before_downsamplings(structure):
    places, heads = [], 0
    for place, call in enumerate(structure.calls):
        # What flattens a classifier that is a convolution stands behind the head.
        if _is_head(structure, place) and not structure.ancestors[place] & heads:
            heads |= 1 << place
        elif not _downsamples(call.operation):
            continue
        feature = call.sources[0]
        while _pads(structure.calls[feature].operation):
            feature = structure.calls[feature].sources[0]
        # Never before the stem, and not where nothing has been learned since the last place.
        is_new = all(
            _weights_between(structure, other, feature)
            for other in places
            if structure.reach(feature) >> other & 1
        )
        has_features = structure.has_convolution_before(place)
        if _embeds_patches(structure, place, feature):
            places = [other for other in places if not structure.reach(feature) >> other & 1]
            continue
        if is_feature_map(structure.calls[feature].outputs) and has_features and is_new:
            places.append(feature)
    return places


def _embeds_patches(structure, place, feature):
    """Says whether tokens are made of the stem's own map, as at the start of a transformer.

    The stem goes from the first convolution to the last that only projects or makes patches larger.
    """
    firsts = (
        other
        for other in range(feature + 1)
        if structure.reach(feature) >> other & 1
        and is_convolution(structure.calls[other].operation)
        and not structure.has_convolution_before(other)
    )
    return _makes_tokens(structure, place) and not any(
        _learns_between(structure, first, feature) for first in firsts
    )


def _makes_tokens(structure, place):
    """Says whether a map becomes a sequence here, at once or by what has no weights behind it."""
    call = structure.calls[place]
    if isinstance(call.operation, _GLOBAL_POOLING):
        return False
    return all(len(output.shape) == 3 for output in call.outputs) or any(
        place in later.sources and not _weights(later.operation) and _makes_tokens(structure, other)
        for other, later in enumerate(structure.calls)
    )


def _learns_between(structure, first, last):
    """Says whether there are weights between two places that mix neighbours at full size."""
    operations = (structure.calls[place].operation for place in structure.between(first, last))
    return any(
        _weights(x) and not isinstance(x, NORMALIZERS) and not _embeds(x) for x in operations
    )


def _embeds(operation):
    """Says whether this takes each position by itself, or makes one of several."""
    if isinstance(operation, (keras.layers.Dense, keras.layers.PReLU)):
        return True
    is_pointwise = tuple(getattr(operation, "kernel_size", ())) == (1, 1)
    return is_convolution(operation) and (is_pointwise or _downsamples(operation))


def _downsamples(operation):
    strides = getattr(operation, "strides", None) or 1
    is_up = isinstance(operation, keras.layers.Conv2DTranspose)
    return not is_up and max(strides if isinstance(strides, (tuple, list)) else [strides]) > 1


def _pads(operation):
    return isinstance(operation, keras.layers.ZeroPadding2D) or type(operation).__name__ == "Pad"


def _is_head(structure, place):
    """Says whether maps end here: global pooling or a flattening with no map behind it."""
    call = structure.calls[place]
    if not call.sources or not is_feature_map(structure.calls[call.sources[0]].outputs):
        return False
    ends = isinstance(call.operation, _GLOBAL_POOLING) or all(
        len(output.shape) < 4 for output in call.outputs
    )
    return ends and not any(
        structure.ancestors[other] >> place & 1
        and is_feature_map(later.outputs)
        and not _is_single(later)
        for other, later in enumerate(structure.calls)
    )
