"""What works where TensorFlow is not installed, and what an absent backend or extra is told."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_fmm import analysis, data, export, layers, models, plots, training

HAS_TENSORFLOW = importlib.util.find_spec("tensorflow") is not None
without_tensorflow = pytest.mark.skipif(HAS_TENSORFLOW, reason="TensorFlow is installed")

IMPORT = """
import sys
for name in sys.argv[1:]:
    sys.modules[name] = None
try:
    import keras_fmm
except ImportError as error:
    print(type(error).__name__, error)
"""


def importing_without(*absent, backend=None):
    """Returns what `import keras_fmm` raises in a process that lacks some packages."""
    environment = {name: text for name, text in os.environ.items() if name != "KERAS_BACKEND"}
    if backend is not None:
        environment["KERAS_BACKEND"] = backend
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, *absent],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_a_backend_the_three_extras_are_named():
    told = importing_without("tensorflow", "jax", "torch")
    assert told.startswith("ImportError keras_fmm needs a backend of Keras")
    assert "KERAS_BACKEND=(not set, so tensorflow)" in told
    assert "No module named" in told or "halted" in told
    assert "installed: none of them" in told
    for extra in ("tensorflow", "jax", "torch"):
        assert f"pip install 'keras-fmm[{extra}]'" in told


def test_another_backend_that_is_absent_is_named():
    told = importing_without("torch", backend="torch")
    assert "Received: KERAS_BACKEND=torch, and " in told
    installed = [name for name in ("tensorflow", "jax") if importlib.util.find_spec(name)]
    assert f"installed: {', '.join(installed) or 'none of them'}." in told


def test_another_absent_package_is_told_as_it_is():
    told = importing_without("absl", backend=keras.backend.backend())
    assert told.startswith("ModuleNotFoundError")
    assert "absl" in told
    assert "backend" not in told


@pytest.fixture
def digits():
    return data.load("digits")


def compiled(digits):
    model = keras.Sequential(
        [
            keras.Input(digits.input_shape),
            data.preprocessing(digits, "standardize"),
            keras.layers.Conv2D(4, 3),
            layers.SqueezeExcite(reduction=2),
            keras.layers.Flatten(),
            keras.layers.Dense(digits.classes, "softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@without_tensorflow
def test_a_run_that_is_stopped_goes_on_as_one_that_was_not(digits, tmp_path):
    images, labels = digits.arrays("validation")

    def trained(folder, *stops):
        for epochs in stops:
            keras.utils.set_random_seed(0)
            model = compiled(digits)
            run = training.Run(tmp_path / folder, {"of": "digits"})
            first = run.restore(model)
            model.fit(
                images,
                labels,
                batch_size=48,
                shuffle=False,
                initial_epoch=first,
                epochs=epochs,
                validation_data=(images, labels),
                callbacks=run.callbacks(),
                verbose=0,
            )
        run.finish()
        return model, run.record

    stopped, record = trained("stopped", 1, 3)
    whole, expected = trained("whole", 3)
    assert record["status"] == "finished"
    np.testing.assert_allclose(record["history"]["loss"], expected["history"]["loss"], rtol=1e-5)
    assert record["history"]["loss"][2] < record["history"]["loss"][0]
    for one, other in zip(stopped.weights, whole.weights, strict=True):
        np.testing.assert_allclose(
            *map(keras.ops.convert_to_numpy, (one, other)), rtol=1e-3, atol=1e-5
        )
    best = keras.models.load_model(tmp_path / "stopped" / "best.keras")
    assert best.predict(images[:4], verbose=0).shape == (4, 10)
    versions = training.environment()["versions"]
    assert versions["backend"] == keras.backend.backend()
    assert "tensorflow" not in sys.modules


@without_tensorflow
def test_data_networks_measurements_and_figures(digits, tmp_path):
    data.save_arrays(digits, tmp_path / "digits.npz")
    again = data.load_arrays(tmp_path / "digits.npz")
    assert again.sizes == digits.sizes
    images, _ = again.arrays("test", image_size=(8, 10))
    assert images.shape == (359, 8, 10, 1)
    keras.utils.save_img(tmp_path / "one.png", images[0], scale=False)
    assert data.load_image(tmp_path / "one.png", channels=1).shape == (8, 10, 1)

    for number, image in enumerate(images[:16]):
        (tmp_path / "own" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        path = tmp_path / "own" / "ab"[number % 2] / f"{number}.png"
        keras.utils.save_img(path, image, scale=False)
    own = data.load(tmp_path / "own", image_size=(8, 8))
    found = [own.batches("test", 2, shuffle=False)[i][0] for i in range(own.steps("test", 2))]
    np.testing.assert_array_equal(np.concatenate(found), own.arrays("test")[0])

    plain = models.ToyCNN(input_shape=(8, 10, 1), classes=10)
    upgraded = models.upgrade(plain, attention="squeeze_excite")
    # It starts as the plain one.
    np.testing.assert_allclose(
        *(model.predict(images[:3] / 255, verbose=0) for model in (upgraded, plain)), atol=1e-5
    )
    maps = analysis.attention_maps(upgraded, images[:2])
    assert {len(found) for found in maps.values()} == {2}
    assert analysis.flops(upgraded) > analysis.flops(plain) > 0
    loaded = keras.models.load_model(export.save_model(upgraded, tmp_path / "upgraded.keras"))
    assert any(isinstance(layer, layers.SqueezeExcite) for layer in loaded.layers)
    figure = plots.training_curves({"a": {"loss": [2.0, 1.0]}}, metrics=["loss"])
    plots.save_figure(figure, tmp_path / "curves.png")
    assert data.load_image(tmp_path / "curves.png").ndim == 3
    assert "tensorflow" not in sys.modules


@without_tensorflow
def test_what_needs_tensorflow_names_its_extra(digits, tmp_path):
    model = compiled(digits)
    run = training.Run(tmp_path / "run", {})
    run.restore(model)
    images, _ = digits.arrays("test")
    (tmp_path / "saved_model").mkdir()
    calls = {
        "A pipeline": lambda: digits.pipeline("train"),
        "The dataset 'mnist'": lambda: data.load("mnist"),
        "`tensorboard=True`": lambda: run.callbacks(tensorboard=True),
        "Export, with KERAS_BACKEND=tensorflow,": lambda: export.to_tflite(
            model, tmp_path / "a.tflite"
        ),
        "Export, with KERAS_BACKEND": lambda: export.to_saved_model(model, tmp_path / "b"),
        "Running a SavedModel": lambda: export.run_saved_model(tmp_path / "saved_model", images),
        "Running a": lambda: export.compare(model, images[:2], tmp_path / "saved_model"),
    }
    for purpose, call in calls.items():
        message = f"{purpose}.* needs tensorflow. Received: .*pip install 'keras-fmm.tensorflow.'"
        with pytest.raises(ImportError, match=message):
            call()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "saved_model"]


@without_tensorflow
def test_a_tflite_file_runs_where_litert_is_and_names_its_extra_elsewhere():
    path = "tests/data/toy_0.1.0_int8.tflite"
    images = np.zeros((2, 8, 8, 1), "float32")
    calls = [
        lambda: export.run_tflite(path, images),
        lambda: export.inspect(path),
        lambda: export.read_metadata(path),
    ]
    for call in calls:
        if importlib.util.find_spec("ai_edge_litert"):
            call()
            continue
        with pytest.raises(ImportError, match=r"needs ai_edge_litert.*'keras-fmm\[mobile\]'"):
            call()
