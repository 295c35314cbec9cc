import functools

import keras
import numpy as np
import pytest
from keras import layers as kl

from keras_fmm import layers, models
from tests.support.layer_table import first_row
from tests.support.own_layers import Bent
from tests.support.weightless import weightless
from tests.support.weights import enliven

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="large models compile slowly"
)
# Where a step's gradient goes is the same in a graph, that takes much longer to trace; JAX would
# compile each operation by itself.
AT_ONCE = {"run_eagerly": keras.backend.backend() == "tensorflow"}
small_gate = functools.partial(layers.SqueezeExcite, reduction=2)
small_aw = functools.partial(layers.AWConv2D, reduction=2)


def conv(name, filters=4, size=3, **arguments):
    return kl.Conv2D(filters, size, padding="same", name=name, **arguments)


def residual(x, name, **arguments):
    branch = kl.BatchNormalization(name=f"{name}_bn")(conv(f"{name}_conv", **arguments)(x))
    return kl.Add(name=f"{name}_sum")([x, kl.ReLU(name=f"{name}_relu")(branch)])


def network(shape=(8, 8, 3), **arguments):
    """A stem, two residual blocks, the second in a nested model, dropout and a classifier."""
    inputs = keras.Input(shape, name="image")
    x = residual(conv("stem", **arguments)(inputs), "one", **arguments)
    inside = keras.Input((None, None, 4))
    x = keras.Model(inside, residual(inside, "two", **arguments), name="nested")(x)
    x = kl.GlobalAveragePooling2D(name="pool")(kl.Dropout(0.3, seed=1, name="dropout")(x))
    return enliven(keras.Model(inputs, kl.Dense(3, name="logits")(x), name="network"))


def example(model, batch=2, seed=1):
    rng = np.random.default_rng(seed)
    arrays = [
        rng.normal(size=[batch, *(size or 9 for size in x.shape[1:])]).astype("float32")
        for x in model.inputs
    ]
    if isinstance(model, keras.Sequential):
        return arrays[0]
    return keras.tree.pack_sequence_as(model.input, arrays)


def assert_same_outputs(upgraded, model, training=False, atol=1e-4):
    x = example(model)
    expected = keras.tree.flatten(model(x, training=training))
    outputs = keras.tree.flatten(upgraded(x, training=training))
    for one, other in zip(outputs, expected, strict=True):
        other = np.asarray(other)
        assert 1e-2 < np.abs(other).max() < 1e2
        np.testing.assert_allclose(np.asarray(one), other, atol=atol)


def new_layers(model):
    kinds = (layers.FeatureGate, layers.AWConv2D)
    found = [layer for layer in model._flatten_layers() if isinstance(layer, kinds)]
    inside = {id(part) for layer in found for part in layer._flatten_layers(include_self=False)}
    return {layer.name: layer for layer in found if id(layer) not in inside}


def all_layers(model):
    """The layers of a model by path, nested models' too."""
    found = {}
    for layer in model.layers:
        found[layer.name] = layer
        if hasattr(layer, "layers"):
            found.update({f"{layer.name}/{k}": v for k, v in all_layers(layer).items()})
    return found


gates = pytest.mark.parametrize("gate", layers.GATES)


@gates
def test_same_outputs_with_every_gate(gate):
    model = network()
    upgraded = models.upgrade(model, attention=gate, convolution="aw")
    added = new_layers(upgraded)
    assert set(added) == {"one_relu_attention", "two_relu_attention", "one_conv", "two_conv"}
    assert type(added["one_relu_attention"]) is layers.GATES[gate]
    assert_same_outputs(upgraded, model)
    # Both draw the same numbers for dropout, and take the batch's statistics.
    assert_same_outputs(upgraded, model, training=True)
    assert_same_outputs(upgraded, model)


