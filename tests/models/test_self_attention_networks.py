"""Networks of self-attention: their sizes by hand, what stands where, and what they compute."""

import functools
import math
import re

import keras
import numpy as np
import pytest

from keras_fmm import analysis, data, export, layers, models
from tests.support import attention_references, network_references, weights
from tests.support.weightless import weightless

ON_TENSORFLOW = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="no backend makes a difference"
)


def trainable(model):
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def halved(size, times):
    return [-(-side // 2**times) for side in size]


def plain(seen, filters, size):
    return 9 * seen * filters


def augmented(seen, filters, size, ratios=(0.2, 0.1)):
    """Bello et al. with 8 heads of at least 20 channels of keys, without biases."""
    keys = max(8 * round(ratios[0] * filters / 8), 160)
    values = 8 * round(ratios[1] * filters / 8)
    tables = (2 * size[0] - 1 + 2 * size[1] - 1) * keys // 8
    beside = 9 * seen * (filters - values)
    return beside + seen * (2 * keys + values) + values**2 + tables


def local(seen, filters, size):
    """Ramachandran et al., windows of 7."""
    return 3 * seen * filters + 7 * filters


def resnet(blocks, places, is_bottleneck=True, size=(56, 56), filters=64, stem=49 * 3 * 64):
    """Parameters for 1000 classes. `places` has a formula for each stage's 3x3 convolutions, or in
    blocks of two a pair of them; `size` is that of the first stage's map."""
    total, seen = stem + 2 * filters, filters
    for stage, (count, formula) in enumerate(zip(blocks, places, strict=True)):
        width = filters * 2**stage
        out, at = width * (4 if is_bottleneck else 1), halved(size, stage)
        for _ in range(count):
            if is_bottleneck:
                total += seen * width + formula(width, width, at) + width * out
                total += 2 * (2 * width + out)
            else:
                first, second = formula
                total += first(seen, width, at) + second(width, width, at) + 4 * width
            if seen != out:
                total += seen * out + 2 * out
            seen = out
    return total + 1000 * (seen + 1)


def wide_resnet(blocks, width, first, size=(32, 32), classes=100):
    total, seen = 27 * 16, 16
    for stage in range(3):
        filters, at = 16 * width * 2**stage, halved(size, stage)
        for _ in range(blocks):
            total += 2 * seen + first(seen, filters, at) + 2 * filters + 9 * filters**2
            total += seen * filters if seen != filters else 0
            seen = filters
    return total + 2 * seen + classes * (seen + 1)


AA = "attention_augmented"
RULE, BOTH = (plain, *[augmented] * 3), ((plain, plain), *[(augmented, augmented)] * 3)
QUARTER = functools.partial(augmented, ratios=(0.25, 0.25))
SIZES = {
    "AA-ResNet-50": (
        lambda: models.ResNet50(convolution=AA),
        resnet((3, 4, 6, 3), RULE),
        25_781_872,
    ),
    "AA-ResNet-101": (
        lambda: models.ResNet101(convolution=AA),
        resnet((3, 4, 23, 3), RULE),
        45_359_208,
    ),
    "AA-ResNet-152": (
        lambda: models.ResNet152(convolution=AA),
        resnet((3, 8, 36, 3), RULE),
        61_558_496,
    ),
    "AA-ResNet-18 at 160x96": (
        lambda: models.ResNet18(convolution=AA, input_shape=(160, 96, 3)),
        resnet((2, 2, 2, 2), BOTH, False, (40, 24)),
        None,
    ),
    "AA-ResNet-34, the fit": (
        lambda: models.from_preset("aa_resnet34"),
        resnet((3, 4, 6, 3), ((plain, plain), *[(QUARTER, plain)] * 3), False),
        20_749_552,
    ),
    "AA-ResNet of another width at 36x44": (
        lambda: models.ResNet((1, 2, 1, 1), convolution=AA, filters=80, input_shape=(36, 44, 3)),
        resnet((1, 2, 1, 1), RULE, size=(36, 44), filters=80, stem=27 * 80),
        None,
    ),
    "AA-WRN-28-10": (
        lambda: models.from_preset("aa_wide_resnet28_10", classes=100),
        wide_resnet(4, 10, augmented),
        36_312_660,
    ),
    "AA-WRN-16-6 at 30x21": (
        lambda: models.WideResNet(16, 6, convolution=AA, classes=7, input_shape=(30, 21, 3)),
        wide_resnet(2, 6, augmented, (30, 21), 7),
        None,
    ),
    "stand-alone 26": (
        lambda: models.from_preset("stand_alone_resnet26"),
        resnet((1, 2, 4, 1), [local] * 4),
        10_342_632,
    ),
    "stand-alone 38, of any size": (
        lambda: models.StandAloneResNet38(input_shape=(None, None, 3)),
        resnet((2, 3, 5, 2), [local] * 4),
        None,
    ),
    "stand-alone 50 in two stages": (
        lambda: models.StandAloneResNet50(stages=(3, 4)),
        resnet((3, 4, 6, 3), (plain, plain, local, local)),
        None,
    ),
    "attention stem": (
        lambda: models.from_preset("stand_alone_resnet26_attention_stem"),
        # Queries, keys, four matrices of values; embeddings of 4 rows, 4 columns and 4 mixtures.
        resnet((1, 2, 4, 1), [local] * 4, stem=6 * 3 * 64 + 12 * 64),
        None,
    ),
}


@ON_TENSORFLOW
@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_those_worked_out_by_hand(name):
    build, expected, known = SIZES[name]
    assert known in (None, expected)
    with weightless():
        assert trainable(build()) == expected


@ON_TENSORFLOW
@pytest.mark.parametrize(("depth", "published"), [(26, 4.5), (38, 5.7), (50, 7.0)])
def test_multiply_adds_are_half_of_the_operations_published(depth, published):
    with weightless():
        model = models.from_preset(f"stand_alone_resnet{depth}")
        assert analysis.flops(model) / 1e9 == pytest.approx(published / 2, rel=0.03)


AW_PLACES = {0: "", 1: "conv", 2: "qkv", 3: "projection"}


@ON_TENSORFLOW
@pytest.mark.parametrize("number", AW_PLACES)
def test_where_aw_convolutions_stand_in_an_augmented_network(number):
    with weightless():
        model = models.from_preset(f"aw_aa_wide_resnet28_10_{number}", classes=100)
    found = [layer for layer in model.layers if "block" in layer.name and "_conv" in layer.name]
    firsts = [layer for layer in found if layer.name.endswith("_conv1")]
    seconds = [layer for layer in found if layer.name.endswith("_conv2")]
    assert len(firsts) == len(seconds) == 12
    for layer in firsts:
        assert isinstance(layer, layers.AttentionAugmentedConv2D)
        inside = {
            name
            for name in ("conv", "qkv", "projection")
            if isinstance(getattr(layer, name), layers.AWConv2D)
        }
        assert inside == {AW_PLACES[number]} - {""}
    second = keras.layers.Conv2D if number else layers.AWConv2D
    assert {type(layer) for layer in seconds} == {second}


SMALL = functools.partial(
    layers.AttentionAugmentedConv2D, num_heads=2, key_dim=3, value_dim=1, positions="relative"
)


@pytest.mark.parametrize(
    ("resnet", "fitting"),
    [
        (functools.partial(models.ResNet, (2, 1, 1, 1), filters=32), r"stage[234]_.*_conv2"),
        (functools.partial(models.ResNet18), r"stage[234]_.*_conv[12]"),
        (functools.partial(models.WideResNet, 10, 4), r"stage\d_.*_conv1"),
    ],
)
def test_by_its_name_it_stands_where_its_paper_has_it(resnet, fitting):
    with weightless():
        model = resnet(convolution=AA, input_shape=(16, 24, 3))
    places = [layer.name for layer in model.layers if re.match(r"stage.*_conv\d", layer.name)]
    found = [
        layer.name for layer in model.layers if isinstance(layer, layers.AttentionAugmentedConv2D)
    ]
    assert found
    assert found == [name for name in places if re.fullmatch(fitting, name)]


def test_a_dict_says_which_convolution_stands_where():
    chosen = {"stage2_*": SMALL, "stage[23]_*": "aw", "*_block1_conv1": None}
    with weightless():
        model = models.WideResNet(10, 1, convolution=chosen)
    kinds = {
        layer.name: type(layer)
        for layer in model.layers
        if layer.name.endswith(("_conv1", "_conv2"))
    }
    expected = [keras.layers.Conv2D, layers.AttentionAugmentedConv2D, layers.AWConv2D]
    assert list(kinds.values()) == [kind for kind in expected for _ in range(2)]


@pytest.mark.parametrize(
    ("convolution", "error", "message"),
    [
        ({"stage4_*": "aw"}, ValueError, "stage1_block1_conv1, .*, stage3_block1_conv2. Received"),
        ({1: "aw"}, TypeError, "patterns of layers' names, each a str. Received: the pattern 1"),
        ({"*": "add"}, ValueError, r"At the places '\*': `convolution` must be None, one of"),
        ({"*": 3}, TypeError, r"At the places '\*': `convolution` must be None, a name"),
    ],
)
def test_refuses_a_dict_of_convolutions(convolution, error, message):
    with weightless(), pytest.raises(error, match=message):
        models.WideResNet(10, 1, convolution=convolution)


@pytest.mark.parametrize("shape", [(None, None, 3), (64, None, 3)])
def test_tables_need_a_size_and_the_error_says_how_to_give_it(shape):
    arguments = {"include_top": False, "input_shape": shape}
    known = rf"which must be known. Received: a map of \({shape[0] and 8}, None\).*height and width"
    with weightless(), pytest.raises(ValueError, match=known):
        models.ResNet50(convolution=AA, **arguments)
    # Of any size: tables of one's own, or other positions.
    sized = {"stage3_*": functools.partial(SMALL, position_size=14)}
    free = {"stage[24]_*": functools.partial(SMALL, positions="sinusoidal")}
    with weightless():
        model = models.ResNet((1, 1, 1, 1), convolution=sized | free, filters=4, **arguments)
    assert model.get_layer("stage3_block1_conv2").row_embeddings.shape == (27, 3)


@pytest.mark.parametrize("convolution", [AA, "local_attention"])
def test_padding_as_pytorch_has_it_is_that_of_convolutions_alone(convolution):
    # Attention has a place for each position, whatever a convolution there would see.
    arguments = {"filters": 32, "input_shape": (20, 20, 3), "convolution": convolution}
    with weightless():
        model = models.ResNet(
            (1, 1, 1, 1), stride_in_3x3=True, symmetric_padding=True, include_top=False, **arguments
        )
    assert model.output_shape == (None, 3, 3, 1024)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"stages": (0, 1)}, ValueError, "`stages` must be numbers of stages, 1 to 4"),
        ({"stages": "34"}, TypeError, "`stages` must be a list or tuple"),
        ({"kernel_size": 4}, ValueError, "`kernel_size` must be odd"),
        ({"num_heads": 3}, ValueError, "`num_heads` must divide the filters"),
        ({"num_heads": 64}, ValueError, "A head must have an even number of channels"),
        ({"positions": "absolute"}, ValueError, "`positions` must be one of None, 'relative'"),
        ({"stem": "convolution"}, ValueError, "`stem` must be one of .*'attention'"),
        ({"stem": "attention", "input_shape": (31, 32, 3)}, ValueError, "must be at least 32"),
    ],
)
def test_a_stand_alone_resnet_refuses(arguments, error, message):
    with weightless(), pytest.raises(error, match=message):
        models.StandAloneResNet26(**arguments)


