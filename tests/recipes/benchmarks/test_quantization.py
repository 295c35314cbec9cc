import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("exports", allow_module_level=True)

from recipes.benchmarks import quantization as recipe


@pytest.mark.slow
def test_quantization_measures_every_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    part = recipe.main(recipe.Settings(smoke=True))
    assert set(part["trials"]) == {"se_toy_cnn"}
    for trial in part["trials"].values():
        assert set(trial["0"]["files"]) == {"float32", *recipe.REQUIRED}
        assert trial["0"]["files"]["float32"]["same_class"] > 0.99
    for name, seed, kind, file in recipe.rows(part):
        path = tmp_path / recipe.SMOKE_FOLDER / file["file"]
        assert path.name == f"{name}_digits_1epochs_seed{seed}_{kind}.tflite"
        assert path.stat().st_size == file["bytes"]
    assert "| se_toy_cnn | " in capsys.readouterr().out
    with pytest.raises(ValueError, match="`backbones` must be among toy_cnn, mobilenet"):
        recipe.main(recipe.Settings(backbones="vgg", smoke=True))


def file(same_class=1.0, accuracy=0.9):
    return {"same_class": same_class, "accuracy": accuracy, "accuracy_of_keras": 0.9, "bytes": 1}


@pytest.mark.parametrize(
    ("kind", "found", "missed"),
    [
        ("int8", file(0.981, 0.891), 0),
        ("int8", file(0.979, 0.9), 1),
        ("int8", file(0.979, 0.889), 2),
        ("float16", file(0.999, 0.8985), 1),
        ("dynamic", file(0.996, 0.8985), 0),
        ("dynamic", file(0.994, 0.95), 1),
    ],
)
def test_what_is_required_of_a_file(kind, found, missed):
    part = {"trials": {"toy_cnn": {"0": {"files": {kind: found}}}}}
    assert len(recipe.misses(part)) == missed
