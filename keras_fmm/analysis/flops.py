"""The cost of a model, in multiply-adds."""

import math
from collections.abc import Callable, Mapping

import keras

from keras_fmm import checks, graph, protocols

# Layers with weights of rank 2 or more that make no convolution and no matrix product.
_NO_PRODUCTS = (keras.layers.Embedding, keras.layers.PReLU)

# Layers without weights that multiply tensors with each other.
_UNCOUNTED_LAYERS = (keras.layers.AdditiveAttention, keras.layers.Attention, keras.layers.Dot)

# Bare operations, by the names of their classes in keras.ops, that do and are not counted here.
_UNCOUNTED_OPERATIONS = (
    "Conv",
    "ConvTranspose",
    "DepthwiseConv",
    "DotProductAttention",
    "Einsum",
    "Matmul",
    "SeparableConv",
    "Dot",
    "Tensordot",
)


def flops(
    model: keras.Model,
    input_shape: tuple | None = None,
    costs: Mapping[type, Callable] | None = None,
) -> int:
    """Returns the multiply-adds of a model for one sample.

    One multiply-add is counted for each multiplication in a convolution, a matrix product or a
    product of features (`keras.layers.Multiply`, a gate); so a convolution costs
    `out_height * out_width * kernel_height * kernel_width * in_channels / groups * filters`. Sums,
    pooling, bias, normalisation and activation are not counted. This is what papers on
    convolutional networks call FLOPs; where a FLOP is an addition or a multiplication, double it.

    Counted are Keras' convolutions and `Dense`, and every layer with a method
    `multiply_adds(input_shape)`, as those of this package have. A layer without weights, or with
    weights of rank 1 only, which shift or scale, counts nothing; any other must be in `costs`. A
    layer called several times counts at each call; nested models are entered. Of bare operations,
    a product of two features counts, as above, and sums and the like count nothing.

    Args:
        model: a functional or Sequential `keras.Model`, built.
        input_shape: tuple or None, default None (the model's own). Without the batch, for a model
            of one input whose height and width are unknown.
        costs: dict or None, default None. From a layer's class to a function of the layer and its
            input's shape (a tuple, or a list of them, the batch first) that returns its
            multiply-adds; it goes before what is known here.

    Returns:
        int.

    Raises:
        TypeError: `input_shape` is no sequence of integers and None, or `costs` is no dict.
        ValueError: sizes are not known, the model is neither functional nor built, or it holds a
            layer or an operation whose cost is not known.

    Example:

    >>> import keras
    >>> inputs = keras.Input((8, 8, 3))
    >>> outputs = keras.layers.Conv2D(4, 3, padding="same")(inputs)
    >>> flops(keras.Model(inputs, outputs)) == 8 * 8 * 3 * 3 * 3 * 4
    True
    """
    graph.check_model(model)
    costs = {} if costs is None else checks.mapping("costs", costs)
    inputs = model.inputs
    if input_shape is not None:
        if len(inputs) > 1:
            raise ValueError(
                "`input_shape` is for a model of one input. "
                f"Received: a model of {len(inputs)} inputs. Build it with known sizes."
            )
        inputs = [
            keras.KerasTensor(
                (None, *checks.shape("input_shape", input_shape)), dtype=inputs[0].dtype
            )
        ]

    def is_entered(operation, args, kwargs):
        has_cost = type(operation) in costs or isinstance(operation, protocols.HasCost)
        return graph.is_graph(operation) and not has_cost

    def shapes(call):
        return call.operation.compute_output_spec(*call.args, **call.kwargs)

    try:
        calls = graph.read(model, is_entered).replay(inputs, shapes).calls
    except ValueError as error:
        if input_shape is None:
            raise
        raise ValueError(
            f"`input_shape` must be what the model takes, {model.inputs[0].shape[1:]}. "
            f"Received: input_shape={input_shape!r} ({error})"
        ) from error
    return sum(_cost(call, costs) for call in calls if not call.is_entered)


def _cost(call, costs):
    try:
        return _counted(call, costs)
    except _UnknownSizesError as error:
        raise ValueError(
            f"The cost of layer {call.path!r} depends on sizes that are not known. "
            f"Received: shape={error}. Give `input_shape` with height and width."
        ) from error


def _counted(call, costs):
    layer, outputs = call.operation, call.output
    inputs = call.args[0] if call.args else call.kwargs
    tensors = [x for x in keras.tree.flatten(call.args) if isinstance(x, keras.KerasTensor)]
    shape = tensors[0].shape if len(tensors) == 1 else [x.shape for x in tensors]
    if type(layer) in costs:
        return costs[type(layer)](layer, shape)
    if isinstance(layer, protocols.HasCost):
        if not callable(layer.multiply_adds):
            raise ValueError(
                "`multiply_adds` of a layer must be a method of the input's shape. Received: "
                f"{layer.multiply_adds!r}, of the layer {call.path!r}."
            )
        return layer.multiply_adds(shape)
    name = type(layer).__name__
    if not isinstance(layer, keras.layers.Layer):
        if name in _UNCOUNTED_OPERATIONS:
            raise ValueError(
                "The multiply-adds of bare convolutions and matrix products are not counted. "
                f"Received: the operation {call.path!r} of class {name}. Put it into a layer "
                "that has a method `multiply_adds(input_shape)`."
            )
        is_product = name == "Multiply" and len(tensors) == 2
        return _sizes(outputs) if is_product else 0
    for kinds, rule in _RULES:
        if isinstance(layer, kinds):
            return rule(layer, inputs, outputs)
    has_products = any(len(weight.shape) > 1 for weight in layer.weights)
    if isinstance(layer, _UNCOUNTED_LAYERS) or (
        has_products and not isinstance(layer, _NO_PRODUCTS)
    ):
        raise ValueError(
            "The multiply-adds of every layer that multiplies must be known. "
            f"Received: the layer {call.path!r} of class {name}. Give the class a method "
            "`multiply_adds(input_shape)`, or `flops` the argument `costs`."
        )
    return 0


def _sizes(tensor, axes=slice(1, None)):
    """Returns the product of a tensor's sizes, the batch left out."""
    sizes = tensor.shape[axes]
    if None in sizes:
        raise _UnknownSizesError(tuple(tensor.shape))
    return math.prod(sizes)


class _UnknownSizesError(ValueError):
    """Holds a shape."""


def _positions(layer, tensor):
    axes = slice(1, -1) if layer.data_format == "channels_last" else slice(2, None)
    return _sizes(tensor, axes)


def _convolution(layer, inputs, outputs):
    return math.prod(layer.kernel.shape) * _positions(layer, outputs)


def _transposed_convolution(layer, inputs, outputs):
    return math.prod(layer.kernel.shape) * _positions(layer, inputs)


def _separable_convolution(layer, inputs, outputs):
    kernels = math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
    return kernels * _positions(layer, outputs)


def _dense(layer, inputs, outputs):
    return math.prod(layer.kernel.shape) * _sizes(inputs, slice(1, -1))


def _product_of_features(layer, inputs, outputs):
    return (len(inputs) - 1) * _sizes(outputs)


_RULES = (
    (
        (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose),
        _transposed_convolution,
    ),
    (
        (
            keras.layers.Conv1D,
            keras.layers.Conv2D,
            keras.layers.Conv3D,
            keras.layers.DepthwiseConv1D,
            keras.layers.DepthwiseConv2D,
        ),
        _convolution,
    ),
    ((keras.layers.SeparableConv1D, keras.layers.SeparableConv2D), _separable_convolution),
    (keras.layers.Dense, _dense),
    (keras.layers.Multiply, _product_of_features),
)
