import functools

import keras
import numpy as np
import pytest

from keras_fmm import layers, models


def test_parameters_on_cifar10_are_the_papers():
    assert models.ToyCNN(input_shape=(32, 32, 3)).count_params() == 66570


@pytest.mark.parametrize("name", layers.GATES)
def test_each_gate_stands_after_each_relu(name):
    model = models.ToyCNN(input_shape=(16, 16, 1), classes=3, attention=name)
    for stage in (1, 2, 3):
        gate = model.get_layer(f"stage{stage}_attention")
        assert isinstance(gate, layers.GATES[name])
        assert gate.input is model.get_layer(f"stage{stage}_relu").output
        assert model.get_layer(f"stage{stage}_pool").input is gate.output
    assert model(np.zeros((2, 16, 16, 1))).shape == (2, 3)


def test_a_callable_gives_each_place_its_own_gate():
    model = models.ToyCNN(
        input_shape=(8, 8, 1), attention=lambda: layers.SqueezeExcite(reduction=4)
    )
    gates = [model.get_layer(f"stage{stage}_attention") for stage in (1, 2, 3)]
    assert len({id(gate) for gate in gates}) == 3
    assert all(gate.reduction == 4 for gate in gates)


def test_takes_another_convolution_by_name_or_callable():
    model = models.ToyCNN(input_shape=(8, 8, 1), convolution="aw")
    assert all(isinstance(model.get_layer(f"stage{i}_conv"), layers.AWConv2D) for i in (1, 2, 3))
    mine = functools.partial(layers.AWConv2D, reduction=4)
    model = models.ToyCNN(input_shape=(8, 8, 1), convolution=mine)
    assert model.get_layer("stage2_conv").reduction == 4


def test_takes_a_preprocessing_layer_and_counts_from_its_input():
    inputs = keras.Input((8, 8, 1))
    model = models.ToyCNN(input_tensor=keras.layers.Rescaling(1 / 255)(inputs))
    assert model.input is inputs


@pytest.mark.parametrize(
    ("pooling", "shape"), [(None, (2, 1, 2, 64)), ("avg", (2, 64)), ("max", (2, 64))]
)
def test_without_the_top_sizes_may_be_unknown(pooling, shape):
    model = models.ToyCNN(
        include_top=False, input_shape=(None, None, 1), pooling=pooling, attention="cbam"
    )
    x = np.random.default_rng(0).normal(size=(2, 9, 17, 1)).astype("float32")
    outputs = model(x)
    assert outputs.shape == shape
    features = np.asarray(keras.Model(model.input, model.get_layer("stage3_pool").output)(x))
    expected = {None: features, "avg": features.mean((1, 2)), "max": features.max((1, 2))}
    np.testing.assert_allclose(outputs, expected[pooling], rtol=1e-5, atol=1e-6)


def test_arguments_stand_where_those_of_keras_applications_do():
    model = models.ToyCNN(True, None, None, (8, 8, 1), None, 3, "softmax", "my_model")
    assert model.name == "my_model"
    assert model.output.shape == (None, 3)


def test_channels_first_has_the_same_parameters():
    keras.config.set_image_data_format("channels_first")
    try:
        model = models.ToyCNN(input_shape=(3, 32, 32), attention="squeeze_excite")
    finally:
        keras.config.set_image_data_format("channels_last")
    assert model.get_layer("stage1_attention").output.shape == (None, 32, 32, 32)
    assert model.output.shape == (None, 10)


def test_weights_load(tmp_path):
    saved = models.ToyCNN(input_shape=(8, 8, 1))
    saved.save_weights(tmp_path / "toy.weights.h5")
    loaded = models.ToyCNN(input_shape=(8, 8, 1), weights=tmp_path / "toy.weights.h5")
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 1))
    np.testing.assert_array_equal(loaded(x), saved(x))


def test_logits_without_the_classifiers_activation():
    model = models.ToyCNN(input_shape=(8, 8, 1), classifier_activation=None)
    assert model.get_layer("predictions").activation is keras.activations.linear


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs `input_shape` or `input_tensor`"),
        ({"input_shape": (7, 8, 1)}, "must be at least 8"),
        ({"input_shape": (None, None, 1)}, "must be known for the dense layer at its"),
        ({"input_shape": (8, 8, 1, 1)}, "must have rank 4"),
        ({"input_shape": (8, 8, 1), "classes": 0}, "`classes` must be a positive integer"),
        ({"input_shape": (8, 8, 1), "pooling": "sum"}, "`pooling` must be one of None, 'avg'"),
        ({"input_shape": (8, 8, 1), "attention": "se"}, "`attention` must be None, one of"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.ToyCNN(**arguments)