def test_what_stands_where_and_under_which_name():
    model = network()
    upgraded = models.upgrade(model, attention="eca", convolution="aw")
    assert type(upgraded) is type(keras.Model(model.inputs, model.outputs))
    assert not upgraded.compiled
    assert (upgraded.name, upgraded.input.name) == ("network", "image")
    names = set(all_layers(upgraded))
    gates = {"one_relu_attention", "nested/two_relu_attention"}
    # A model's input has no name of its own here.
    assert {name for name in names - gates if "keras_tensor" not in name} >= {
        name for name in all_layers(model) if "input" not in name
    }
    assert names >= gates
    gate = upgraded.get_layer("one_relu_attention")
    assert gate.input is upgraded.get_layer("one_relu").output
    assert upgraded.get_layer("one_sum").input[1] is gate.output


def calls(model):
    operations = all_layers(model)
    return {k: (len(v._inbound_nodes), len(v._outbound_nodes)) for k, v in operations.items()}


def test_the_original_is_left_untouched():
    model = network()
    model.compile("sgd", "mse")
    model.get_layer("one_conv").trainable = False
    before = [np.asarray(value) for value in model.get_weights()]
    nodes = calls(model)
    flags = {path: layer.trainable for path, layer in all_layers(model).items()}
    config = model.get_config()
    upgraded = models.upgrade(model, attention="cbam", convolution="aw")
    assert model.get_config() == config
    assert calls(model) == nodes
    assert {path: layer.trainable for path, layer in all_layers(model).items()} == flags
    upgraded.set_weights([value + 1 for value in upgraded.get_weights()])
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)
    shared = {id(layer) for layer in model._flatten_layers()}
    assert not shared & {id(layer) for layer in upgraded._flatten_layers()}


def fit_a_step(model, x, y):
    # Copies: on JAX training reuses the memory of the old weights.
    before = {v.path: v.numpy().copy() for v in model.trainable_variables}
    assert np.isfinite(model.train_on_batch(x, y))
    return {v.path for v in model.trainable_variables if (v.numpy().copy() != before[v.path]).any()}


def one_block():
    inputs = keras.Input((6, 6, 16))
    x = kl.GlobalAveragePooling2D()(residual(inputs, "one", filters=16))
    return enliven(keras.Model(inputs, x))


@gates
def test_a_gate_learns_from_the_first_step_and_all_of_it_from_the_second(gate):
    model = one_block()
    x, y = abs(example(model, batch=8)), np.ones((8, 16))
    kind, arguments = layers.GATES[gate], {}
    if hasattr(kind(), "reduction"):
        # Several hidden units, so that some are on.
        arguments["reduction"] = 2
    if hasattr(kind(), "use_max_pool") and keras.backend.backend() == "jax":
        # Without XLA's optimisations, as in these tests, JAX's gradient of a maximum is wrong on
        # the CPU: that of keras.layers.GlobalMaxPooling2D too.
        arguments["use_max_pool"] = False
    chosen = functools.partial(kind, **arguments)
    upgraded = models.upgrade(model, attention=chosen)
    upgraded.compile(keras.optimizers.SGD(0.1), "mse", **AT_ONCE)
    gate_name = "one_relu_attention/"
    moved = {p.removeprefix(gate_name) for p in fit_a_step(upgraded, x, y) if gate_name in p}
    # Those that are 0 at the start.
    assert moved == set(first_row(kind).zeros)
    ours = {v.path for v in upgraded.trainable_variables if gate_name in v.path}
    assert {path for path in fit_a_step(upgraded, x, y) if gate_name in path} == ours


