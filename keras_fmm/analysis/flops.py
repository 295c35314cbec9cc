"""The cost of a model, in multiply-adds."""

import math

import keras

# Layers whose weights only shift, scale or look up: no convolution and no matrix product.
_ELEMENTWISE = (
    keras.layers.BatchNormalization,
    keras.layers.Embedding,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.Normalization,
    keras.layers.PReLU,
    keras.layers.RMSNormalization,
)


def flops(model, input_shape=None):
    """Returns the multiply-adds of a model for one sample.

    One multiply-add is counted for each multiplication in a convolution, a matrix product or a
    product of features (`keras.layers.Multiply`, a gate); so a convolution costs
    `out_height * out_width * kernel_height * kernel_width * in_channels / groups * filters`. Sums,
    pooling, bias, normalisation and activation are not counted. This is what papers on
    convolutional networks call FLOPs; where a FLOP is an addition or a multiplication, double it.

    A layer with a method `multiply_adds(input_shape)` says its own cost, as those of this package
    do. A layer called several times counts at each call, nested models are entered, bare
    operations (`x + y`, `keras.ops`) count nothing.

    Args:
        model: a functional or Sequential `keras.Model`, built.
        input_shape: tuple without the batch, for a model of one input whose height and width are
            unknown; None takes the model's own.

    Returns:
        int.

    Raises:
        ValueError: sizes are not known, the model is neither functional nor built, or a layer
            with weights is neither known here nor says its cost.

    Example:

    >>> import keras
    >>> inputs = keras.Input((8, 8, 3))
    >>> outputs = keras.layers.Conv2D(4, 3, padding="same")(inputs)
    >>> flops(keras.Model(inputs, outputs)) == 8 * 8 * 3 * 3 * 3 * 4
    True
    """
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ValueError(
            "`model` must be a functional `keras.Model` or a built Sequential. "
            f"Received: model={model}. Call `model.build(input_shape)` on a Sequential first."
        )
    model = _functional(model)
    inputs = model.input
    if input_shape is not None:
        if not isinstance(inputs, keras.KerasTensor):
            raise ValueError(
                "`input_shape` is for a model of one input. "
                f"Received: a model of {len(model.inputs)} inputs. Build it with known sizes."
            )
        inputs = keras.KerasTensor((None, *input_shape), dtype=inputs.dtype)
    return _model_cost(model, inputs)


def _functional(model):
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs[0])
    return model


def _model_cost(model, inputs):
    """Visits each call of each layer once, and leaves the model and its layers as they were."""
    calls = []
    keras.models.clone_model(
        model,
        input_tensors=keras.tree.map_structure(
            lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype), inputs
        ),
        clone_function=lambda layer: _Probe(layer, calls),
    )
    return sum(_layer_cost(*call) for call in calls)


class _Probe(keras.layers.Layer):
    """Stands for a layer in a clone: gives its output's shape, and notes the call in a list."""

    def __init__(self, layer, calls):
        super().__init__(name=layer.name, autocast=False)

        def visit(*args, **kwargs):
            outputs = layer.compute_output_spec(*args, **kwargs)
            if isinstance(layer, keras.layers.Layer):
                calls.append((layer, args[0] if args else kwargs, outputs))
            return outputs

        # A function, not the layer itself: Keras would track a layer as a part of this one.
        self._visit = visit

    def call(self, *args, **kwargs):
        return self._visit(*args, **kwargs)

    def compute_output_spec(self, *args, **kwargs):
        return self._visit(*args, **kwargs)


def _layer_cost(layer, inputs, outputs):
    if isinstance(layer, keras.Model):
        return _model_cost(_functional(layer), inputs)
    if hasattr(layer, "multiply_adds"):
        is_one = isinstance(inputs, keras.KerasTensor)
        return layer.multiply_adds(inputs.shape if is_one else [x.shape for x in inputs])
    for kinds, rule in _RULES:
        if isinstance(layer, kinds):
            return rule(layer, inputs, outputs)
    if layer.trainable_variables and not isinstance(layer, _ELEMENTWISE):
        raise ValueError(
            "The multiply-adds of every layer with weights must be known. "
            f"Received: the layer {layer.name!r} of class {type(layer).__name__}. "
            "Give it a method `multiply_adds(input_shape)`."
        )
    return 0


def _sizes(layer, tensor, axes=slice(1, None)):
    """Returns the product of a tensor's sizes, the batch left out."""
    sizes = tensor.shape[axes]
    if None in sizes:
        raise ValueError(
            f"The cost of layer {layer.name!r} depends on sizes that are not known. "
            f"Received: shape={tuple(tensor.shape)}. Give `input_shape` with height and width."
        )
    return math.prod(sizes)


def _positions(layer, tensor):
    axes = slice(1, -1) if layer.data_format == "channels_last" else slice(2, None)
    return _sizes(layer, tensor, axes)


def _convolution(layer, inputs, outputs):
    return math.prod(layer.kernel.shape) * _positions(layer, outputs)


def _transposed_convolution(layer, inputs, outputs):
    return math.prod(layer.kernel.shape) * _positions(layer, inputs)


def _separable_convolution(layer, inputs, outputs):
    kernels = math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
    return kernels * _positions(layer, outputs)


def _dense(layer, inputs, outputs):
    return math.prod(layer.kernel.shape) * _sizes(layer, inputs, slice(1, -1))


def _product_of_features(layer, inputs, outputs):
    return (len(inputs) - 1) * _sizes(layer, outputs)


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
