import json
import math

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("times TensorFlow's functions", allow_module_level=True)

from keras_fmm import layers
from recipes.benchmarks import aw_conv as recipe


def test_every_candidate_is_measured_in_every_mode_that_can_run_it():
    ours = recipe.implementations() | recipe.variants() | recipe.parts()
    every = set(ours) | set(recipe.outside("train"))
    missing = {
        "train": set(),
        "train, batch unknown": {"grouped_conv"},
        "train, XLA": {"vectorized_map", "map_fn"},
        "inference": set(),
        "LiteRT, batch 1": {"grouped_conv"},
    }
    assert tuple(missing) == recipe.MODES
    for mode, absent in missing.items():
        ours, others = recipe.candidates(mode)
        assert set(ours) | set(others) == every - absent


@pytest.mark.slow
def test_runs_end_to_end(tmp_path, capsys):
    output = tmp_path / "results" / "benchmark.json"
    results = recipe.main(recipe.Settings(smoke=True, output=str(output)))
    assert json.loads(output.read_text()) == results
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert tuple(results["ratios"]) == recipe.MODES
    for mode, rows in results["ratios"].items():
        ours, others = recipe.candidates(mode)
        assert set(rows) == {*(ours if mode == "inference" else ["auto"]), *others}
        for row in rows.values():
            assert all(math.isfinite(end) and end > 0 for ratio in row.values() for end in ratio)
    assert "inference, factored" in capsys.readouterr().out


@pytest.mark.parametrize("stage", ["8", "8x8", "8x9x4", "0x0x3", "8x8x4x", ""])
def test_refuses_what_is_no_stage(stage):
    with pytest.raises(ValueError, match=f"square maps HEIGHT.* Received: '{stage}'"):
        recipe.sizes(stage)


def test_the_parts_are_those_of_the_layer():
    x = np.random.default_rng(0).normal(size=(3, 5, 5, 4)).astype("float32")
    whole, alone = layers.AWConv2D(4, 3, padding="same"), recipe.parts()["attention alone"](4)
    given = recipe.parts()["attention given"](4)
    for layer in (whole, alone, given):
        layer.build(x.shape)
    alone.set_weights(whole.get_weights())
    expected = whole.attention_map(x)
    np.testing.assert_array_equal(alone(x), expected)
    assert alone.compute_output_shape(x.shape) == expected.shape
    given.kernel.assign(whole.kernel)
    # Each sample's gain is what it has in its first corner, and 1.
    gains = 1 + x[:, 0, 0]
    plain = keras.ops.conv(x, given.kernel, padding="same")
    np.testing.assert_allclose(given(x), plain * gains[:, None, None], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["map_fn", "grouped_conv", "patches"])
def test_what_is_outside_computes_the_same(name):
    # Otherwise the comparison would compare nothing.
    x = np.random.default_rng(0).normal(size=(3, 5, 5, 4)).astype("float32")
    ours, other = layers.AWConv2D(4, 3, padding="same"), recipe.outside("train")[name](4)
    for layer in (ours, other):
        layer.build(x.shape)
    for weight, value in zip(ours.weights, other.weights, strict=True):
        value.assign(np.random.default_rng(1).uniform(0.5, 1, size=weight.shape))
        weight.assign(value)
    np.testing.assert_allclose(other(x), ours(x), rtol=1e-4, atol=1e-5)
