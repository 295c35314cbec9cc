import pathlib

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("recipes run on TensorFlow", allow_module_level=True)

from keras_fmm import models
from recipes.papers import model_table as recipe

PAGE = (pathlib.Path(__file__).parents[3] / "docs/results/model_table.md").read_text("utf-8")


def test_every_row_names_a_preset():
    for _, rows, _ in recipe.TABLES:
        assert {row.preset for row in rows} <= {*models.PRESETS}


@pytest.mark.slow
def test_the_page_is_what_the_recipe_writes(tmp_path):
    # The MobileNets are built anew; the rest takes long.
    output = tmp_path / "docs" / "page.md"
    page = recipe.main(recipe.Settings(smoke=True, output=str(output)))
    assert output.read_text(encoding="utf-8") == page
    lines = page.splitlines()
    assert sum("mobilenet" in line for line in lines) == 5
    assert [line for line in lines if line not in PAGE.splitlines()] == []
    for _, rows, _ in recipe.TABLES:
        assert all(f"| {row.paper_name} | " in PAGE for row in rows)


@pytest.mark.slow_on_tensorflow
def test_a_row_by_hand():
    row = recipe.Row("Small", "mobilenet", parameters=1.0, remark="By hand.")
    arguments = {"input_shape": (32, 32, 3), "alpha": 0.25, "classes": 2}
    # 207 k in the blocks and the stem, 514 in the classifier.
    parameters = models.MobileNet(**arguments).count_params() - 2 * sum(
        weight.shape[0]
        for layer in models.MobileNet(**arguments).layers
        if isinstance(layer, keras.layers.BatchNormalization)
        for weight in layer.trainable_weights[:1]
    )
    cells = recipe.cells(row, arguments)
    assert cells[:5] == ["Small", "`mobilenet`", f"{parameters / 1e6:.2f}", "1", "-0.79"]
    assert cells[6:] == ["", "", "By hand."]


def test_a_smoke_run_leaves_the_page_alone():
    assert recipe.output_path(recipe.Settings()) == pathlib.Path("docs/results/model_table.md")
    assert recipe.output_path(recipe.Settings(smoke=True)) == pathlib.Path(
        "runs/smoke/model_table.md"
    )
    assert recipe.output_path(recipe.Settings(smoke=True, output="my.md")) == pathlib.Path("my.md")