def test_an_aw_convolution_learns_from_the_first_step_and_all_of_it_from_the_second():
    model = one_block()
    # Steps so large that float32 shows them.
    x, y = example(model, batch=8), np.full((8, 16), 30.0)
    upgraded = models.upgrade(
        model,
        convolution=functools.partial(layers.AWConv2D, reduction=2),
        convolution_where=["one_conv"],
    )
    upgraded.compile(keras.optimizers.SGD(0.1), "mse", **AT_ONCE)
    moved = {path for path in fit_a_step(upgraded, x, y) if "one_conv/" in path}
    last = {f"one_conv/{name}" for name in first_row(layers.AWConv2D).zeros}
    # The bias stands before a batch norm: its gradient is rounding.
    assert moved - {"one_conv/bias"} == {"one_conv/kernel"} | last
    # Gamma and beta move their own values out of the way of the others.
    ours = {v.path for v in upgraded.trainable_variables if "one_conv/" in v.path}
    assert fit_a_step(upgraded, x, y) >= ours - {"one_conv/bias"}


def test_training_the_copy_leaves_the_original():
    model = network()
    x = example(model, batch=4)
    before = np.asarray(model(x))
    upgraded = models.upgrade(model, attention=small_gate, convolution=small_aw)
    upgraded.compile("sgd", "mse", **AT_ONCE)
    upgraded.fit(x, np.ones((4, 3)), verbose=0)
    np.testing.assert_array_equal(model(x), before)
    assert np.abs(upgraded(x) - before).max() > 1e-4


def test_gradients_of_the_old_weights_are_the_originals():
    model = network()
    upgraded = models.upgrade(model, attention=small_gate)
    x, y = example(model, batch=4), np.ones((4, 3))
    for each in (model, upgraded):
        each.compile(keras.optimizers.SGD(0.1), "mse", **AT_ONCE)
        each.train_on_batch(x, y)
    trained = {path: layer.get_weights() for path, layer in all_layers(upgraded).items()}
    for path, layer in all_layers(model).items():
        if path in trained and not hasattr(layer, "layers"):
            for one, other in zip(trained[path], layer.get_weights(), strict=True):
                np.testing.assert_allclose(one, other, atol=1e-5, err_msg=path)


@pytest.mark.parametrize("gate", ["cbam", "eca"])
def test_saves_and_loads(tmp_path, gate):
    model = network((None, None, 3))
    convolution = small_aw if gate == "cbam" else None
    upgraded = models.upgrade(model, attention=gate, convolution=convolution)
    upgraded.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = example(model)
    np.testing.assert_array_equal(loaded(x), upgraded(x))
    assert new_layers(loaded)["one_relu_attention"].gate_activation is layers.twice_sigmoid


# The layer at which the network is cut, the gate, the convolution, how many of both there are then,
# and how many residuals; test_default_places counts places in the whole networks.
APPLICATIONS = {
    "ResNet50V2": ("conv3_block2_out", "cbam", "aw", 5 + 5, 5),
    "MobileNetV2": ("block_6_project_BN", "squeeze_excite", "aw", 3 + 13, 3),
    "EfficientNetB0": ("block3b_add", "eca", "aw", 2 + 9, 2),
    "DenseNet121": ("conv3_block2_concat", "eca", None, 2, 0),
    "ConvNeXtTiny": ("convnext_tiny_stage_0_block_2_identity", "spatial_attention", None, 2, 2),
}


@pytest.mark.slow_on_tensorflow
@on_tensorflow
@pytest.mark.parametrize(
    "name",
    [
        name if name == "MobileNetV2" else pytest.param(name, marks=pytest.mark.slow)
        for name in APPLICATIONS
    ],
)
def test_keras_applications(name):
    last, gate, convolution, count, residuals = APPLICATIONS[name]
    whole = getattr(keras.applications, name)(
        weights=None, input_shape=(64, 64, 3), include_top=False
    )
    model = enliven(keras.Model(whole.input, whole.get_layer(last).output))
    residual = Bent if residuals else None
    upgraded = models.upgrade(model, gate, convolution, residual=residual)
    assert len(new_layers(upgraded)) == count
    assert sum(isinstance(layer, Bent) for layer in upgraded.layers) == residuals
    assert_same_outputs(upgraded, model, atol=1e-4)
    old = {path for path in all_layers(model) if "input" not in path}
    assert old <= set(all_layers(upgraded))


