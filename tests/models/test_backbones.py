"""What holds for every backbone."""

import functools
import math
import re

import keras
import numpy as np
import pytest

from keras_fmm import layers, models
from tests.models.families import FAMILIES, WHOLE, small
from tests.support.weightless import weightless

TWO_SOURCES = keras.Input((32, 32, 3)) + keras.Input((32, 32, 3))

ALL = pytest.mark.parametrize("family", FAMILIES)
# The Wide ResNet with sums has the blocks of the FMMNet.
RUN = pytest.mark.parametrize("family", [family for family in WHOLE if family != "wide_resnet"])


def images(model, count=4):
    return np.random.default_rng(0).uniform(size=(count, *model.input_shape[1:])).astype("float32")


@pytest.mark.slow_on_tensorflow
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
def test_without_the_top_sizes_may_be_unknown(family):
    model = small(family, input_shape=(None, None, 3), include_top=False)
    outputs = model(np.ones((2, 33, 45, 3), "float32"))
    assert (outputs.shape[0], len(outputs.shape)) == (2, 4)
    assert np.isfinite(np.asarray(outputs)).all()


@ALL
@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_pooling_ends_a_model_without_the_top(family, pooling):
    with weightless():
        model = small(family, input_shape=(None, None, 3), include_top=False, pooling=pooling)
    assert model.layers[-1].name == f"{pooling}_pool"
    assert len(model.output_shape) == 2


@ALL
def test_layer_names_tell_the_place(family):
    with weightless():
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
    with weightless():
        model = small("fmmnet", attention=gate, convolution=mine)
    assert model.get_layer("stage3_block1_conv1").reduction == 4
    assert isinstance(model.get_layer("stage3_block1_attention"), layers.GATES[gate])


PLACES = {
    "bottleneck_resnet": ("branch", "stage"),
    "basic_resnet": ("branch", "stage"),
    "wide_resnet": ("branch", "stage"),
    "fmmnet": ("branch", "stage"),
    "mobilenet": ("depthwise", "pointwise"),
}


@ALL
def test_a_dict_says_which_gate_stands_where(family):
    first, second = PLACES[family]
    with weightless():
        model = small(family, attention={first: "eca", second: layers.SqueezeExcite})
    found = {
        kind: [layer.name for layer in model.layers if isinstance(layer, kind)]
        for kind in (layers.EfficientChannelAttention, layers.SqueezeExcite)
    }
    blocks = [
        layer.name.removesuffix("_pointwise_conv").removesuffix("_conv1")
        for layer in model.layers
        if layer.name.endswith(("_pointwise_conv", "_conv1"))
    ]
    stages = sorted({block[:6] for block in blocks})
    names = {
        "branch": [f"{block}_attention" for block in blocks],
        "stage": [f"{stage}_attention" for stage in stages],
        "depthwise": [f"{block}_depthwise_attention" for block in blocks],
        "pointwise": [f"{block}_pointwise_attention" for block in blocks],
    }
    assert list(found.values()) == [names[first], names[second]]
    if second == "stage":
        # A stage ends in its gate.
        ends = models.feature_model(model, stages).outputs
        gates = [model.get_layer(name).output for name in names["stage"]]
        assert [end is gate for end, gate in zip(ends, gates, strict=True)] == [True] * len(stages)


@ALL
@pytest.mark.parametrize("nothing", [{}, {0: None}, {0: None, 1: None}])
def test_a_dict_without_a_gate_adds_none(family, nothing):
    attention = {PLACES[family][index]: gate for index, gate in nothing.items()}
    with weightless():
        model = small(family, attention=attention)
    assert not [layer.name for layer in model.layers if "attention" in layer.name]


@pytest.mark.parametrize("family", ["wide_resnet", "mobilenet"])
def test_a_gate_for_the_default_places_is_a_dict_of_them(family):
    default = {"wide_resnet": ("branch",), "mobilenet": ("depthwise", "pointwise")}[family]
    with weightless():
        one = small(family, attention="eca")
        other = small(family, attention=dict.fromkeys(default, "eca"))
    assert [layer.name for layer in one.layers[1:]] == [layer.name for layer in other.layers[1:]]


@ALL
def test_takes_another_layers_output(family):
    inputs = keras.Input(FAMILIES[family].keywords["input_shape"])
    with weightless():
        model = small(family, input_tensor=keras.layers.Rescaling(1 / 255)(inputs))
    assert model.input is inputs
    assert model.output_shape == (None, 3)


@ALL
def test_channels_first_has_the_same_parameters(family):
    known = FAMILIES[family].keywords["input_shape"]
    with weightless():
        expected = small(family, attention="squeeze_excite").count_params()
    keras.config.set_image_data_format("channels_first")
    try:
        with weightless():
            model = small(family, attention="squeeze_excite", input_shape=(3, *known[:2]))
        assert model.count_params() == expected
        assert model.output_shape == (None, 3)
    finally:
        keras.config.set_image_data_format("channels_last")


