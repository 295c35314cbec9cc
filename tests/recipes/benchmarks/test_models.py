import json
import math

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("times TensorFlow's functions", allow_module_level=True)

from keras_fmm import layers
from recipes.benchmarks import models as recipe


@pytest.mark.slow
def test_measures_every_model_in_every_mode(tmp_path, capsys):
    output = tmp_path / "results.json"
    settings = recipe.Settings(smoke=True, backbone="mobilenet", output=str(output))
    results = recipe.main(settings)
    assert json.loads(output.read_text()) == results
    assert set(results["ratios"]) == {"train", "inference"}
    for row in results["ratios"].values():
        assert set(row) == {"keras.applications", "se_mobilenet"}
        assert all(math.isfinite(end) and end > 0 for ratio in row.values() for end in ratio)
    assert "| se_mobilenet | " in capsys.readouterr().out


def test_the_small_network_has_the_convolutions_of_a_resnet20():
    settings = recipe.Settings(backbone="wide_resnet22_1", image_size=32, smoke=True)
    model = recipe.build("aw_wide_resnet22_1", settings)
    kernels = [layer.kernel.shape for layer in model.layers if isinstance(layer, layers.AWConv2D)]
    wanted = [(3, 3, a, b) for a, b in ((16, 16), (16, 32), (32, 32), (32, 64), (64, 64))]
    assert [kernels.count(shape) for shape in wanted] == [6, 1, 5, 1, 5]
    assert len(kernels) == 18


@pytest.mark.slow
def test_memory_is_that_of_the_steps_alone():
    ours = np.ones(60_000_000)
    settings = recipe.Settings(backbone="mobilenet", batch_size=16, image_size=96, smoke=True)
    needed = recipe.memory("mobilenet", settings)
    # 16 images' maps at 48x48, some thirty of them of 32 or 64 channels, and not this process's.
    assert 50_000 < needed < ours.nbytes / 1000


def test_refuses_an_attention_that_is_in_no_preset():
    with pytest.raises(ValueError, match="there is no preset sse_resnet50"):
        recipe.main(recipe.Settings(attentions="se,sse"))
