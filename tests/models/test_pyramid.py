import keras
import numpy as np
import pytest

from keras_fmm import models
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


def test_refuses_what_is_not_there():
    model = small("bottleneck_resnet")
    with pytest.raises(ValueError, match="Received: 'stage5' .* Near it: .*stage4"):
        models.feature_model(model, ["stage5"])
    with pytest.raises(ValueError, match="must be a functional"):
        models.feature_model(keras.Sequential([keras.layers.ReLU()]))
