import json

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("measures TensorFlow's functions", allow_module_level=True)

from recipes.benchmarks import memory as recipe
from recipes.benchmarks import timing


@pytest.mark.slow
def test_measures_what_is_asked_for(tmp_path, capsys):
    output = tmp_path / "results.json"
    results = recipe.main(recipe.Settings(smoke=True, output=str(output)))
    assert json.loads(output.read_text()) == results
    assert set(results["ours"]) == {"a model", "attention_maps"}
    assert set(results["plain"]) == {"a model", "predict"}
    assert "| attention_maps | " in capsys.readouterr().out
    assert "curve" in results["left"]
    # A row that is there is kept, one that is named is measured.
    again = recipe.Settings(smoke=True, output=str(output), jobs="flops")
    results["ours"]["a model"]["kept"] = -7.0
    output.write_text(json.dumps(results))
    results = recipe.main(again)
    assert set(results["ours"]) == {"a model", "attention_maps", "flops"}
    assert results["ours"]["a model"]["kept"] == -7.0


def test_tells_what_grows():
    kept = []
    grown = recipe.growth(kept.append, lambda: bytes(3 * 2**20), 3)
    assert 2.9 < grown["kept"] < 3.3
    assert abs(recipe.growth(len, lambda: bytes(3 * 2**20), 3)["kept"]) < 0.1


def test_a_page_names_what_keeps_too_much(tmp_path):
    assert recipe.page(tmp_path) is None
    row = {"kept": 0.5, "resident": 0.6, "plain": 0.2}
    found = {"ours": {"fit": row, "predict": {**row, "kept": 0.4}}, "left": ["Run"]}
    timing.write(tmp_path / "benchmark_memory.json", recipe.Settings(), found)
    text = recipe.page(tmp_path)
    assert "| fit | 0.5 | 0.6 | 0.2 |" in text
    assert "beyond the plain one: fit.\nNot measured yet: Run.\n" in text


def test_refuses_an_unknown_job():
    with pytest.raises(ValueError, match=r"`jobs` must be among .*Received: gradcam"):
        recipe.main(recipe.Settings(jobs="gradcam"))
