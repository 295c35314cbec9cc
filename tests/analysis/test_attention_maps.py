import gc

import keras
import numpy as np
import pytest

from keras_fmm import analysis, layers, models

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(5, 8, 8, 2)).astype("float32")
L = keras.layers


def toy(attention="squeeze_excite"):
    return models.ToyCNN(input_shape=(8, 8, 2), classes=3, attention=attention)


def step_by_step(model, images):
    """The gates' maps, every layer called by hand on what the one before it gave."""
    x, maps = images, {}
    for layer in model.layers[1:]:
        if "attention" in layer.name:
            maps[layer.name] = np.asarray(layer.attention_map(x))
        x = layer(x)
    return maps


@pytest.mark.parametrize("attention", ["squeeze_excite", "cbam"])
def test_maps_are_those_of_the_layers_called_by_hand(attention):
    model = toy(attention)
    maps = analysis.attention_maps(model, IMAGES, batch_size=2)
    expected = step_by_step(model, IMAGES)
    assert list(maps) == [f"stage{i}_attention" for i in (1, 2, 3)]
    for name, found in maps.items():
        assert found.dtype == "float32"
        np.testing.assert_allclose(found, expected[name], rtol=1e-5, atol=1e-6)
    # The layers know nothing of it.
    assert all(layer.output is not None for layer in model.layers)


def test_a_gate_in_a_nested_model_has_its_path():
    inputs = keras.Input((8, 8, 2))
    backbone = toy()
    outer = layers.SpatialAttention(kernel_size=3, name="first")
    nested = keras.Sequential([keras.Input((8, 8, 2)), backbone], name="deep")
    model = keras.Model(inputs, nested(outer(inputs)))
    maps = analysis.attention_maps(model, IMAGES)
    expected = step_by_step(backbone, outer(IMAGES))
    assert list(maps) == ["first", *(f"deep/toy_cnn/{name}" for name in expected)]
    np.testing.assert_allclose(maps["first"], outer.attention_map(IMAGES), rtol=1e-5)
    for name, found in expected.items():
        np.testing.assert_allclose(maps[f"deep/toy_cnn/{name}"], found, rtol=1e-4, atol=1e-6)
    with pytest.warns(DeprecationWarning, match="Take 'deep/toy_cnn/stage1_attention'"):
        assert maps["deep.toy_cnn.stage1_attention"] is maps["deep/toy_cnn/stage1_attention"]
    with pytest.raises(KeyError, match="stage9"):
        maps["deep.toy_cnn.stage9_attention"]


def test_each_call_of_a_layer_has_an_entry():
    inputs = keras.Input((8, 8, 2))
    gate = layers.SqueezeExcite(reduction=1, name="gate")
    model = keras.Model(inputs, gate(gate(inputs)))
    maps = analysis.attention_maps(model, IMAGES)
    first = np.asarray(gate.attention_map(IMAGES))
    np.testing.assert_allclose(maps["gate"], first, rtol=1e-5)
    np.testing.assert_allclose(maps["gate:2"], gate.attention_map(IMAGES * first), rtol=1e-5)
    assert len(maps) == 2


def test_one_gate_for_one_image():
    inputs = keras.Input((None, None, 2))
    gate = layers.SpatialAttention(kernel_size=3, name="gate")
    maps = analysis.attention_maps(keras.Model(inputs, gate(inputs)), IMAGES[:1, :5])
    np.testing.assert_allclose(maps["gate"], gate.attention_map(IMAGES[:1, :5]), rtol=1e-5)


@keras.saving.register_keras_serializable(package="tests")
class Third(keras.layers.Layer):
    """A gate of another's making, known by its method alone."""

    def call(self, inputs):
        return inputs * self.attention_map(inputs)

    def attention_map(self, inputs):
        return keras.ops.mean(inputs, axis=-1, keepdims=True)


def test_gates_are_found_by_their_method():
    inputs = keras.Input((8, 8, 2))
    shown = layers.SqueezeExcite(reduction=1, name="shown")(inputs, return_attention_map=True)
    x = L.Multiply()([Third(name="third")(inputs=inputs), shown])
    maps = analysis.attention_maps(keras.Model(inputs, x), IMAGES)
    np.testing.assert_allclose(maps["third"], IMAGES.mean(-1, keepdims=True), rtol=1e-6)
    assert maps["shown"].shape == (5, 1, 1, 2)


def test_kernels_attention_and_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    model = models.ToyCNN(input_shape=(8, 8, 2), convolution="aw")
    keras.config.set_dtype_policy("float32")
    maps = analysis.attention_maps(model, IMAGES)
    assert list(maps) == [f"stage{i}_conv" for i in (1, 2, 3)]
    assert {found.dtype for found in maps.values()} == {np.dtype("float32")}


