import keras
import numpy as np
import pytest
from keras import layers

import keras_fmm
from keras_fmm import graph, models
from keras_fmm import layers as fmm_layers
from keras_fmm.graph import find_call, find_layer, flat_graph

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(3, 6, 6, 2)).astype("float32")


def inner(name="inner"):
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(2, 3, padding="same", name="conv")(inputs)
    return keras.Model(inputs, layers.BatchNormalization(name="norm")(x), name=name)


def nested():
    inputs = keras.Input((6, 6, 2))
    return keras.Model(inputs, layers.Dense(3, name="top")(inner()(inputs * 2)))


def called_twice():
    inputs = keras.Input((6, 6, 2))
    shared = inner()
    return keras.Model(inputs, shared(shared(inputs)[:, ::-1]) + inputs)


def two_deep_in_sequentials():
    block = keras.Sequential([keras.Input((6, 6, 2)), inner()], name="block")
    return keras.Sequential([keras.Input((6, 6, 2)), block, layers.Flatten(name="flat")])


def several_inputs_within():
    a, b = keras.Input((6, 6, 2), name="a"), keras.Input((6, 6, 2), name="b")
    both = keras.Model({"b": b, "a": a}, [layers.Subtract(name="less")([a, b]), a], name="both")
    inputs = keras.Input((6, 6, 2))
    less, same = both({"a": inputs * 3, "b": inputs})
    return keras.Model(inputs, layers.Concatenate(name="join")([less, same]))


