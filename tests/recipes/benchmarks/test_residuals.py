import json

import pytest

from recipes.benchmarks import residuals as recipe


@pytest.mark.slow
def test_measures_every_form(tmp_path, capsys):
    output = tmp_path / "benchmark_residuals.json"
    results = recipe.main(recipe.Settings(smoke=True, output=str(output)))
    assert json.loads(output.read_text()) == results
    (ratios,) = results["residuals"].values()
    assert list(ratios) == list(recipe.FORMS)
    assert all(median > 0 for median, _, _ in ratios.values())
    table = recipe.table(results)
    assert table in capsys.readouterr().out
    assert table in recipe.page(tmp_path)