class Network(network_references.Network):
    """With layers of attention in the place of convolutions."""

    def __init__(self, model, epsilon=1.001e-5):
        super().__init__(model, epsilon)
        self.attention = {
            layer.name: (layer, dict(zip(weights.names(layer), layer.get_weights(), strict=True)))
            for layer in model.layers
            if isinstance(layer, (layers.AttentionAugmentedConv2D, layers.LocalSelfAttention2D))
        }

    def convolution(self, x, name, strides=1, padding="same"):
        if name not in self.attention:
            return super().convolution(x, name, strides, padding)
        layer, named = self.attention[name]
        if isinstance(layer, layers.LocalSelfAttention2D):
            sizes = layer.kernel_size, layer.num_heads
            return attention_references.local_self_attention(x, named, *sizes, (strides, strides))
        return attention_references.augmented_conv2d(x, named, 2, 3, 1, (strides, strides))


AUGMENTED = functools.partial(
    models.ResNet, (1, 1, 1, 1), filters=4, convolution={"stage[234]_*": SMALL}
)
STAND_ALONE = functools.partial(
    models.StandAloneResNet, (1, 1, 1, 1), filters=4, num_heads=2, kernel_size=3
)


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize("build", [AUGMENTED, STAND_ALONE])
def test_networks_compute_what_their_papers_say(build):
    model = weights.enliven(build(input_shape=(9, 12, 3), classes=3))
    x = np.random.default_rng(1).normal(size=(2, 9, 12, 3)).astype("float32")
    # JAX would compile each operation by itself.
    got = model.predict_on_batch(x)
    net = Network(model)
    y = network_references.small_stem(net, x.astype("float64"))
    for stage in (1, 2, 3, 4):
        strides, name = 2 if stage > 1 else 1, f"stage{stage}_block1"
        y = network_references.bottleneck(net, y, name, strides, in_3x3=build is STAND_ALONE)
    assert got.std() > 0.01
    np.testing.assert_allclose(got, net.scores(y), rtol=1e-3, atol=1e-4)