@pytest.mark.parametrize(
    ("build", "paths"),
    [
        (nested, {"inner/conv", "inner/norm", "inner", "top"}),
        (called_twice, {"inner/conv", "inner", "inner:2/conv", "inner:2"}),
        (two_deep_in_sequentials, {"block/inner/conv", "block/inner", "block", "flat"}),
        (several_inputs_within, {"both/less", "both", "join"}),
    ],
)
def test_the_graph_computes_what_the_model_does(build, paths):
    model = build()
    everything = model._flatten_layers()
    for layer in everything:
        layer.set_weights([RNG.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    noted = [(len(x._inbound_nodes), len(x._outbound_nodes)) for x in everything]
    flat = flat_graph(model)
    assert paths <= {call.path for call in flat.calls}
    found = keras.Model(flat.inputs, flat.outputs).predict(IMAGES, verbose=0)
    np.testing.assert_allclose(found, model.predict(IMAGES, verbose=0), rtol=1e-5, atol=1e-6)
    assert [(len(x._inbound_nodes), len(x._outbound_nodes)) for x in everything] == noted


def test_inner_outputs_are_those_of_the_layers():
    model = nested()
    backbone = model.get_layer("inner")
    flat = flat_graph(model)
    call = next(call for call in flat.calls if call.path == "inner/conv")
    found = keras.Model(flat.inputs, call.output).predict(IMAGES, verbose=0)
    expected = keras.Model(backbone.input, backbone.get_layer("conv").output)
    np.testing.assert_array_equal(found, expected.predict(IMAGES * 2, verbose=0))


class Own(keras.Model):
    """Adds to a graph what its nodes do not show."""

    def call(self, inputs, training=None):
        return super().call(inputs, training=training) + 1


def test_a_call_that_is_more_than_its_graph_is_not_entered():
    inputs = keras.Input((6, 6, 2))
    own = Own(inputs, layers.Dense(2, name="within")(inputs), name="own")
    noisy = keras.Sequential([keras.Input((6, 6, 2)), layers.Dropout(0.5)], name="noisy")
    model = keras.Model(inputs, noisy(own(inputs), training=True))
    flat = flat_graph(model)
    assert [call.path for call in flat.calls] == ["own", "noisy"]
    found = keras.Model(flat.inputs, flat.calls[0].output).predict(IMAGES, verbose=0)
    np.testing.assert_allclose(found, own.predict(IMAGES, verbose=0), rtol=1e-6)
    dropped = keras.Model(flat.inputs, flat.outputs).predict(IMAGES, verbose=0)
    assert 0.2 < (dropped == 0).mean() < 0.8


def whole():
    """Nested models of equal inner names, one called twice, a layer of two models, dots."""
    block = keras.Input((6, 6, 2))
    gate = keras_fmm.layers.SqueezeExcite(reduction=1, name="gate")
    x = gate(layers.Conv2D(2, 1, name="conv")(block))
    first = keras.Model(block, layers.ReLU(name="only")(x), name="first")
    deep = keras.Sequential([keras.Input((6, 6, 2)), inner("inmost")], name="deep")
    shared = layers.Conv2D(2, 1, name="shared")
    second = keras.Sequential([keras.Input((6, 6, 2)), deep, shared], name="second")
    inputs = keras.Input((6, 6, 2), name="image")
    x = layers.Conv2D(2, 1, name="conv")(first(first(inputs)))
    x = layers.ReLU(name="a.b")(layers.ReLU(name="first.only")(second(x)))
    bare = shared(x) + 3
    x = layers.Dense(2, name="b.c")(bare)
    model = keras.Model(inputs, layers.Dense(2, name="squeeze")(x), name="whole")
    return model, bare._keras_history.operation.name


WHOLE, BARE = whole()
DEEPEST = ["second", "deep", "inmost", "norm"]


def at(*names):
    """The layer, by the names on its way."""
    layer = WHOLE
    for name in names:
        layer = layer.get_layer(name) if isinstance(layer, keras.Model) else getattr(layer, name)
    return layer


@pytest.mark.parametrize(
    ("given", "path", "names", "number"),
    [
        ("/conv", "conv", ["conv"], 0),
        ("first/conv", "first/conv", ["first", "conv"], 0),
        ("first.conv", "first/conv", ["first", "conv"], 0),
        ("/first/conv", "first/conv", ["first", "conv"], 0),
        ("first:2/conv", "first:2/conv", ["first", "conv"], 1),
        ("first:2.gate", "first:2/gate", ["first", "gate"], 1),
        ("first:2", "first:2", ["first"], 1),
        ("only", "first/only", ["first", "only"], 0),
        ("first/only", "first/only", ["first", "only"], 0),
        ("/first.only", "first.only", ["first.only"], 0),
        ("norm", "second/deep/inmost/norm", DEEPEST, 0),
        ("second.deep.inmost.norm", "second/deep/inmost/norm", DEEPEST, 0),
        ("second/deep", "second/deep", ["second", "deep"], 0),
        # One layer, of two models.
        ("shared", "shared", ["shared"], 1),
        ("second.shared", "second/shared", ["shared"], 0),
        # Names with dots.
        ("a.b", "a.b", ["a.b"], 0),
        ("b.c", "b.c", ["b.c"], 0),
        # A model's layer goes before one inside a layer.
        ("squeeze", "squeeze", ["squeeze"], 0),
        ("first/gate/squeeze", "first/gate/squeeze", ["first", "gate", "squeeze"], 0),
        ("first.gate.squeeze:2", "first/gate/squeeze:2", ["first", "gate", "squeeze"], 1),
        ("excite", "first/gate/excite", ["first", "gate", "excite"], 0),
        ("image", "image", ["image"], 0),
    ],
)
def test_what_a_path_means(given, path, names, number):
    found = find_call(WHOLE, "layer", given)
    assert found.path == path
    assert found.operation is at(*names)
    assert found.number == number
    if ":" not in given:
        assert find_layer(WHOLE, "layer", given).operation is at(*names)


def test_a_bare_operation_has_its_name():
    assert find_call(WHOLE, "layer", BARE).operation.name == BARE


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "conv",
            r"`layer` must name one layer. Received: layer='conv', which stands for several of "
            r"the model 'whole'. Give one of the paths '/conv', 'first/conv', 'first:2/conv', "
            r"'second/deep/inmost/conv'\.",
        ),
        ("first.only", "several .* 'first/only', '/first.only'"),
        ("first/cnv", "none of the model 'whole'. Near it: 'first/conv'"),
        ("frist.conv", "Near it: .*'first/conv'"),
        ("deep/inmost/norm", "none of .* Near it: 'second/deep/inmost/norm'"),
        ("", "layer='', which is none of .* Its last layers are"),
        ("/", "layer='/', which is none"),
        ("//conv", "layer='//conv', which is none"),
        ("first/", "layer='first/', which is none of .* Near it: .*'/first'"),
        ("conv/", "layer='conv/', which is none"),
        ("first/*", "layer='first/[*]', which is none"),
        (
            "only:1",
            "must name a layer or a later call of it. Received: layer='only:1'. Of this layer "
            "it takes 'first/only', 'first:2/only'",
        ),
        ("first:9", "layer='first:9'. Of this layer it takes '/first', '/first:2'"),
        ("excite:1", "layer='excite:1'. Of this layer it takes 'first/gate/excite'"),
        ("shared:2", "Of this layer it takes 'second/shared', '/shared'"),
        ("first:9/only", "Of this layer it takes 'first/only', 'first:2/only'"),
        ("first:2/gate/excite", "it takes 'first/gate/excite', and with ':2' and so on behind it"),
        ("excite:x", "none of the model .* Near it: .*'first/gate/excite'"),
        ("ONLY", "none of the model .* Near it: .*'first/only'"),
    ],
)
def test_what_a_path_cannot_mean(given, message):
    with pytest.raises(ValueError, match=message):
        find_call(WHOLE, "layer", given)


