import math

import keras
import pytest

from keras_fmm import analysis, layers, models

L = keras.layers


def model_of(*stack, shape=(8, 6, 4)):
    inputs = x = keras.Input(shape)
    for layer in stack:
        x = layer(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (L.Conv2D(5, 3), 6 * 4 * 9 * 4 * 5),
        (L.Conv2D(6, 3, strides=2, padding="same", groups=2), 4 * 3 * 9 * 2 * 6),
        (L.DepthwiseConv2D(3, depth_multiplier=2, padding="same"), 8 * 6 * 9 * 4 * 2),
        (L.SeparableConv2D(5, 3, padding="same"), 8 * 6 * (9 * 4 + 4 * 5)),
        (L.Conv2DTranspose(5, 3, strides=2), 8 * 6 * 9 * 5 * 4),
        (L.Dense(5), 8 * 6 * 4 * 5),
        (L.BatchNormalization(), 0),
        (L.MaxPooling2D(), 0),
        (layers.SqueezeExcite(reduction=2), 2 * 8 + 8 * 6 * 4),
        (layers.AWConv2D(5, 3, reduction=2), 24 * 180 + 9 * (4 * 2 + 2 * 5) + 180),
    ],
)
def test_by_hand(layer, expected):
    assert analysis.flops(model_of(layer)) == expected


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (L.Conv1D(5, 3), (8, 4), 6 * 3 * 4 * 5),
        (L.DepthwiseConv1D(3, padding="same"), (8, 4), 8 * 3 * 4),
        (L.SeparableConv1D(5, 3), (8, 4), 6 * (3 * 4 + 4 * 5)),
        (L.Conv1DTranspose(5, 3), (8, 4), 8 * 3 * 5 * 4),
        (L.Conv3D(5, 3), (4, 4, 5, 2), 2 * 2 * 3 * 27 * 2 * 5),
        (L.Conv3DTranspose(5, 3), (4, 4, 5, 2), 4 * 4 * 5 * 27 * 5 * 2),
        (L.Conv2D(5, 3, data_format="channels_first"), (4, 8, 6), 6 * 4 * 9 * 4 * 5),
        (L.LayerNormalization(), (8, 4), 0),
        (L.Embedding(9, 3), (8,), 0),
        (L.PReLU(), (8, 4), 0),
    ],
)
def test_other_ranks_by_hand(layer, shape, expected):
    assert analysis.flops(model_of(layer, shape=shape)) == expected


def test_toy_cnn_by_hand():
    convolutions = 1024 * 27 * 32 + 256 * 288 * 64 + 64 * 576 * 64
    plain = convolutions + 1024 * 10
    assert analysis.flops(models.ToyCNN(input_shape=(32, 32, 3))) == plain
    gates = (1024 * 32 + 2 * 32 * 2) + (256 * 64 + 2 * 64 * 4) + (64 * 64 + 2 * 64 * 4)
    gated = models.ToyCNN(input_shape=(32, 32, 3), attention="squeeze_excite")
    assert analysis.flops(gated) == plain + gates


@pytest.mark.parametrize(
    ("application", "published"),
    [
        pytest.param(keras.applications.ResNet50, 3.86, marks=pytest.mark.slow),
        (keras.applications.MobileNet, 0.569),
    ],
)
def test_of_published_networks(application, published):
    model = application(weights=None, include_top=False, input_shape=(None, None, 3))
    millions = analysis.flops(model, (224, 224, 3)) / 1e6
    assert millions == pytest.approx(published * 1e3, abs=6)


def test_products_of_features_count_and_sums_do_not():
    inputs = keras.Input((8, 6, 4))
    both = [L.ReLU()(inputs), inputs]
    assert analysis.flops(keras.Model(inputs, L.Multiply()(both))) == 192
    assert analysis.flops(keras.Model(inputs, layers.MultiplicativeResidual()(both))) == 192
    assert analysis.flops(keras.Model(inputs, L.Multiply()([*both, inputs]))) == 2 * 192
    assert analysis.flops(keras.Model(inputs, L.Add()(both))) == 0


