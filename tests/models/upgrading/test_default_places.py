"""Where attention goes by default, in models small enough to say it by hand."""

import keras
import pytest
from keras import layers as kl

from keras_fmm import layers
from keras_fmm.models.upgrading.default_places import default_convolutions, default_gates
from keras_fmm.models.upgrading.places import cannot_be_replaced
from keras_fmm.models.upgrading.structure import Structure
from tests.support.weightless import weightless

# The structure is the same on all backends, and JAX takes long to build these.
on_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="slow to build")


def gates(inputs, outputs):
    return {operation.name for operation in default_gates(Structure(keras.Model(inputs, outputs)))}


def convolutions(model):
    structure = Structure(model)
    candidates = [x for x in structure.layers() if not cannot_be_replaced(structure, x)]
    return {layer.name for layer in default_convolutions(structure, candidates)}


def conv(name, filters=4, size=3, **arguments):
    return kl.Conv2D(filters, size, padding="same", name=name, **arguments)


def stem():
    inputs = keras.Input((8, 8, 3))
    return inputs, conv("stem")(inputs)


@pytest.mark.parametrize("shortcut_first", [False, True])
@pytest.mark.parametrize("join", [kl.Add(), "+", layers.MultiplicativeResidual(), kl.Multiply()])
def test_the_end_of_the_branch_and_not_the_shortcut(join, shortcut_first):
    inputs, x = stem()
    branch = conv("last")(kl.ReLU()(conv("first")(x)))
    pair = [x, branch] if shortcut_first else [branch, x]
    join = join if join == "+" else type(join)()
    outputs = pair[0] + pair[1] if join == "+" else join(pair)
    assert gates(inputs, outputs) == {"last"}


@pytest.mark.parametrize("shortcut_first", [False, True])
def test_with_a_projection_the_longer_way_is_the_branch(shortcut_first):
    inputs, x = stem()
    branch = conv("last")(kl.ReLU()(conv("first")(x)))
    projection = kl.BatchNormalization(name="projected")(conv("projection", size=1)(x))
    pair = [projection, branch] if shortcut_first else [branch, projection]
    assert gates(inputs, kl.Add()(pair)) == {"last"}


def test_with_three_inputs_all_but_the_shortcut_are_branches():
    inputs, x = stem()
    one, two = conv("one")(x), conv("two")(kl.ReLU()(x))
    assert gates(inputs, kl.Add()([one, x, two])) == {"one", "two"}


def test_a_shortcut_may_come_twice():
    inputs, x = stem()
    assert gates(inputs, kl.Add()([x, conv("one")(x), x])) == {"one"}


def test_an_operation_can_end_a_branch():
    inputs, x = stem()
    branch = keras.ops.relu(conv("first")(x))
    assert gates(inputs, x + branch) == {branch._keras_history.operation.name}


def test_sums_and_products_that_are_no_residuals():
    inputs, x = stem()
    other = keras.Input((8, 8, 4))
    x = x + 1.0
    x = x * keras.ops.sigmoid(x)
    x = kl.Add()([x, kl.Dropout(0.5)(x)])
    x = kl.Add()([conv("left")(x), conv("right")(x)])
    x = kl.Multiply()([x, kl.Dense(4, "sigmoid")(kl.GlobalAveragePooling2D(keepdims=True)(x))])
    x = kl.Multiply()([x, conv("spatial", activation="sigmoid")(x)])
    x = kl.Multiply()([x, kl.Activation("sigmoid")(conv("gate")(x))])
    x = x * keras.ops.sigmoid(conv("bare")(x))
    x = kl.Multiply()([conv("two")(kl.ReLU()(x)), conv("one")(x)])
    x = x + kl.Dense(4)(kl.GlobalAveragePooling2D(keepdims=True)(x))
    x = kl.Add()([x, other])
    assert gates([inputs, other], x) == set()