def test_refused():
    with pytest.raises(ValueError, match="must have a gate: .*Received: the model 'toy_cnn'"):
        analysis.attention_maps(toy(None), IMAGES)
    with pytest.raises(ValueError, match="must be a functional"):
        analysis.attention_maps(Subclassed(), IMAGES)
    with pytest.raises(ValueError, match=r"must be finite.*images\[1\]"):
        analysis.attention_maps(
            toy(), np.where(np.arange(5).reshape(5, 1, 1, 1) == 1, np.nan, IMAGES)
        )
    with pytest.raises(ValueError, match=r"of shape \(8, 8, 2\)"):
        analysis.attention_maps(toy(), IMAGES[0])
    with pytest.raises(ValueError, match="`batch_size` must be a positive integer"):
        analysis.attention_maps(toy(), IMAGES, batch_size=0)


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="counts the traces of JAX")
def test_no_trace_is_kept():
    def traces():
        gc.collect()
        return sum(type(found).__name__ == "Jaxpr" for found in gc.get_objects())

    counts = []
    for _ in range(3):
        analysis.attention_maps(toy("cbam"), IMAGES)
        counts.append(traces())
    assert counts[1] == counts[2]


@pytest.mark.slow_on_tensorflow
def test_queries_say_where_positions_look():
    inputs = keras.Input((5, 6, 4))
    augmented = layers.AttentionAugmentedConv2D(8, 3, num_heads=2, value_dim=1, name="augmented")
    local = layers.LocalSelfAttention2D(8, 3, num_heads=2, name="local")
    x = layers.SqueezeExcite(name="gate")(augmented(inputs))
    model = keras.Model(inputs, local(x))
    images = np.random.default_rng(0).normal(size=(3, 5, 6, 4)).astype("float32")
    found = analysis.attention_maps(model, images, batch_size=2, queries=[(0, 0), (4, 5)])
    shapes = {"augmented": (3, 2, 2, 5, 6), "gate": (3, 1, 1, 8), "local": (3, 2, 2, 3, 3)}
    assert {path: x.shape for path, x in found.items()} == shapes
    whole = analysis.attention_maps(model, images)
    for name in ("augmented", "local"):
        np.testing.assert_allclose(found[name], whole[name][:, [0, 29]], atol=1e-6)
        np.testing.assert_allclose(found[name].sum(axis=(3, 4)), 1, atol=1e-5)
    with pytest.raises(ValueError, match=r"must lie on the map .*the query .5, 0. on a map"):
        analysis.attention_maps(model, images, queries=[(5, 0)])


@pytest.mark.slow_on_tensorflow
def test_layers_of_maps_of_several_sizes_are_asked_one_by_one():
    inputs = keras.Input((6, 6, 4))
    large = layers.LocalSelfAttention2D(4, 3, num_heads=2, name="large")
    small = layers.AttentionAugmentedConv2D(4, 3, strides=2, num_heads=1, value_dim=1, name="small")
    inner = keras.Model(inputs, layers.SqueezeExcite(name="gate")(small(large(inputs))), name="net")
    model = keras.Sequential([keras.Input((6, 6, 4)), inner])
    images = np.random.default_rng(0).normal(size=(2, 6, 6, 4)).astype("float32")
    with pytest.raises(ValueError, match="must lie on the map"):
        analysis.attention_maps(model, images, queries=[(5, 5)])
    whole = analysis.attention_maps(model, images)
    # By a name or a path, in the order in which they run.
    found = analysis.attention_maps(model, images, layers=["gate", "net/large"])
    assert list(found) == ["net/large", "net/gate"]
    for path, maps in found.items():
        np.testing.assert_allclose(maps, whole[path], atol=1e-6)
    (found,) = analysis.attention_maps(model, images, queries=[(5, 5)], layers=["large"]).values()
    np.testing.assert_allclose(found, whole["net/large"][:, [35]], atol=1e-6)
    for wrong in (["net"], []):
        with pytest.raises(
            ValueError, match=r"`layers` must name gates.*gates are net/large, net/"
        ):
            analysis.attention_maps(model, images, layers=wrong)
    with pytest.raises(ValueError, match="`layers`.*Received: layers='nowhere'"):
        analysis.attention_maps(model, images, layers=["nowhere"])
    with pytest.raises(TypeError, match="`layers` must be a list or tuple"):
        analysis.attention_maps(model, images, layers="large")


def test_queries_are_for_layers_that_take_them():
    inputs = keras.Input((5, 6, 4))
    model = keras.Model(inputs, layers.SqueezeExcite(name="gate")(inputs))
    with pytest.raises(ValueError, match="`queries` are for layers of self-attention"):
        analysis.attention_maps(model, np.zeros((1, 5, 6, 4)), queries=[(0, 0)])
    with pytest.raises(TypeError, match="`queries` must be a list or tuple"):
        analysis.attention_maps(model, np.zeros((1, 5, 6, 4)), queries=3)