@pytest.mark.slow_on_tensorflow
def test_maxima_stand_behind_the_batch_norm_of_an_attention_stem():
    model = STAND_ALONE(input_shape=(34, 37, 3), stem="attention", include_top=False)
    weights.enliven(model)
    inside = models.feature_model(model, ["stem_attention", "stem_pool"])
    x = np.random.default_rng(1).normal(size=(1, 34, 37, 3)).astype("float32")
    attended, got = inside.predict_on_batch(x)
    assert attended.shape == (1, 34, 37, 4)
    y = Network(model).batch_norm(attended.astype("float64"), "stem_bn")
    expected = attention_references.pool(y, (4, 4), 4, np.max)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


TRAINED = [AUGMENTED, pytest.param(STAND_ALONE, marks=pytest.mark.slow)]


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize("build", TRAINED)
def test_saves_trains_in_half_precision_and_upgrades(tmp_path, build):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = build(input_shape=(8, 8, 3), classes=3)
    keras.config.set_dtype_policy("float32")
    x = np.random.default_rng(1).normal(size=(4, 8, 8, 3)).astype("float32")
    before = [np.array(value) for value in model.get_weights()]
    model.compile(
        keras.optimizers.SGD(0.1),
        "sparse_categorical_crossentropy",
        run_eagerly=keras.backend.backend() == "tensorflow",
    )
    model.fit(x, np.array([0, 1, 2, 1]), verbose=0)
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}
    pairs = zip(model.weights, before, strict=True)
    same = [weight.path for weight, old in pairs if np.array_equal(np.asarray(weight.value), old)]
    assert len(same) < 0.1 * len(before), same
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected = model.predict_on_batch(x)
    np.testing.assert_array_equal(loaded.predict_on_batch(x), expected)
    upgraded = models.upgrade(loaded, attention="squeeze_excite")
    np.testing.assert_allclose(upgraded.predict_on_batch(x), expected, rtol=0.05, atol=0.05)
    shapes = [output.shape[1:3] for output in models.feature_model(loaded).outputs]
    assert shapes == [(8, 8), (4, 4), (2, 2), (1, 1)]