@pytest.mark.slow_on_tensorflow
@on_tensorflow
def test_a_nested_application_gets_its_gates_inside():
    inputs = keras.Input((32, 32, 3))
    whole = keras.applications.ResNet50V2(weights=None, include_top=False, input_shape=(32, 32, 3))
    last = whole.get_layer("conv2_block3_out").output
    backbone = keras.Model(whole.input, last, name="resnet50v2")
    model = keras.Model(inputs, kl.GlobalAveragePooling2D()(backbone(inputs)))
    enliven(model)
    upgraded = models.upgrade(model, attention="eca")
    added = [path for path in all_layers(upgraded) if path.endswith("_attention")]
    assert len(added) == 3
    assert all(path.startswith("resnet50v2/conv") for path in added)
    assert_same_outputs(upgraded, model)


def test_convnext_has_no_convolution_to_replace_by_default():
    with weightless():
        model = keras.applications.ConvNeXtTiny(
            weights=None, input_shape=(32, 32, 3), include_top=False
        )
    with pytest.raises(ValueError, match=r"Conv2D 7x7 \(groups=96\), such as 'convnext_tiny_st"):
        models.upgrade(model, convolution="aw")


def test_a_replaced_convolution_keeps_its_arguments():
    inputs = keras.Input((9, 9, 3))
    arguments = {
        "strides": 2,
        "padding": "valid",
        "activation": "tanh",
        "use_bias": False,
        "kernel_initializer": "he_normal",
        "kernel_regularizer": keras.regularizers.L2(0.25),
        "kernel_constraint": keras.constraints.MaxNorm(9.0),
        "activity_regularizer": keras.regularizers.L1(0.5),
    }
    dilated = kl.Conv2D(4, (3, 5), dilation_rate=(1, 2), padding="same", name="dilated")(inputs)
    model = keras.Model(inputs, kl.Conv2D(6, 3, name="mine", **arguments)(dilated))
    enliven(model)
    upgraded = models.upgrade(model, convolution=small_aw, convolution_where=["mine", "dilated"])
    for name in ("mine", "dilated"):
        old = model.get_layer(name).get_config()
        new = upgraded.get_layer(name).get_config()
        assert {key: new[key] for key in old} == old
        assert new["reduction"] == 2
    assert_same_outputs(upgraded, model)


def test_the_convolutions_own_arguments_win_over_the_callables():
    model = network()
    mine = functools.partial(layers.AWConv2D, use_residual=False, activation="relu")
    upgraded = models.upgrade(model, convolution=mine)
    assert upgraded.get_layer("one_conv").activation is keras.activations.linear
    assert not upgraded.get_layer("one_conv").use_residual
    assert_same_outputs(upgraded, model)


def test_frozen_layers_stay_frozen_and_what_is_new_trains():
    model = network()
    model.get_layer("nested").trainable = False
    model.get_layer("one_conv").trainable = False
    upgraded = models.upgrade(model, attention=small_gate, convolution=small_aw)
    trainable = {v.path for v in upgraded.trainable_variables}
    ours = set()
    for layer in new_layers(upgraded).values():
        ours |= {v.path for v in layer.weights if "moving" not in v.path}
    own = {f"{layer}/{kind}" for layer in ("one_conv", "two_conv") for kind in ("kernel", "bias")}
    ours -= {path for path in ours if path.split("/", path.count("/") - 1)[-1] in own}
    expected = ours | {
        f"{layer}/{kind}"
        for layer, kinds in {
            "stem": ("kernel", "bias"),
            "one_bn": ("gamma", "beta"),
            "logits": ("kernel", "bias"),
        }.items()
        for kind in kinds
    }
    assert trainable == expected
    assert not upgraded.get_layer("nested").get_layer("two_bn").trainable
    upgraded.compile("sgd", "mse", **AT_ONCE)
    x = example(model)
    upgraded.fit(x, np.ones((2, 3)), verbose=0)
    for path in ("nested/two_bn",):
        for one, other in zip(
            all_layers(upgraded)[path].get_weights(),
            all_layers(model)[path].get_weights(),
            strict=True,
        ):
            np.testing.assert_array_equal(one, other)
    old = model.get_layer("one_conv")
    np.testing.assert_allclose(upgraded.get_layer("one_conv").kernel * 1.5, old.kernel, atol=1e-6)