@pytest.mark.parametrize("given", [None, 3, b"conv", ["conv"]])
def test_a_path_is_a_str(given):
    with pytest.raises(TypeError, match="must be a layer's name or path, a str. Received: layer="):
        find_layer(WHOLE, "layer", given)


def test_a_layer_is_not_one_of_its_calls():
    for given, path in (("first:2", "/first"), ("first:2.only", "first/only")):
        with pytest.raises(
            ValueError, match=f"a layer. .*{given}'. Of this layer it takes '{path}'"
        ):
            find_layer(WHOLE, "layer", given)


def test_places_are_all_that_is_in_a_model():
    paths = [place.path for place in graph.places(WHOLE)]
    gate = ["first/gate", "first/gate/squeeze", "first/gate/excite"]
    deep = [
        "second/deep",
        "second/deep/inmost",
        "second/deep/inmost/conv",
        "second/deep/inmost/norm",
    ]
    expected = [
        "first",
        "first/conv",
        *gate,
        "first/only",
        "conv",
        "second",
        *deep,
        "second/shared",
    ]
    expected += ["first.only", "a.b", "shared", BARE, "b.c", "squeeze"]
    assert paths == expected
    models = {place.path: place.model for place in graph.places(WHOLE)}
    assert models["first/gate/excite"] == "first"
    assert models["second/deep/inmost/norm"] == "second/deep/inmost"
    assert models["first"] == models["conv"] == ""


def test_layers_are_those_of_models_each_once():
    found = graph.layers(WHOLE)
    expected = ["first/conv", "first/gate", "first/only", "conv", "second/deep/inmost/conv"]
    expected += ["second/deep/inmost/norm", "second/shared", "first.only", "a.b", "b.c", "squeeze"]
    assert list(found) == expected
    assert found["second/shared"] is at("second", "shared")


class Twins(layers.Layer):
    """Two layers of one name."""

    def __init__(self):
        super().__init__(name="twins")
        self.one, self.two = (layers.Dense(2, name="dense") for _ in range(2))

    def build(self, input_shape):
        self.one.build(input_shape)
        self.two.build(input_shape)

    def call(self, inputs):
        return self.one(inputs) + self.two(inputs)


def test_layers_of_one_name_inside_a_layer():
    inputs = keras.Input((2,))
    twins = Twins()
    model = keras.Model(inputs, twins(inputs))
    assert [place.path for place in graph.places(model)] == [
        "twins",
        "twins/dense",
        "twins/dense_2",
    ]
    assert find_call(model, "layer", "twins.dense_2").operation is twins.two


def test_a_model_whose_output_is_its_input():
    inputs = keras.Input((6, 6, 2))
    try:
        same = keras.Model(inputs, inputs, name="same")
    except ValueError as error:
        if "not connected" not in str(error):
            raise
        pytest.skip("Keras 3.13 makes no such model")
    assert graph.read(same).calls == []
    model = keras.Model(inputs, layers.Dense(3, name="top")(same(inputs)))
    flat = flat_graph(model)
    assert [call.path for call in flat.calls] == ["same", "top"]
    found = keras.Model(flat.inputs, flat.outputs)(IMAGES)
    np.testing.assert_array_equal(found, model(IMAGES))


class Split(layers.Layer):
    def call(self, inputs):
        return {"low": inputs[..., :1], "high": [inputs[..., 1:]]}


def test_dicts_and_lists_of_tensors():
    """Inputs of a list model given by their names, a layer and a model that give dicts."""
    inputs = {"y": keras.Input((6, 6, 2), name="y"), "x": keras.Input((6, 6, 2), name="x")}
    pair = [keras.Input((6, 6, 2), name=name) for name in ("p", "q")]
    less = keras.Model(pair, {"less": pair[0] - pair[1], "p": pair[0]}, name="less")
    parts = Split(name="split")(less({"q": inputs["x"], "p": inputs["y"]})["less"])
    model = keras.Model(inputs, {"b": parts["low"], "a": parts["high"][0]})
    flat = flat_graph(model)
    split = next(call for call in flat.calls if call.path == "split")
    assert [x.shape[-1] for x in split.output] == [1, 1]
    given = {"x": IMAGES, "y": IMAGES * 3}
    found = keras.Model(dict(zip("xy", flat.inputs, strict=True)), flat.outputs)(given)
    expected = model(given)
    np.testing.assert_array_equal(found[0], expected["a"])
    np.testing.assert_array_equal(found[1], expected["b"])
    np.testing.assert_allclose(expected["b"], IMAGES[..., :1] * 2, rtol=1e-6)