@RUN
def test_half_precision(family):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = small(family, attention="cbam", convolution="aw")
    # JAX would compile each operation by itself, TensorFlow's graph takes longer than one call.
    run = model if keras.backend.backend() == "tensorflow" else model.predict_on_batch
    assert np.isfinite(np.asarray(run(images(model))).astype("float32")).all()
    assert all(weight.dtype == "float32" for weight in model.trainable_weights)


@ALL
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"attention": "se"}, ValueError, "`attention` must be None, one of"),
        ({"attention": 3}, TypeError, "`attention` must be None, a name or a callable"),
        ({"attention": layers.CBAM()}, TypeError, "`attention` must be None, a name or a callable"),
        ({"attention": {"end": "eca"}}, ValueError, r"`attention` as a .*'(branch|depthwise)', '"),
        ({"attention": {"end": "eca"}}, ValueError, r"Received: the place 'end' in attention=\{'e"),
        ({"attention": keras.layers.Flatten}, ValueError, "`attention` must .*the shape .None, "),
        ({"convolution": "conv"}, ValueError, "`convolution` must be None"),
        ({"classes": 0}, ValueError, "`classes` must be a positive integer"),
        ({"pooling": "sum"}, ValueError, "`pooling` must be one of None, 'avg'"),
        ({"input_shape": (3, 3, 3)}, ValueError, "must be at least .* Received: input_shape"),
        ({"input_shape": (8, 8)}, ValueError, "must have rank 4"),
        ({"input_shape": 8}, TypeError, "`input_shape` must be a tuple of integers"),
        ({"input_shape": "abc"}, TypeError, "`input_shape` must be a tuple of integers"),
        ({"input_shape": {8, 16, 3}}, TypeError, "`input_shape` must be a tuple of integers"),
        ({"input_shape": (8.0, 8, 3)}, TypeError, "`input_shape.0.` must be a positive integer"),
        ({"input_tensor": 3}, TypeError, "`input_tensor` must be .* Received: input_tensor=3"),
        ({"input_tensor": "abc"}, TypeError, "`input_tensor` must be a `keras.Input` or"),
        ({"input_tensor": np.ones((1, 8, 8, 3))}, TypeError, r"=ndarray of shape \(1, 8, 8, 3\)"),
        ({"input_tensor": keras.KerasTensor((1, 32, 32, 3))}, ValueError, "comes from 0"),
        ({"input_tensor": TWO_SOURCES}, ValueError, "comes from 2"),
        ({"classifier_activation": "abc"}, ValueError, "Received: classifier_activation='abc'"),
        ({"input_shape": (8, 8, None)}, ValueError, "must be known"),
        ({"weights": 7}, TypeError, "`weights` must be .* Received: weights=7"),
        ({"weights": ""}, ValueError, "`weights` must be .* Received: weights=''"),
        ({"weights": "absent.h5"}, OSError, "Received: weights='absent.h5'.* there is no file"),
    ],
)
def test_refuses(family, arguments, error, message):
    with weightless(), pytest.raises(error, match=message):
        small(family, **arguments)


@pytest.mark.parametrize("depth", [4, 9, 27, 40.0])
def test_a_wide_resnet_refuses_depths_that_it_has_not(depth):
    with pytest.raises((TypeError, ValueError), match=r"`depth` must be 6 n \+ 4"):
        models.WideResNet(depth)


@pytest.mark.parametrize("place", ["branch", "depthwise"])
def test_a_wrong_gate_of_a_dict_is_named_by_its_place(place):
    family = {"branch": "fmmnet", "depthwise": "mobilenet"}[place]
    for gate, error in (("se", ValueError), (3, TypeError), (layers.CBAM(), TypeError)):
        with pytest.raises(error, match=f"At the place '{place}': `attention` must be"):
            small(family, attention={place: gate})


