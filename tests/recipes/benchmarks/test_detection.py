import json

import pytest

from recipes.benchmarks import detection as recipe


@pytest.mark.slow
def test_measures_each_mode_and_goes_on(tmp_path, capsys):
    output = tmp_path / "benchmark_detection.json"
    assert recipe.page(tmp_path) is None
    settings = recipe.Settings(smoke=True, output=str(output))
    results = recipe.main(settings)
    assert json.loads(output.read_text()) == results
    assert list(results["detection"]) == ["train", "inference"]
    for of_mode in results["detection"].values():
        assert of_mode["aw in the pyramid to plain"][0] > 0
        assert of_mode["seconds"]["plain"][0] > 0
    assert "aw in the pyramid to plain: " in capsys.readouterr().out
    ratio = results["detection"]["train"]["aw in the pyramid to plain"][0]
    assert f"| train | {ratio:.2f} (" in recipe.page(tmp_path)
    exports = recipe.Settings(
        smoke=True, modes="exported", output=str(tmp_path / "benchmark_detection_exported.json")
    )
    found = recipe.main(exports)["detection"]["exported"]
    assert list(found["seconds"]) == ["plain", "SavedModel", "TFLite"]
    ratio = found["TFLite to plain"][0]
    assert f"| TFLite | {ratio:.2f} (" in recipe.page(tmp_path)
    assert "--modes exported" in recipe.page(tmp_path)
    # Nothing is timed again.
    assert recipe.main(settings) == results