@pytest.mark.parametrize("layer", [L.Dot(axes=2), L.Attention()])
def test_products_of_tensors_without_weights_are_refused_unless_told(layer):
    inputs = keras.Input((8, 4))
    model = keras.Model(inputs, layer([inputs, inputs]))
    with pytest.raises(ValueError, match="every layer that multiplies must be known"):
        analysis.flops(model)
    told = {type(layer): lambda layer, shapes: shapes[0][1] * shapes[1][1] * shapes[0][2]}
    assert analysis.flops(model, costs=told) == 8 * 8 * 4


def test_a_layer_called_twice_counts_twice_and_operations_not():
    inputs = keras.Input((8, 6, 4))
    dense = L.Dense(4)
    model = keras.Model(inputs, dense(dense(inputs)) + inputs)
    nodes = len(dense._inbound_nodes)
    assert analysis.flops(model) == 2 * 8 * 6 * 16
    assert len(dense._inbound_nodes) == nodes


def test_nested_models_are_entered():
    inner = model_of(L.Conv2D(5, 3), shape=(None, None, 4))
    sequential = keras.Sequential([keras.Input((6, 4, 5)), L.Dense(2)])
    assert analysis.flops(model_of(inner, sequential)) == 24 * 180 + 24 * 10


def test_a_sequential_and_a_model_of_two_inputs():
    assert analysis.flops(keras.Sequential([keras.Input((3,)), L.Dense(4)])) == 12
    a, b = keras.Input((3,), name="a"), keras.Input((5,), name="b")
    model = keras.Model({"a": a, "b": b}, L.Concatenate()([L.Dense(2)(a), L.Dense(2)(b)]))
    assert analysis.flops(model) == 16
    with pytest.raises(ValueError, match="is for a model of one input. Received: a model of 2"):
        analysis.flops(model, (3,))


def test_a_layer_whose_cost_is_not_known_is_refused_unless_told():
    model = model_of(L.Reshape((48, 4)), L.LSTM(2, name="memory"))
    with pytest.raises(ValueError, match="Received: the layer 'memory' of class LSTM. Give the"):
        analysis.flops(model)
    told = {L.LSTM: lambda layer, shape: shape[1] * 4 * layer.units * (shape[2] + layer.units)}
    assert analysis.flops(model, costs=told) == 48 * 8 * 6


def test_operations_with_constants_and_products_of_features():
    inputs = keras.Input((8, 6, 4))
    halves = (inputs[:, ::2] * 2.0 + 1.0) / 3.0
    assert analysis.flops(keras.Model(inputs, halves)) == 0
    assert analysis.flops(keras.Model(inputs, halves * halves)) == 96
    with pytest.raises(ValueError, match=r"bare convolutions and .* Received: the operation"):
        analysis.flops(keras.Model(inputs, keras.ops.matmul(inputs, halves[:, 0:1, 0:4])))


@pytest.mark.parametrize(
    "application",
    [
        keras.applications.MobileNetV3Small,
        pytest.param(keras.applications.ConvNeXtTiny, marks=pytest.mark.slow),
    ],
)
def test_networks_with_operations_and_layers_that_only_scale(application):
    model = application(weights=None, include_top=False, input_shape=(64, 64, 3))
    kernels = sum(math.prod(w.shape) for w in model.trainable_weights if len(w.shape) > 1)
    # Every kernel is used at one position at least.
    assert analysis.flops(model) > kernels


def test_refuses_unknown_sizes():
    model = model_of(L.Conv2D(2, 3, name="first"), shape=(None, None, 4))
    with pytest.raises(ValueError, match="cost of layer 'first' depends on .* Give `input_shape`"):
        analysis.flops(model)


@pytest.mark.parametrize("model", [keras.Sequential([L.Dense(2)]), None])
def test_refuses_what_has_no_inputs(model):
    with pytest.raises(ValueError, match="must be a functional `keras.Model`, or a Seq"):
        analysis.flops(model)
