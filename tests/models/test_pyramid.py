import keras
import numpy as np
import pytest

from keras_fmm import graph, models
from tests.models.families import WHOLE, small


@pytest.mark.parametrize("family", WHOLE)
def test_gives_the_end_of_each_stage(family):
    model = small(family, attention="eca")
    features = models.feature_model(model)
    stages = sorted({layer.name[:6] for layer in model.layers if layer.name.startswith("stage")})
    assert len(features.outputs) == len(stages)
    for stage, map_ in zip(stages, features.outputs, strict=True):
        # What leaves a stage is what enters another one, or the head, and nothing else does.
        leaving = {
            id(tensor)
            for layer in model.layers
            if not layer.name.startswith((stage, "stem"))
            for tensor in keras.tree.flatten(getattr(layer, "input", []))
            if tensor._keras_history.operation.name.startswith(stage)
        }
        assert leaving == {id(map_)}
    x = np.ones((1, *model.input_shape[1:]), "float32")
    head = keras.Model(features.outputs[-1], model.output)
    np.testing.assert_allclose(head(features(x)[-1]), model(x), rtol=1e-5)


def test_takes_names_of_stages_and_layers_in_any_order():
    model = small("bottleneck_resnet")
    first, second = models.feature_model(model, ["stage4", "stem_relu"]).outputs
    assert first is model.get_layer("stage4_block1_relu").output
    assert second is model.get_layer("stem_relu").output


def test_works_on_models_of_others():
    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Conv2D(2, 3, name="first")(inputs)
    model = keras.Model(inputs, keras.layers.ReLU()(outputs))
    assert models.feature_model(model, ["first"]).outputs[0] is outputs
    with pytest.raises(ValueError, match="must name layers where a model has no stages"):
        models.feature_model(model)


def nested_twice():
    """A backbone two models deep that is called twice, and its convolutions called by hand."""
    deep = keras.Input((8, 8, 3))
    first = keras.layers.Conv2D(3, 3, padding="same", name="first")
    second = keras.layers.Conv2D(3, 3, padding="same", name="second")
    backbone = keras.Model(deep, second(first(deep)), name="backbone")
    block = keras.Sequential([keras.Input((8, 8, 3)), backbone], name="block")
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.ReLU(name="end")(block(block(inputs) * 2.0)))
    return model, first, second


def test_gives_what_is_inside_nested_models(tmp_path):
    model, first, second = nested_twice()
    names = ["block:2/backbone/first", "end", "block/backbone/second", "block.backbone.first"]
    everything = model._flatten_layers()
    noted = [(len(x._inbound_nodes), len(x._outbound_nodes)) for x in everything]
    features = models.feature_model(model, names)
    assert [(len(x._inbound_nodes), len(x._outbound_nodes)) for x in everything] == noted
    assert features.outputs[1] is model.output
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    once = second(first(x))
    expected = [first(once * 2.0), keras.ops.relu(second(first(once * 2.0))), once, first(x)]
    for found, by_hand in zip(features(x), expected, strict=True):
        np.testing.assert_allclose(found, by_hand, atol=1e-5)
    names, expected = names[2:], expected[2:]
    models.feature_model(model, names).save(tmp_path / "features.keras")
    loaded = keras.models.load_model(tmp_path / "features.keras")
    for found, by_hand in zip(loaded(x), expected, strict=True):
        np.testing.assert_allclose(found, by_hand, atol=1e-5)
    assert len(models.feature_model(model, ["first"]).trainable_weights) == 2


def test_refuses_what_is_not_there():
    model = small("bottleneck_resnet")
    with pytest.raises(ValueError, match="Received: names='stage5' .* stages are .*, stage4"):
        models.feature_model(model, ["stage5"])
    with pytest.raises(ValueError, match="must be a functional"):
        models.feature_model(keras.Sequential([keras.layers.ReLU()]))
    for names in ("stage4", 4, {"stage1": 1}):
        with pytest.raises(TypeError, match=f"list or tuple of str. Received: names={names!r}"):
            models.feature_model(model, names)
    with pytest.raises(ValueError, match=r"at least one layer. Received: names=\[\]"):
        models.feature_model(model, [])
    with pytest.raises(TypeError, match=r"list or tuple of str. Received: names=\[4\]"):
        models.feature_model(model, [4])
    gated = small("bottleneck_resnet", attention="eca")
    inside = next(x.path for x in graph.places(gated) if x.path.count("/") == 1)
    with pytest.raises(ValueError, match="nested in it. Received: .*inside 'stage1"):
        models.feature_model(gated, [inside])
