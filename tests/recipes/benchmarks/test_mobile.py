import json

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("exports", allow_module_level=True)

from recipes.benchmarks import mobile, quantization


@pytest.mark.slow
def test_mobile_measures_every_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    results = mobile.main(mobile.Settings(smoke=True))
    written = json.loads((tmp_path / "runs/smoke/benchmark_mobile.json").read_text())
    assert written["untrained"] == results["untrained"]
    rows = results["untrained"]
    assert set(rows) == {"fmmnet16_4, float32", "fmmnet16_4, int8"}
    for row in rows.values():
        for threads in ("1", "2"):
            assert row["median"][threads] >= row["milliseconds"][threads] > 0
        # It holds the weights at least, in whatever form.
        assert row["kilobytes"] > row["bytes"] / 2000
    assert rows["fmmnet16_4, int8"]["bytes"] < 0.35 * rows["fmmnet16_4, float32"]["bytes"]
    assert "| fmmnet16_4 | " in capsys.readouterr().out


def times(**rows):
    return {
        name.replace("_at_", ", "): {"milliseconds": {"1": time}, "bytes": size}
        for name, (time, size) in rows.items()
    }


@pytest.mark.parametrize(
    ("found", "missed"),
    [
        (times(mobilenet_at_float32=(10, 1), se_mobilenet_at_float32=(11.4, 1)), []),
        (times(mobilenet_at_float32=(10, 1), se_mobilenet_at_float32=(11.6, 1)), ["1.16"]),
        (times(a_at_float32=(10, 5e6), a_at_int8=(5.1, 2e6)), ["0.51", "0.40"]),
        (times(a_at_float32=(10, 3e6), a_at_int8=(4.9, 2e6)), []),
    ],
)
def test_what_is_required_of_times_and_sizes(found, missed):
    missed_here = mobile.misses(found)
    assert len(missed_here) == len(missed)
    for text, number in zip(missed_here, missed, strict=True):
        assert number in text


def test_of_several_numbers_of_epochs_the_most_is_timed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(quantization, "FOLDER", tmp_path)
    monkeypatch.setattr(
        mobile, "measured", lambda paths, _: {key: {"path": paths[key]} for key in paths}
    )

    def part(epochs):
        kinds = ("float32", "int8")
        files = {
            kind: {"file": f"{epochs}_{kind}.tflite", "accuracy": epochs / 10} for kind in kinds
        }
        trials = {"toy_cnn": {"0": {"files": files}}, f"toy_of_{epochs}": {"0": {"files": files}}}
        return {"fixed": {"epochs": epochs}, "trials": trials}

    trained = tmp_path / "quantization.json"
    trained.write_text(json.dumps({"a": part(6), "b": part(3), "c": part(9)}))
    # Of nine epochs one file is not at hand, so that the other is not taken either.
    for name in ("3_float32", "3_int8", "6_float32", "6_int8", "9_int8"):
        (tmp_path / f"{name}.tflite").touch()
    found = mobile.trained(mobile.Settings(trained=str(trained)))
    for kind in ("float32", "int8"):
        row = {"path": tmp_path / f"6_{kind}.tflite", "accuracy": 0.6, "epochs": 6}
        assert found[f"toy_cnn, {kind}"] == row
    assert {name.rpartition(", ")[0] for name in found} == {"toy_cnn", "toy_of_3", "toy_of_6"}
    shown = capsys.readouterr().out
    assert "toy_of_9 is left out" in shown
    assert "toy_cnn" not in shown


def test_the_picture_has_a_panel_a_backbone():
    found = {
        f"{name}, {kind}": {"median": {"1": 1.0}, "accuracy": 0.9, "epochs": 3}
        for name in ("toy_cnn", "aw_se_mobilenet")
        for kind in ("float32", "int8")
    }
    figure = mobile.picture(found)
    assert [axes.get_title() for axes in figure.axes] == [
        "toy_cnn, 3 epochs",
        "mobilenet, 3 epochs",
    ]