def test_a_frozen_model_trains_its_gates_only():
    model = network()
    model.trainable = False
    upgraded = models.upgrade(model, attention="eca")
    assert {v.path.split("/")[-3] for v in upgraded.trainable_variables} == {
        "one_relu_attention",
        "two_relu_attention",
    }


def test_what_is_new_deep_in_frozen_models_trains():
    first, second, third = (keras.Input((8, 8, 4)) for _ in range(3))
    inner = keras.Model(first, residual(first, "one"), name="inner")
    outer = keras.Model(second, inner(second), name="outer")
    outer.trainable = False
    upgraded = models.upgrade(keras.Model(third, outer(third)), attention="eca")
    path = "one_relu_attention/convolution/kernel"
    assert [v.path.endswith(path) for v in upgraded.trainable_variables] == [True]
    assert upgraded.get_layer("outer").trainable
    assert upgraded.get_layer("outer").get_layer("inner").trainable


def test_a_frozen_nested_model_without_anything_new_keeps_its_flag():
    model = network()
    nested = model.get_layer("nested")
    nested.trainable = False
    nested.get_layer("two_bn").trainable = True
    upgraded = models.upgrade(model, attention="eca", attention_where=["one_relu"])
    assert not upgraded.get_layer("nested").trainable
    flags = {layer.name: layer.trainable for layer in upgraded.get_layer("nested").layers[1:]}
    assert flags == {layer.name: layer.trainable for layer in nested.layers[1:]}
    assert flags["two_bn"]
    assert not flags["two_conv"]


def test_layers_called_several_times_stay_shared_and_so_does_their_gate():
    inputs, inside = keras.Input((6, 6, 4)), keras.Input((6, 6, 4))
    shared = conv("shared")
    nested = keras.Model(inside, shared(inside), name="nested")
    x = nested(shared(shared(conv("stem")(inputs))))
    model = enliven(keras.Model(inputs, kl.GlobalAveragePooling2D()(nested(x))))
    upgraded = models.upgrade(
        model,
        attention="eca",
        attention_where=["shared", "/nested"],
        convolution=small_aw,
        convolution_where=["nested/shared"],
    )
    assert_same_outputs(upgraded, model)
    assert upgraded.get_layer("shared") is upgraded.get_layer("nested").get_layer("shared")
    gate = upgraded.get_layer("shared_attention")
    assert gate is upgraded.get_layer("nested").get_layer("shared_attention")
    assert len({id(layer) for layer in upgraded._flatten_layers()}) == len(
        list(upgraded._flatten_layers())
    )


class Scale(kl.Layer):
    """The identity until it is told otherwise."""

    def build(self, input_shape):
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones")

    def call(self, inputs):
        return inputs * self.scale


def test_a_shared_gate_is_behind_every_call():
    inputs, inside = keras.Input((6, 6, 4)), keras.Input((6, 6, 4))
    shared = conv("shared")
    nested = keras.Model(inside, shared(inside), name="nested")
    model = enliven(keras.Model(inputs, nested(nested(shared(kl.ReLU()(inputs))))))
    upgraded = models.upgrade(model, attention=Scale, attention_where=["shared"])
    upgraded.get_layer("shared_attention").scale.assign(0.5)
    x = example(model)
    expected = keras.ops.relu(x)
    for _ in range(3):
        expected = 0.5 * shared(expected)
    np.testing.assert_allclose(upgraded(x), expected, atol=1e-5)


