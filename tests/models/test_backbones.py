"""What holds for every backbone."""

import functools
import math
import re

import keras
import numpy as np
import pytest

from keras_fmm import layers, models
from tests.models.families import FAMILIES, WHOLE, small

ALL = pytest.mark.parametrize("family", FAMILIES)
RUN = pytest.mark.parametrize("family", WHOLE)


def images(model, count=4):
    return np.random.default_rng(0).uniform(size=(count, *model.input_shape[1:])).astype("float32")


@RUN
def test_one_step_of_training_changes_every_weight(family):
    model = small(family, attention="squeeze_excite", convolution="aw")
    before = [np.array(value) for value in model.get_weights()]
    # Which weights a loss reaches is the same in a graph, that takes ten times as long to trace;
    # JAX would compile each operation by itself.
    model.compile(
        keras.optimizers.SGD(0.1),
        "sparse_categorical_crossentropy",
        run_eagerly=keras.backend.backend() == "tensorflow",
    )
    history = model.fit(images(model), np.array([0, 1, 2, 1]), batch_size=4, verbose=0)
    assert math.isfinite(history.history["loss"][0])
    same = [
        weight.path
        for weight, old in zip(model.weights, before, strict=True)
        if np.array_equal(np.asarray(weight.value), old) and "seed" not in weight.path
    ]
    # A hidden unit of a small gate may be off for all images.
    assert len(same) < 0.1 * len(before), same


@RUN
@pytest.mark.parametrize("pooling", [None, "avg", "max"])
def test_without_the_top_sizes_may_be_unknown(family, pooling):
    shape = {"input_shape": (None, None, 3), "include_top": False, "pooling": pooling}
    outputs = small(family, **shape)(np.ones((2, 33, 45, 3), "float32"))
    assert outputs.shape[0] == 2
    assert len(outputs.shape) == (4 if pooling is None else 2)
    assert np.isfinite(np.asarray(outputs)).all()


@ALL
def test_layer_names_tell_the_place(family):
    model = small(family, attention="eca", convolution="aw")
    place = r"(stem|head|stage\d_block\d)_\w+|avg_pool|dropout|predictions"
    assert [layer.name for layer in model.layers[1:] if not re.fullmatch(place, layer.name)] == []
    gates = [layer for layer in model.layers if "_attention" in layer.name]
    assert gates
    assert all(isinstance(gate, layers.EfficientChannelAttention) for gate in gates)
    assert any(isinstance(layer, layers.AWConv2D) for layer in model.layers)
    if family != "mobilenet":
        residuals = [layer for layer in model.layers if layer.name.endswith(("_add", "_multiply"))]
        for gate, residual in zip(gates, residuals, strict=True):
            assert residual.input[0] is gate.output
            assert gate.name.removesuffix("_attention") == residual.name.rpartition("_")[0]


@pytest.mark.parametrize("gate", layers.GATES)
def test_any_gate_and_convolution_combine(gate):
    mine = functools.partial(layers.AWConv2D, reduction=4)
    model = small("fmmnet", attention=gate, convolution=mine)
    assert model.get_layer("stage3_block1_conv1").reduction == 4
    assert isinstance(model.get_layer("stage3_block1_attention"), layers.GATES[gate])
    outputs = np.asarray(model(images(model)))
    np.testing.assert_allclose(outputs.sum(axis=-1), np.ones(4), rtol=1e-5)


@ALL
def test_takes_another_layers_output(family):
    known = small(family).input_shape[1:]
    inputs = keras.Input(known)
    model = small(family, input_tensor=keras.layers.Rescaling(1 / 255)(inputs))
    assert model.input is inputs
    assert model.output_shape == (None, 3)


@ALL
def test_channels_first_has_the_same_parameters(family):
    expected = small(family, attention="squeeze_excite").count_params()
    known = small(family).input_shape[1:]
    keras.config.set_image_data_format("channels_first")
    try:
        model = small(family, attention="squeeze_excite", input_shape=(3, *known[:2]))
        assert model.count_params() == expected
        assert model.output_shape == (None, 3)
    finally:
        keras.config.set_image_data_format("channels_last")


@RUN
def test_half_precision(family):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = small(family, attention="cbam", convolution="aw")
    assert np.isfinite(np.asarray(model(images(model))).astype("float32")).all()
    assert all(weight.dtype == "float32" for weight in model.trainable_weights)


@ALL
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"attention": "se"}, ValueError, "`attention` must be None, one of"),
        ({"attention": 3}, TypeError, "`attention` must be None, a name or a callable"),
        ({"attention": layers.CBAM()}, TypeError, "`attention` must be None, a name or a callable"),
        ({"convolution": "conv"}, ValueError, "`convolution` must be None"),
        ({"classes": 0}, ValueError, "`classes` must be a positive integer"),
        ({"pooling": "sum"}, ValueError, "`pooling` must be one of None, 'avg'"),
        ({"input_shape": (3, 3, 3)}, ValueError, "must be at least .* Received: input_shape"),
        ({"input_shape": (8, 8)}, ValueError, "must have rank 4"),
        ({"input_shape": (8, 8, None)}, ValueError, "must be known"),
        ({"weights": 7}, TypeError, "`source` must be a model or the path"),
        ({"weights": "absent.h5"}, OSError, "absent.h5, which could not be read"),
    ],
)
def test_refuses(family, arguments, error, message):
    with pytest.raises(error, match=message):
        small(family, **arguments)


@pytest.mark.parametrize("depth", [4, 9, 27, 40.0])
def test_a_wide_resnet_refuses_depths_that_it_has_not(depth):
    with pytest.raises((TypeError, ValueError), match=r"`depth` must be 6 n \+ 4"):
        models.WideResNet(depth)


def test_a_resnet_refuses_products_and_names_what_takes_them():
    with pytest.raises(ValueError, match=r"zeros a product never leaves.*`WideResNet`"):
        models.ResNet50(residual="multiply")


@pytest.mark.parametrize(
    ("side", "stem"), [(32, "small"), (64, "small"), (65, "imagenet"), (None, "imagenet")]
)
def test_resnets_stem_follows_the_size_of_the_image(side, stem):
    resnet = functools.partial(models.ResNet, (1, 1, 1, 1), filters=4, include_top=False)
    model = resnet(input_shape=(side, side, 3))
    assert model.get_layer("stem_conv").kernel_size == ((3, 3) if stem == "small" else (7, 7))
    halvings = {"small": 3, "imagenet": 5}[stem]
    if side is not None:
        assert model.output_shape[1] == math.ceil(side / 2**halvings)


def test_an_image_too_small_for_the_imagenet_stem_is_refused():
    with pytest.raises(ValueError, match="at least 32"):
        models.ResNet((1, 1, 1, 1), input_shape=(31, 40, 3), stem="imagenet")


def test_arguments_stand_where_those_of_keras_applications_do():
    model = models.ResNet18(False, None, None, (8, 8, 3), "avg", 7, None, "mine")
    assert (model.name, model.output_shape) == ("mine", (None, 512))
    model = models.MobileNet((32, 32, 3), 0.25, 1, 0.5, True, None, None, None, 7, None, "mine")
    assert (model.name, model.output_shape) == ("mine", (None, 7))
    assert model.get_layer("dropout").rate == 0.5