def test_without_residuals_behind_the_last_features_before_each_downsampling_and_the_head():
    inputs = keras.Input((32, 32, 3))
    x = kl.ZeroPadding2D(name="before_stem")(inputs)
    x = kl.Conv2D(4, 3, strides=2, name="stem")(x)
    x = kl.ZeroPadding2D(name="padding")(kl.ReLU(name="stem_relu")(x))
    x = kl.MaxPooling2D(name="pool")(x)
    x = kl.AveragePooling2D(2, name="second_pool")(x)
    x = kl.MaxPooling2D(3, strides=1, padding="same", name="no_downsampling")(x)
    x = kl.ReLU(name="relu")(conv("conv")(x))
    x = kl.ZeroPadding2D(name="more_padding")(x)
    x = kl.DepthwiseConv2D(3, strides=2, name="depthwise")(x)
    x = kl.Conv2DTranspose(4, 2, strides=2, name="up")(x)
    gate = kl.Dense(4, "sigmoid")(kl.GlobalAveragePooling2D(name="squeeze")(x))
    x = kl.Multiply(name="excited")([x, kl.Reshape((1, 1, 4))(gate)])
    x = kl.GlobalAveragePooling2D(keepdims=True, name="head")(x)
    x = kl.Flatten(name="flatten")(kl.Conv2D(2, 1, name="classifier")(x))
    assert gates(inputs, x) == {"stem_relu", "relu", "excited"}


def test_the_head_gets_no_gate_where_nothing_was_learned_since_the_last():
    inputs, x = stem()
    x = kl.Flatten()(kl.MaxPooling2D()(kl.ReLU(name="relu")(x)))
    assert gates(inputs, x) == {"relu"}


def test_maps_of_rank_four_and_float_only():
    inputs = keras.Input((8, 8))
    x = kl.Conv1D(4, 3, strides=2, name="stem")(inputs)
    x = kl.Add()([x, kl.Conv1D(4, 3, padding="same")(x)])
    assert gates(inputs, kl.GlobalAveragePooling1D()(x)) == set()


def test_nested_levels_count():
    inputs, x = stem()
    block = keras.Model(x_in := keras.Input((8, 8, 4)), x_in + conv("inner")(x_in), name="block")
    as_branch = keras.Sequential([keras.Input((8, 8, 4)), conv("a"), conv("b")], name="branch")
    x = block(x)
    assert gates(inputs, kl.Add()([as_branch(x), x])) == {"inner", "b"}


def test_convolutions_of_three_by_three_but_the_stems():
    one, two = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    backbone = keras.Sequential([keras.Input((8, 8, 3)), conv("stem_1"), conv("body")], name="b")
    x = kl.Concatenate()([backbone(one), conv("stem_2", size=5)(kl.Rescaling(2.0)(two))])
    x = conv("large", size=(3, 5))(conv("pointwise", size=1)(x))
    x = conv("row", size=(1, 7))(conv("grouped", groups=2)(x))
    x = layers.AWConv2D(4, 3, name="aw")(kl.DepthwiseConv2D(3, name="depthwise")(x))
    assert convolutions(keras.Model([one, two], x)) == {"body", "large"}


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_pointwise_ones_where_there_are_none_but_not_of_single_positions(data_format):
    how = {"data_format": data_format}
    inputs = keras.Input((8, 8, 3) if data_format == "channels_last" else (3, 8, 8))
    x = conv("pointwise", size=1, **how)(conv("stem", **how)(inputs))
    x = conv("row", size=(1, 3), **how)(x)
    # No data format of its own.
    x = kl.Activation("relu")(kl.GlobalAveragePooling2D(keepdims=True, **how)(x))
    x = conv("classifier", size=1, **how)(x)
    assert convolutions(keras.Model(inputs, x)) == {"pointwise"}


def application(name, size=64, **arguments):
    """Returns a network of keras.applications, whole, in structure alone."""
    build = getattr(keras.applications, name)
    with weightless():
        return build(weights=None, input_shape=(size, size, 3), **arguments)


# Read off the papers' figures: three to six blocks a stage, the first with a projection.
RESNET50_BLOCKS = [(2, 3), (3, 4), (4, 6), (5, 3)]


@on_tensorflow
@pytest.mark.parametrize(("name", "last"), [("ResNet50", "3_bn"), ("ResNet50V2", "3_conv")])
def test_resnet50(name, last):
    model = application(name, 32, include_top=False)
    blocks = [f"conv{n}_block{k}" for n, many in RESNET50_BLOCKS for k in range(1, many + 1)]
    assert gates(model.inputs, model.outputs) == {f"{block}_{last}" for block in blocks}
    assert convolutions(model) == {f"{block}_2_conv" for block in blocks}