def test_several_inputs_and_outputs_in_dicts_lists_and_keywords():
    image, extra = keras.Input((6, 6, 3), name="image"), keras.Input((6, 6, 4), name="extra")
    inside = {"a": keras.Input((6, 6, 4), name="a"), "b": keras.Input((6, 6, 4), name="b")}
    both = keras.Model(
        inside, [conv("c1")(inside["a"]) + inside["b"], inside["a"] * 2.0], name="both"
    )
    x = conv("stem")(image)
    first, second = both({"a": x, "b": extra})
    attended = kl.MultiHeadAttention(2, 2, name="mha")(
        kl.Reshape((36, 4))(first), value=kl.Reshape((36, 4))(second)
    )
    parts = keras.ops.split(second[:, 1:5], 2, axis=1)
    outputs = {"seen": kl.Dense(2)(attended), "parts": [parts[1], keras.ops.relu(first)]}
    model = enliven(keras.Model({"image": image, "extra": extra}, outputs))
    inner = both.outputs[0]._keras_history.operation.name
    upgraded = models.upgrade(model, attention=small_gate, attention_where=["c1", inner])
    assert set(upgraded.input) == {"image", "extra"}
    assert set(upgraded.output) == {"seen", "parts"}
    assert_same_outputs(upgraded, model)


def test_call_arguments_are_kept():
    inputs, inside = keras.Input((6, 6, 4)), keras.Input((6, 6, 4))
    nested = keras.Model(inside, residual(inside, "one"), name="nested")
    x = kl.BatchNormalization(name="bn")(conv("stem")(inputs), training=True)
    model = enliven(keras.Model(inputs, nested(x, training=False)))
    upgraded = models.upgrade(model, attention="cbam", convolution=small_aw)
    for training in (False, True):
        assert_same_outputs(upgraded, model, training)


def test_a_sequential_becomes_functional_and_nested_ones_too():
    block = keras.Sequential([keras.Input((8, 8, 4)), conv("inner"), kl.ReLU()], name="block")
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), conv("stem"), block, kl.MaxPooling2D(), kl.Flatten()], name="s"
    )
    enliven(model)
    upgraded = models.upgrade(model, attention="eca", convolution="aw")
    assert not isinstance(upgraded, keras.Sequential)
    assert isinstance(upgraded.get_layer("block").get_layer("inner"), layers.AWConv2D)
    assert upgraded.name == "s"
    assert_same_outputs(upgraded, model)


def test_upgrades_again():
    model = network()
    once = models.upgrade(model, attention="eca", attention_where=["stem"])
    twice = models.upgrade(once, attention="eca", attention_where=["stem", "stem_attention"])
    assert {"stem_attention", "stem_attention_2", "stem_attention_attention"} <= {
        layer.name for layer in twice.layers
    }
    assert_same_outputs(twice, model)


def test_what_an_upgraded_model_learned_is_carried_over():
    once = enliven(models.upgrade(network(), attention="cbam", convolution=small_aw))
    twice = models.upgrade(once, attention="eca", attention_where=["stem"])
    assert_same_outputs(twice, once)


@pytest.mark.parametrize("policy", ["mixed_float16", "float16"])
def test_gates_take_the_dtype_policy_of_what_they_follow(policy):
    inputs = keras.Input((6, 6, 4))
    x = residual(conv("stem", dtype=policy)(inputs), "one")
    x = kl.Activation("relu", dtype=policy, name="relu")(x)
    model = enliven(keras.Model(inputs, x * 0.5))
    half = model.output._keras_history.operation.name
    upgraded = models.upgrade(model, attention="cbam", attention_where=["stem", "one_relu", half])
    names = {"stem": policy, "one_relu": "float32", half: policy}
    added = new_layers(upgraded)
    assert {k.removesuffix("_attention"): v.dtype_policy.name for k, v in added.items()} == names
    assert upgraded.output.dtype == model.output.dtype
    assert_same_outputs(upgraded, model, atol=2e-3)