@pytest.mark.slow_on_tensorflow
def test_a_plain_resnet_upgrades_to_the_augmented_one():
    plain = weights.enliven(models.ResNet((1, 1, 1, 1), filters=8, input_shape=(8, 8, 3)))
    places = [f"stage{stage}_block1_conv2" for stage in (2, 3, 4)]
    upgraded = models.upgrade(plain, convolution=SMALL, convolution_where=places)
    assert [upgraded.get_layer(name).num_heads for name in places] == [2] * 3
    # All but the two channels of attention are the convolution's.
    x = np.random.default_rng(1).normal(size=(2, 8, 8, 3)).astype("float32")
    ours, theirs = (
        models.feature_model(model, places[:1]).predict_on_batch(x) for model in (upgraded, plain)
    )
    np.testing.assert_allclose(ours[..., :14], theirs[..., :14], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@ON_TENSORFLOW
@pytest.mark.parametrize("build", [AUGMENTED, STAND_ALONE])
@pytest.mark.parametrize(
    ("quantization", "bound"), [(None, 1e-5), ("float16", 1e-2), ("dynamic", 0.05)]
)
def test_converts_for_phones(tmp_path, build, quantization, bound):
    model = build(input_shape=(8, 8, 3), classes=3, classifier_activation=None)
    weights.enliven(model)
    images = np.random.default_rng(0).normal(size=(20, 8, 8, 3)).astype("float32")
    path = export.to_tflite(model, tmp_path / "model.tflite", quantization=quantization)
    expected = model.predict(images, verbose=0)
    error = np.abs(export.run_tflite(path, images) - expected).max() / np.ptp(expected)
    assert error < bound


@pytest.mark.slow
@ON_TENSORFLOW
@pytest.mark.parametrize("build", [AUGMENTED, STAND_ALONE])
def test_a_saved_model_says_the_same_of_any_batch(tmp_path, build):
    model = weights.enliven(build(input_shape=(8, 8, 3), classes=3))
    path = export.to_saved_model(model, tmp_path / "saved")
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype("float32")
    for count in (1, 3):
        expected = model.predict(images[:count], verbose=0)
        found = export.run_saved_model(path, images[:count])
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@ON_TENSORFLOW
@pytest.mark.parametrize("kind", ["augmented", "stand-alone"])
def test_in_integers_a_trained_network_is_as_good(tmp_path, kind):
    keras.utils.set_random_seed(0)
    digits = data.load("digits")
    inputs = keras.Input(digits.input_shape)
    arguments = {"input_tensor": data.preprocessing(digits)(inputs), "classes": digits.classes}
    if kind == "augmented":
        model = models.ResNet(
            (1, 1, 1, 1), False, filters=32, stem="small", convolution=AA, **arguments
        )
    else:
        model = models.StandAloneResNet((1, 1, 1, 1), filters=16, stem="small", **arguments)
    model.compile(
        keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    images, labels = digits.arrays("train")
    model.fit(images, labels, batch_size=64, epochs=8, verbose=0)
    path = export.to_tflite(
        model, tmp_path / "model.tflite", quantization="int8", representative_data=images[:200]
    )
    images, labels = digits.arrays("test")
    scores = model.predict(images, verbose=0), export.run_tflite(path, images)
    of_float, of_integers = (np.mean(score.argmax(axis=1) == labels) for score in scores)
    assert of_float > 0.9
    assert abs(of_float - of_integers) <= 0.01
