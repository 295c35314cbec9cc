import json

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("counts TensorFlow's operators", allow_module_level=True)

from recipes.benchmarks import first_step as recipe


def test_table_compares_each_round_with_its_plain_step():
    seconds = {"plain": [1.0, 2.0, 4.0], "eca": [1.5, 2.0, 8.0]}
    found = recipe.table(seconds, {"plain": 100, "eca": 150}, {"eca": 1.3})
    assert found["eca"] == {
        "seconds": 2.0,
        "ratio": 1.5,
        "ratio, fastest": 1.5,
        "goal": 1.3,
        "operators": 150,
    }
    assert "| plain | 2.0 | 1.0 | 1.0 |  | 100 |" in recipe.markdown(found)


@pytest.mark.slow
def test_measures_in_fresh_processes(tmp_path, capsys):
    output = tmp_path / "results.json"
    results = recipe.main(recipe.Settings(smoke=True, output=str(output)))
    assert json.loads(output.read_text()) == results
    found = results["first_step"]
    assert set(found) == {"plain", "eca"}
    assert found["plain"]["operators"] < found["eca"]["operators"]
    assert all(row["seconds"] > 0 for row in found.values())
    assert "| eca | " in capsys.readouterr().out


@pytest.mark.parametrize("candidates", ["eca,plain", "plain,ecca", ""])
def test_refuses_what_is_no_candidate(candidates):
    with pytest.raises(ValueError, match=f"begin with plain. Received: '{candidates}'"):
        recipe.main(recipe.Settings(candidates=candidates))
