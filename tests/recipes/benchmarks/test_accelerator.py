import json
import math

import keras
import pytest

from keras_fmm import training
from recipes.benchmarks import accelerator as recipe


@pytest.mark.slow
def test_without_an_accelerator_it_says_so_and_writes_elsewhere(tmp_path, capsys):
    wanted = tmp_path / "benchmark_accelerator_here.json"
    results = recipe.main(recipe.Settings(backbones=None, output=str(wanted)))
    assert not wanted.exists()
    written = tmp_path / "benchmark_accelerator_here_cpu.json"
    assert json.loads(written.read_text()) == results
    said = capsys.readouterr().out
    assert said.startswith(f"No accelerator: {keras.backend.backend()} finds ")
    assert f"on the CPU, which tell nothing of an accelerator: {written}\n" in said
    # Whatever a file is called, no page shows a CPU as an accelerator.
    written.rename(wanted)
    assert recipe.page(tmp_path) is None
    (rows,) = (modes["train"] for modes in results["layers"]["mixed_bfloat16"].values())
    assert next(iter(rows)) == "Conv2D"
    assert {"aw, auto", "aw, loop", "Conv2D + cbam"} < set(rows)
    for row in rows.values():
        assert math.isfinite(row["ratio"])
        assert min(row["ratio"], row["milliseconds"]) > 0
    assert keras.config.dtype_policy().name == "float32"


def of_an_h100():
    def rows(*milliseconds):
        return {
            name: {
                "ratio": each / milliseconds[0] + 0.01,
                "ratio_fastest": 1.0,
                "milliseconds": each,
                "first_seconds": 10 * each,
                "memory_mb": 100 * each,
            }
            for name, each in zip(("plain", "attending"), milliseconds, strict=True)
        }

    modes = {"train": rows(2.0, 3.0), "inference": rows(1.0, 1.1)}
    environment = training.environment()
    environment["device"] |= {
        "kind": "accelerator",
        "names": ["NVIDIA H100"],
        "platform_version": "cuda 13000",
    }
    return {
        "settings": {"batch_size": 64},
        "environment": environment,
        "date": "2026-11-27",
        "layers": {"float32": {"8x8x4": modes, "4x4x8": modes}},
        "networks": {"float32": {"resnet50": modes}},
    }


def test_the_page_names_device_and_versions_and_compares(tmp_path):
    results = of_an_h100()
    (tmp_path / "benchmark_accelerator_x.json").write_text(json.dumps(results))
    page = recipe.page(tmp_path)
    assert f"on {keras.backend.backend()}, NVIDIA H100, " in page
    assert "cuda 13000. Batch 64." in page
    assert "2026-11-27" in page
    assert "| plain | 2 ms | 2 ms |" in page
    assert "| attending | 1.51 | 1.51 |" in page
    assert "| attending | 1.51 | 1.11 | 1.50 | 1.50 |" in page
    assert recipe.page(tmp_path / "nothing") is None


def test_what_the_backend_does_not_tell_is_no_column():
    results = of_an_h100()
    for mode in results["networks"]["float32"]["resnet50"].values():
        for row in mode.values():
            row["memory_mb"] = None
    tables = recipe.markdown(results)
    assert "memory" not in tables
    assert "| attending | 1.51 | 1.11 | 1.50 |" in tables


@pytest.mark.parametrize(
    "wrong",
    [
        {"attentions": "sse"},
        {"backbones": "resnet18"},
        {"dtypes": "float31"},
        {"gates": "sse"},
        {"implementations": "lop"},
        {"stages": "8x9x4"},
    ],
)
def test_refuses_before_it_measures(wrong, tmp_path, monkeypatch):
    monkeypatch.setitem(recipe.__dict__, "device", lambda: {"kind": "accelerator"})
    settings = recipe.Settings(output=str(tmp_path / "x.json"), **wrong)
    (value,) = wrong.values()
    with pytest.raises(ValueError, match=value):
        recipe.main(settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() == "jax", reason="compiles for minutes")
def test_measures_networks(tmp_path):
    settings = recipe.Settings(smoke=True, stages=None, output=str(tmp_path / "x.json"))
    results = recipe.main(settings)
    (modes,) = (found["mobilenet"] for found in results["networks"].values())
    assert set(modes) == {"train", "inference"}
    assert list(modes["train"]) == ["mobilenet", "se_mobilenet"]
    assert modes["train"]["mobilenet"]["ratio"] == 1.0
