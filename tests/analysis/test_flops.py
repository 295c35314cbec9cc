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


def test_toy_cnn_by_hand():
    convolutions = 1024 * 27 * 32 + 256 * 288 * 64 + 64 * 576 * 64
    plain = convolutions + 1024 * 10
    assert analysis.flops(models.ToyCNN(input_shape=(32, 32, 3))) == plain
    gates = (1024 * 32 + 2 * 32 * 2) + (256 * 64 + 2 * 64 * 4) + (64 * 64 + 2 * 64 * 4)
    gated = models.ToyCNN(input_shape=(32, 32, 3), attention="squeeze_excite")
    assert analysis.flops(gated) == plain + gates


@pytest.mark.parametrize(
    ("application", "published"),
    [(keras.applications.ResNet50, 3.86), (keras.applications.MobileNet, 0.569)],
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
    assert analysis.flops(keras.Model(inputs, L.Add()(both))) == 0


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


def test_refuses_a_layer_whose_cost_it_does_not_know():
    model = model_of(L.Reshape((48, 4)), L.LSTM(2, name="memory"))
    with pytest.raises(ValueError, match="Received: the layer 'memory' of class LSTM. Give it"):
        analysis.flops(model)


def test_refuses_unknown_sizes():
    model = model_of(L.Conv2D(2, 3, name="first"), shape=(None, None, 4))
    with pytest.raises(ValueError, match="cost of layer 'first' depends on .* Give `input_shape`"):
        analysis.flops(model)


@pytest.mark.parametrize("model", [keras.Sequential([L.Dense(2)]), None])
def test_refuses_what_has_no_inputs(model):
    with pytest.raises(ValueError, match="must be a functional `keras.Model` or a built"):
        analysis.flops(model)