def test_gates_take_the_data_format_of_what_they_follow():
    inputs = keras.Input((3, 8, 8))
    x = conv("stem", data_format="channels_first")(inputs)
    x = kl.Add()([x, kl.ReLU(name="relu")(conv("body", data_format="channels_first")(x))])
    model = enliven(keras.Model(inputs, x))
    upgraded = models.upgrade(model, attention="squeeze_excite", convolution=small_aw)
    gate = upgraded.get_layer("relu_attention")
    assert gate.data_format == "channels_first"
    assert upgraded.get_layer("body").data_format == "channels_first"
    assert tuple(gate.excite.bias.shape) == (4,)
    if keras.backend.backend() == "jax":
        assert_same_outputs(upgraded, model)


def test_a_gate_of_ones_own():
    class Plain(kl.Layer):
        """The identity, without `start_as_identity`."""

        def call(self, inputs):
            return inputs + 0.0

    class Brightest(layers.FeatureGate):
        def compute_attention_map(self, inputs, training=None):
            return keras.ops.sigmoid(keras.ops.max(inputs, axis=(1, 2), keepdims=True))

    class Taught(Brightest):
        def build_attention(self, channels):
            self.scale = self.add_weight(name="scale", shape=(), initializer="ones")

        def compute_attention_map(self, inputs, training=None):
            return 1 + self.scale * super().compute_attention_map(inputs)

        def start_as_identity(self):
            self.scale.assign(0.0)

    model = network()
    for gate in (Plain, Taught):
        assert_same_outputs(models.upgrade(model, attention=gate), model)
    message = r"Received: a Brightest behind 'one_relu', whose outputs differ"
    with pytest.raises(ValueError, match=message):
        models.upgrade(model, attention=Brightest)
    with pytest.raises(ValueError, match=r"outputs here have the shape .* gives \(None, 576\)"):
        models.upgrade(one_block(), attention=kl.Flatten)
    with pytest.raises(ValueError, match=r"is 0. Received: sigmoid.*gate_activation=\"tanh\""):
        models.upgrade(model, attention=lambda: layers.SqueezeExcite(merge="add"))


def test_refuses():
    model = network()
    inputs = keras.Input((4, 4, 3))

    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    class Overridden(keras.Model):
        def call(self, inputs):
            return super().call(inputs) * 2.0

    for other, cure in (
        (Subclassed(), r"keras.Model\(inputs, model.call\("),
        (Overridden(inputs, conv("stem")(inputs)), r"keras.Model\(inputs, model.call\("),
        (keras.Sequential([conv("stem")]), "begin it with a `keras.Input`"),
        ("resnet", "model='resnet'"),
    ):
        with pytest.raises(ValueError, match=f"`model` must be a functional.*{cure}"):
            models.upgrade(other, attention="eca")
    with pytest.raises(ValueError, match="At least one of `attention`, `convolution`"):
        models.upgrade(model)
    with pytest.raises(ValueError, match="`attention` must be None, one of"):
        models.upgrade(model, attention="se")
    with pytest.raises(TypeError, match="`attention` must be None, a name or a callable"):
        models.upgrade(model, attention=layers.CBAM())
    with pytest.raises(ValueError, match="`convolution` must be None, one of"):
        models.upgrade(model, convolution="conv")
    with pytest.raises(ValueError, match=r"`attention_where` says where `attention` goes"):
        models.upgrade(model, convolution="aw", attention_where=["stem"])
    with pytest.raises(ValueError, match=r"`start_as_convolution\(kernel.*gives a Conv2D"):
        models.upgrade(model, convolution=kl.Conv2D)
    with pytest.raises(ValueError, match=r"Received: 'one_conv', for which .*`output_reduction`"):
        models.upgrade(model, convolution=functools.partial(layers.AWConv2D, output_reduction=3))
    odd = functools.partial(layers.AWConv2D, use_residual=False, attention_activation="tanh")
    with pytest.raises(ValueError, match=r"must not start at 0.*'one_conv'"):
        models.upgrade(model, convolution=odd)
