import json

import keras
import numpy as np
import pytest

from recipes.benchmarks import self_attention as recipe
from recipes.benchmarks import timing


def test_the_interval_is_of_the_order():
    # Of fifteen the fourth and the twelfth: the median lies between them in 96 of 100 cases.
    assert timing.interval(range(15, 0, -1)) == [8, 4, 12]
    assert timing.interval([2.0]) == [2.0, 2.0, 2.0]


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="PyTorch's own attention")
def test_the_fused_form_says_what_ours_says():
    shape = (2, 6, 5, 64)
    made = recipe.candidates(shape, "augmented")
    ours, fused = made["auto"](), made["PyTorch's own"]()
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    for layer in (ours, fused):
        layer.build(shape)
    fused.set_weights(ours.get_weights())
    expected, found = (keras.ops.convert_to_numpy(layer(x)) for layer in (ours, fused))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_page_has_every_backend_that_was_measured(tmp_path):
    assert recipe.page(tmp_path) is None
    found = {"self_attention": {"a map": {"Conv2D, inference, XLA": [1.0, 1.0, 1.0]}}}
    settings = recipe.Settings(output="results_jax.json")
    timing.write(tmp_path / "benchmark_self_attention_jax.json", settings, found)
    page = recipe.page(tmp_path)
    assert "## On JAX" in page
    # As it stands: with the backend that it was measured on.
    backend = keras.backend.backend()
    prefix = "" if backend == "tensorflow" else f"KERAS_BACKEND={backend} "
    command = "python -m recipes.benchmarks.self_attention --output results_jax.json"
    assert f"\n{prefix}{command}\n" in page
    assert "| Conv2D | 1.0 (1.0 to 1.0) |" in page


@pytest.mark.slow
def test_measures_every_form(tmp_path, capsys):
    output = tmp_path / "results.json"
    results = recipe.main(recipe.Settings(smoke=True, output=str(output)))
    assert json.loads(output.read_text()) == results
    augmented, local = results["self_attention"].values()
    names = {name.partition(",")[0] for name in augmented}
    assert names == {
        *("Conv2D", "auto", "plain", "parts", "without positions", "auto to without positions"),
        *(["PyTorch's own"] if keras.backend.backend() == "torch" else []),
    }
    assert augmented["Conv2D, train"] == [1.0, 1.0, 1.0]
    assert local["blocks, inference"][0] > 0
    assert "| shifts | " in capsys.readouterr().out


def test_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "MODES", ("train",))
    measured = []

    def ratios(shape, kind, mode, rounds, verbose):
        measured.append(kind)
        if stops := measured == ["augmented", "local"]:
            raise KeyboardInterrupt(stops)
        return {"Conv2D, train": [1.0, 1.0, 1.0], "auto, train": [2.0, 1.5, 2.5]}

    monkeypatch.setattr(recipe, "ratios", ratios)
    settings = recipe.Settings(smoke=True, output=str(tmp_path / "results.json"))
    with pytest.raises(KeyboardInterrupt):
        recipe.main(settings)
    results = recipe.main(settings)
    assert measured == ["augmented", "local", "local"]
    assert "| auto | 2.0 (1.5 to 2.5) |" in recipe.table(results)