def test_results_by_path_take_dots_for_one_release():
    found = graph.ByPath({"a/b": 1, "a.b": 2, "c/d.e": 3})
    assert found["a.b"] == 2
    with pytest.warns(DeprecationWarning, match="Received: 'c.d.e'. Take 'c/d.e'"):
        assert found["c.d.e"] == 3
    for missing in ("a", 3):
        with pytest.raises(KeyError):
            found[missing]


def sharing():
    shared = layers.Dense(2, name="shared")
    one, two, inputs = (keras.Input((2,)) for _ in range(3))
    first = keras.Model(one, shared(one), name="first")
    second = keras.Model(two, layers.Dense(2, name="own")(shared(two)), name="second")
    return keras.Model(inputs, second(first(inputs)))


def test_weights_of_a_layer_of_two_nested_models_are_loaded_once(tmp_path):
    source, model = sharing(), sharing()
    source.save(tmp_path / "source.keras")
    x = IMAGES[0, 0]
    for given in (source, tmp_path / "source.keras"):
        model.set_weights([np.zeros_like(value) for value in model.get_weights()])
        assert keras_fmm.models.load_weights(model, given).loaded == ("first/shared", "second/own")
        np.testing.assert_allclose(model(x), source(x), rtol=1e-6)


def test_a_call_knows_the_data_format_of_its_outputs():
    inside = keras.Input((2, 6, 6))
    x = layers.Conv2D(2, 1, data_format="channels_first", name="conv")(inside)
    first = keras.Model(inside, layers.ReLU(name="relu")(x), name="first")
    inputs = keras.Input((2, 6, 6))
    x = layers.Permute((2, 3, 1), name="last")(first(inputs) + 1)
    x = layers.AveragePooling2D(2, data_format="channels_last", name="pool")(x)
    model = keras.Model(inputs, [x * 2, layers.ReLU(name="before")(inputs)])
    found = {call.path: call.data_format for call in graph.read(model).calls}
    for path in ("first/conv", "first/relu", "first", "last"):
        assert found[path] == "channels_first"
    assert found["pool"] == "channels_last"
    assert found["before"] == keras.config.image_data_format() == "channels_last"
    by_path = {call.path: call.data_format for call in flat_graph(model).calls}
    assert by_path == found


def test_a_call_knows_the_tensors_of_the_model_that_it_stands_in():
    model = called_twice()
    nodes = {call.path: call.node for call in graph.read(model).calls}
    assert nodes["inner/norm"].outputs[0] is model.get_layer("inner").outputs[0]
    (last,) = graph.level(model).calls[-1].node.outputs
    assert last is model.outputs[0]
    assert [call.path for call in graph.level(model).calls if "/" in call.path] == []


class OwnModel(keras.Model):
    """A model whose `call` is its own."""

    def __init__(self):
        super().__init__()
        self.convolution = keras.layers.Conv2D(4, 3, name="convolution")
        self.gate = fmm_layers.SqueezeExcite(reduction=2, name="gate")
        self.second = keras.layers.Conv2D(4, 3, name="second")

    def call(self, inputs):
        return keras.ops.mean(self.second(self.gate(self.convolution(inputs))), (1, 2))


def test_the_cure_for_a_subclassed_model_cures():
    model = OwnModel()
    images = np.random.default_rng(0).random((2, 8, 8, 3), "float32")
    expected = model(images)
    inputs = keras.Input((8, 8, 3))
    wrapped = keras.Model(inputs, model(inputs))
    # As the message says it.
    cured = keras.Model(inputs, model.call(inputs))
    cure = r"Of a subclassed model that was called once give `keras.Model\(inputs, model.call\(inp"
    with pytest.raises(ValueError, match=rf"`model` must be a functional .*{cure}"):
        models.upgrade(model, attention="eca")
    inside = rf"Nothing looks into 'own_model\w*', a subclassed model. {cure}"
    with pytest.raises(ValueError, match=rf"`attention_where` must choose .*{inside}"):
        models.upgrade(wrapped, attention="eca")
    with pytest.raises(ValueError, match=rf"`attention_where` must name a layer .*{inside}"):
        models.upgrade(wrapped, attention="eca", attention_where=["absent"])
    upgraded = models.upgrade(cured, attention="eca")
    np.testing.assert_allclose(upgraded(images), expected, atol=1e-5)
    assert "second_attention" in [layer.name for layer in upgraded.layers]
    if keras.backend.backend() == "tensorflow":
        from keras_fmm import analysis

        with pytest.raises(ValueError, match=rf"must have a gate.*{inside}"):
            analysis.attention_maps(wrapped, images)
        assert list(analysis.attention_maps(cured, images)) == ["gate"]