@pytest.mark.slow
def test_a_network_too_deep_for_keras_is_refused_and_one_of_102_blocks_is_not():
    with weightless():
        model = models.from_preset("fmmnet208_1", input_shape=(8, 8, 1))
        with pytest.raises(ValueError, match="limit of recursion.*Take fewer blocks, or raise"):
            models.WideResNet(1204, 1, input_shape=(8, 8, 1), residual="centered_multiply")
    gates = [layer for layer in model.layers if isinstance(layer, layers.MultiplicativeResidual)]
    assert len(gates) == 102
    assert {gate.form for gate in gates} == {"centered"}
    assert gates[-1].name == "stage3_block34_centered_multiply"


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX compiles such a step for minutes")
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_102_products_take_steps_in_half_precision(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(17)
        model = models.from_preset("fmmnet208_1", input_shape=(8, 8, 1))
    finally:
        keras.config.set_dtype_policy(before)
    model.compile(keras.optimizers.SGD(0.1, 0.9), "categorical_crossentropy", run_eagerly=True)
    assert (model.optimizer.name == "loss_scale_optimizer") == (policy == "mixed_float16")
    images = np.random.default_rng(0).uniform(size=(10, 8, 8, 1)).astype("float32")
    losses = [float(model.train_on_batch(images, np.eye(10))) for _ in range(4)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    for weight in model.weights:
        assert np.isfinite(keras.ops.convert_to_numpy(weight).astype("float32")).all()
    # The weights of the gates have left 0.
    gates = [weight for weight in model.weights if weight.path.endswith("/scale")]
    assert len(gates) == 102
    assert all(keras.ops.convert_to_numpy(gate).any() for gate in gates)


class SkipAtFirst(keras.layers.Layer):
    """`x + a F(x)` with a from 0: all zeros where x is, until it is trained."""

    def build(self, input_shape):
        self.scale = self.add_weight(name="scale", shape=(), initializer="zeros")

    def call(self, inputs):
        return inputs[1] + self.scale * inputs[0]


class ScaledProduct(SkipAtFirst):
    def call(self, inputs):
        return (1 + self.scale) * inputs[0] * inputs[1]


@pytest.mark.parametrize(
    "residual", ["multiply", "centered_multiply", keras.layers.Multiply, ScaledProduct]
)
@pytest.mark.parametrize("resnet", [models.ResNet50, models.ResNet18])
def test_a_resnet_refuses_products_and_names_what_takes_them(resnet, residual):
    with pytest.raises(ValueError, match=r"zeros a product never leaves.*`WideResNet`"):
        resnet(residual=residual)


@pytest.mark.parametrize("residual", ["add", keras.layers.Maximum, SkipAtFirst])
def test_a_resnet_takes_what_zeros_do_leave(residual):
    model = small("basic_resnet", residual=residual)
    assert model.get_layer("stage4_block1_add" if residual == "add" else "stage4_block1_residual")


class TwoArguments(keras.layers.Layer):
    def call(self, branch, shortcut):
        return branch + shortcut


@pytest.mark.parametrize("family", ["bottleneck_resnet", "wide_resnet"])
@pytest.mark.parametrize(
    ("residual", "error", "message"),
    [
        (None, TypeError, "`residual` must be a name or a callable"),
        (keras.layers.Add(), TypeError, "`residual` must be a name or a callable"),
        ("sum", ValueError, "`residual` must be .*'add', 'multiply'"),
        (lambda name: 3, TypeError, "must return a `keras.layers.Layer`"),
        (TwoArguments, TypeError, r"is called on \[branch, shortcut\]. Received: .*TwoArguments"),
        (keras.layers.Concatenate, ValueError, "`residual` must give a layer whose outputs here"),
        (lambda name: keras.layers.Flatten(name=name), ValueError, "`residual` must give a layer"),
    ],
)
def test_refuses_residuals(family, residual, error, message):
    with pytest.raises(error, match=message):
        small(family, residual=residual)


@pytest.mark.parametrize("wrong", [{"filters": 3}, {"strides": 3}, {"padding": "valid"}])
def test_refuses_a_convolution_of_another_shape(wrong):
    with pytest.raises(ValueError, match=r"`convolution` must give a layer whose outputs here"):
        small("wide_resnet", convolution=lambda **kw: keras.layers.Conv2D(**{**kw, **wrong}))


@pytest.mark.parametrize(
    ("side", "stem"), [(32, "small"), (64, "small"), (65, "imagenet"), (None, "imagenet")]
)
def test_resnets_stem_follows_the_size_of_the_image(side, stem):
    resnet = functools.partial(models.ResNet, (1, 1, 1, 1), filters=4, include_top=False)
    with weightless():
        model = resnet(input_shape=(side, side, 3))
    assert model.get_layer("stem_conv").kernel_size == ((3, 3) if stem == "small" else (7, 7))
    halvings = {"small": 3, "imagenet": 5}[stem]
    if side is not None:
        assert model.output_shape[1] == math.ceil(side / 2**halvings)


def test_an_image_too_small_for_the_imagenet_stem_is_refused():
    with pytest.raises(ValueError, match="at least 32"):
        models.ResNet((1, 1, 1, 1), input_shape=(31, 40, 3), stem="imagenet")


def test_arguments_stand_where_those_of_keras_applications_do():
    with weightless():
        resnet = models.ResNet18(False, None, None, (8, 8, 3), "avg", 7, None, "mine")
        arguments = ((32, 32, 3), 0.25, 1, 0.5, True, None, None, None, 7, None, "mine")
        mobilenet = models.MobileNet(*arguments)
    assert (resnet.name, resnet.output_shape) == ("mine", (None, 512))
    assert (mobilenet.name, mobilenet.output_shape) == ("mine", (None, 7))
    assert mobilenet.get_layer("dropout").rate == 0.5


@pytest.mark.parametrize(
    ("blocks", "error"),
    [
        (None, TypeError),
        (3, TypeError),
        ({1, 2, 3, 4}, TypeError),
        (dict.fromkeys(range(1, 5)), TypeError),
        ("1111", TypeError),
        (b"1111", TypeError),
        ((1, 1, 1), ValueError),
        ((1, 1, 1, 0), ValueError),
        ((1, 1, 1, 1.0), TypeError),
    ],
    ids=repr,
)
def test_a_resnet_has_a_number_of_blocks_for_each_of_four_stages(blocks, error):
    with pytest.raises(error, match=r"`blocks_per_stage(\[3\])?` must .*: blocks_per_stage.*="):
        models.ResNet(blocks, input_shape=(8, 8, 3))
