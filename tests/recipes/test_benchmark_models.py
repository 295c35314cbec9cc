import json
import math
import pathlib

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("times TensorFlow's functions", allow_module_level=True)

from recipes import benchmark_models as recipe


def test_measures_every_model_in_every_mode(tmp_path, capsys):
    output = tmp_path / "results.json"
    settings = recipe.Settings(smoke=True, backbone="mobilenet", output=str(output))
    results = recipe.main(settings)
    assert json.loads(output.read_text()) == results
    assert set(results["ratios"]) == {"train", "inference"}
    for row in results["ratios"].values():
        assert set(row) == {"keras.applications", "se_mobilenet"}
        assert all(math.isfinite(ratio) and ratio > 0 for ratio in row.values())
    assert "| se_mobilenet | " in capsys.readouterr().out


def test_refuses_an_attention_that_is_in_no_preset():
    with pytest.raises(ValueError, match="there is no preset sse_resnet50"):
        recipe.main(recipe.Settings(attentions="se,sse"))


def test_readme_has_the_committed_results():
    root = pathlib.Path(__file__).parents[2]
    results = json.loads((root / "recipes/results/benchmark_models.json").read_text())
    assert recipe.markdown(results["ratios"]) in (root / "README.md").read_text(), (
        "Put into README what recipes.benchmark_models.markdown gives of the new results."
    )
