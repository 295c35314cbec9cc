"""The sizes of the papers' networks, to the unit where a paper or another library gives it."""

import functools
import math

import keras
import pytest

from keras_fmm import analysis, layers, models
from tests.support.weightless import weightless

if keras.backend.backend() != "tensorflow":
    pytest.skip("takes long to build, and no backend makes a difference", allow_module_level=True)

SIZES = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "se_resnet50": 28_088_024,
    "cbam_resnet50": 28_089_624,
    "mobilenet": 4_231_976,
    "wide_resnet28_10": 36_479_194,
}

# In millions, as the AW paper rounds them.
ROUNDED = {
    "aw_resnet50": 25.72,
    "aw_se_resnet50": 28.25,
    "se_mobilenet": 5.07,
    "cbam_spatial_mobilenet": 5.07,
}

ON_CIFAR100 = {
    "resnet50": 23.71,
    "aw_resnet50": 23.87,
    "se_resnet50": 26.24,
    "aw_se_resnet50": 26.40,
}


@functools.cache
def preset_model(preset, **arguments):
    with weightless():
        return models.from_preset(preset, **arguments)


# For `preset_model`, which keeps what it built.
CIFAR100 = {"classes": 100, "input_shape": (32, 32, 3)}


def trainable(model):
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


@pytest.mark.parametrize("preset", SIZES)
def test_sizes_to_the_unit(preset):
    assert trainable(preset_model(preset)) == SIZES[preset]


@pytest.mark.parametrize("preset", ROUNDED)
def test_sizes_as_the_paper_rounds_them(preset):
    assert round(trainable(preset_model(preset)) / 1e6, 2) == ROUNDED[preset]


@pytest.mark.parametrize("preset", ON_CIFAR100)
def test_sizes_on_cifar100(preset):
    model = preset_model(preset, **CIFAR100)
    assert round(trainable(model) / 1e6, 2) == ON_CIFAR100[preset]


# In thousand millions, as the papers round them.
MULTIPLY_ADDS = {
    "resnet50": (3.86, 2),
    "aw_resnet50": (3.87, 2),
    "se_resnet50": (3.87, 2),
    "resnet101": (7.57, 2),
    "mobilenet": (0.569, 3),
}


@pytest.mark.parametrize("preset", MULTIPLY_ADDS)
def test_multiply_adds_as_the_papers_round_them(preset):
    papers, digits = MULTIPLY_ADDS[preset]
    assert round(analysis.flops(preset_model(preset)) / 1e9, digits) == papers


def test_multiply_adds_on_cifar():
    assert round(analysis.flops(preset_model("resnet50", **CIFAR100)) / 1e9, 2) == 1.22


@pytest.mark.parametrize(
    ("preset", "use_spatial", "use_max_pool"),
    [
        ("aw_cbam_maxpool_resnet18", False, True),
        ("aw_cbam_spatial_mobilenet", True, False),
        ("cbam_resnet18", True, True),
    ],
)
def test_the_papers_two_cbams(preset, use_spatial, use_max_pool):
    model = preset_model(preset, input_shape=(32, 32, 3), classes=2)
    gates = [layer for layer in model.layers if isinstance(layer, layers.CBAM)]
    assert gates
    assert {(gate.use_spatial, gate.use_max_pool) for gate in gates} == {
        (use_spatial, use_max_pool)
    }
    has_aw = any(isinstance(layer, layers.AWConv2D) for layer in model.layers)
    assert has_aw == preset.startswith("aw_")
    assert model.name == preset


def test_mobilenets_aw_convolutions_are_every_second_pointwise_one():
    model = preset_model("aw_se_mobilenet", input_shape=(32, 32, 3))
    pointwise = [layer for layer in model.layers if layer.name.endswith("pointwise_conv")]
    assert [isinstance(layer, layers.AWConv2D) for layer in pointwise] == [False, True] * 6 + [
        False
    ]
    gates = [layer for layer in model.layers if isinstance(layer, layers.SqueezeExcite)]
    assert len(gates) == 26


def test_every_block_of_the_fmmnet_multiplies():
    model = preset_model("fmmnet16_4")
    products = [layer for layer in model.layers if isinstance(layer, layers.MultiplicativeResidual)]
    assert len(products) == 6
    assert not any(isinstance(layer, keras.layers.Add) for layer in model.layers)


def test_arguments_go_before_the_presets():
    model = preset_model("se_resnet18", name="mine", attention="eca", input_shape=(8, 8, 1))
    assert model.name == "mine"
    assert isinstance(model.get_layer("stage1_block1_attention"), layers.EfficientChannelAttention)


@pytest.mark.parametrize("name", ["se_resnet_50", "SE_ResNet50", "se-resnet50"])
def test_an_unknown_preset_is_told_the_nearest_first_and_few(name):
    message = rf"Received: preset='{name}'\. Near it: 'se_resnet50', .*list_presets\(\)` has all"
    with pytest.raises(ValueError, match=message) as raised:
        models.from_preset(name)
    assert len(str(raised.value)) < 250


@pytest.mark.parametrize("name", [3, None, [], {}])
def test_a_preset_is_named_by_a_str(name):
    with pytest.raises(TypeError, match="`preset` must be a str. Received: preset="):
        models.from_preset(name)
