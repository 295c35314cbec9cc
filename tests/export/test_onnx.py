"""ONNX by Keras' own exporter: every layer here goes through it and says the same."""

import numpy as np
import onnxruntime
import pytest

from tests.models.families import small
from tests.support import weights
from tests.support.layer_table import FIRST_ROWS, ROWS, over


def assert_same(model, inputs, path):
    arrays = inputs if isinstance(inputs, list) else [inputs]
    expected = np.asarray(model(inputs))
    model.export(path, format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(path)
    fed = {node.name: array for node, array in zip(session.get_inputs(), arrays, strict=True)}
    (outputs,) = session.run(None, fed)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


@pytest.mark.slow_on_tensorflow
@over([row for row in ROWS if "onnx" in row.exports and row in FIRST_ROWS])
def test_every_layer(row, tmp_path):
    assert_layer(row, tmp_path)


@pytest.mark.slow
@over([row for row in ROWS if "onnx" in row.exports and row not in FIRST_ROWS])
def test_other_arguments(row, tmp_path):
    assert_layer(row, tmp_path)


def assert_layer(row, tmp_path):
    layer = row.make()
    model = row.model(layer, unknown_sizes=False)
    weights.randomise(layer)
    assert_same(model, row.example(), tmp_path / "layer.onnx")


@pytest.mark.slow_on_tensorflow
def test_a_backbone(tmp_path):
    model = small("fmmnet", attention="cbam")
    images = np.random.default_rng(0).uniform(size=(3, *model.input_shape[1:]))
    assert_same(model, images.astype("float32"), tmp_path / "model.onnx")