@on_tensorflow
def test_mobilenet_v2():
    model = application("MobileNetV2", classes=3)
    residual = (2, 4, 5, 7, 8, 9, 11, 12, 14, 15)
    assert gates(model.inputs, model.outputs) == {f"block_{n}_project_BN" for n in residual}
    pointwise = {f"block_{n}_{part}" for n in range(1, 17) for part in ("expand", "project")}
    assert convolutions(model) == pointwise | {"expanded_conv_project", "Conv_1"}


@on_tensorflow
def test_efficientnet_leaves_squeeze_and_excitation_alone():
    model = application("EfficientNetB0", classes=3)
    repeats = {"1": "a", "2": "ab", "3": "ab", "4": "abc", "5": "abc", "6": "abcd", "7": "a"}
    blocks = [f"block{n}{k}" for n, letters in repeats.items() for k in letters]
    # The first of a stage has no shortcut, the first of all no expansion.
    assert gates(model.inputs, model.outputs) == {f"{x}_drop" for x in blocks if x[-1] != "a"}
    pointwise = {f"{block}_{part}_conv" for block in blocks for part in ("expand", "project")}
    assert convolutions(model) == pointwise - {"block1a_expand_conv"} | {"top_conv"}


@on_tensorflow
def test_densenet():
    model = application("DenseNet121", 32)
    expected = {"conv1_relu", "pool2_conv", "pool3_conv", "pool4_conv", "relu"}
    assert gates(model.inputs, model.outputs) == expected


@on_tensorflow
def test_convnext():
    model = application("ConvNeXtTiny", 32, include_top=False)
    blocks = [(stage, k) for stage, many in enumerate((3, 3, 9, 3)) for k in range(many)]
    names = {f"convnext_tiny_stage_{stage}_block_{k}_identity" for stage, k in blocks}
    assert gates(model.inputs, model.outputs) == names
    assert convolutions(model) == set()


def transformer(*between):
    """Returns a small one: patches, what stands between them and the tokens, one block, a head."""
    inputs = keras.Input((32, 32, 3))
    x = kl.Conv2D(4, 8, strides=8, name="patches")(inputs)
    for layer in between:
        x = layer(x)
    x = kl.Reshape((16, 4))(x)
    y = kl.LayerNormalization()(x)
    x = kl.Add()([x, kl.MultiHeadAttention(1, 4)(y, y)])
    x = kl.Add()([x, kl.Dense(4, "gelu")(kl.LayerNormalization()(x))])
    return inputs, kl.Dense(2)(kl.GlobalAveragePooling1D()(x))


def test_a_transformers_patches_are_its_stem():
    assert gates(*transformer()) == set()
    assert gates(*transformer(kl.LayerNormalization())) == set()
    assert gates(*transformer(kl.Dense(4))) == set()
    assert gates(*transformer(kl.Flatten())) == set()
    assert gates(*transformer(kl.Flatten(), kl.Dropout(0.1), kl.Activation("relu"))) == set()
    assert gates(*transformer(kl.PReLU())) == set()
    projection = [kl.BatchNormalization(), kl.ReLU(), conv("projection", size=1)]
    assert gates(*transformer(*projection)) == set()
    assert gates(*transformer(*projection, kl.Flatten())) == set()
    assert convolutions(keras.Model(*transformer())) == set()
    # More is learned before the tokens here.
    assert gates(*transformer(conv("conv"))) == {"conv"}
    assert gates(*transformer(conv("projection", size=1), conv("conv"))) == {"conv"}
    assert gates(*transformer(layers.SqueezeExcite(name="own"))) == {"own"}


def test_a_stem_of_strided_convolutions_is_a_transformers_patch_embedding_too():
    inputs = keras.Input((32, 32, 3))
    x = inputs
    for filters in (2, 4, 8):
        x = kl.Conv2D(filters, 3, strides=2, padding="same")(x)
        x = kl.ReLU()(kl.BatchNormalization()(x))
    x = kl.Conv2D(4, 1)(x)
    tokens = kl.Reshape((16, 4))(x)
    x = kl.Add()([tokens, kl.MultiHeadAttention(1, 4)(tokens, tokens)])
    assert gates(inputs, kl.Dense(2)(kl.GlobalAveragePooling1D()(x))) == set()


def test_a_stem_alone_is_gated_before_the_classifier():
    inputs, x = stem()
    assert gates(inputs, kl.Dense(2)(kl.GlobalAveragePooling2D()(x))) == {"stem"}
    assert gates(inputs, kl.Softmax()(kl.Dense(2)(kl.Flatten()(x)))) == {"stem"}
