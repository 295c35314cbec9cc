"""What needs a process of its own: a full disk; another backend, and an absent extra in it."""

import os
import subprocess
import sys

import pytest

from keras_fmm import export
from tests.export import toys


def _python(code, *arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FULL = """
import pathlib, resource, sys
import keras
from keras_fmm import export

model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
folder = pathlib.Path(sys.argv[1])
writers = {"toy.keras": export.save_model, "toy": export.to_saved_model,
           "toy.tflite": export.to_tflite}
for name, write in writers.items():
    write(model, folder / name)
before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
for name, write in writers.items():
    for path in (folder / name, folder / ("new_" + name)):
        try:
            write(model, path)
        except OSError as error:
            assert "could not be written" in str(error), error
            assert "Choose a folder that can be written" in str(error), error
        else:
            raise SystemExit(f"{path} was written")
assert before == {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
assert sorted(file.name for file in folder.iterdir()) == sorted(writers)
"""


@pytest.mark.slow
def test_a_full_disk_leaves_the_old_files_and_nothing_else(tmp_path):
    _python(FULL, tmp_path)


@pytest.mark.parametrize(
    "write", [export.save_model, export.to_saved_model, export.to_tflite], ids=lambda f: f.__name__
)
def test_a_path_below_a_file_is_refused_with_the_cure(tmp_path, write):
    (tmp_path / "file").write_text("a file")
    ending = {"save_model": ".keras", "to_tflite": ".tflite"}.get(write.__name__, "")
    with pytest.raises(OSError, match=r"could not be written.*Choose a folder"):
        write(toys.cnn(), tmp_path / "file" / f"toy{ending}")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


JAX = """
import sys
import keras
from keras_fmm import export
from tests.export import toys

assert "ai_edge_litert" not in sys.modules
assert "tensorflow" not in sys.modules
sys.modules["ai_edge_litert"] = None
try:
    export.run_tflite(sys.argv[2], [[0.0]])
except ImportError as error:
    assert "pip install 'keras-fmm[mobile]'" in str(error), error
else:
    raise SystemExit("ran")
del sys.modules["ai_edge_litert"]

model = keras.models.load_model(sys.argv[1])
for write in (export.to_saved_model, export.to_tflite):
    try:
        write(model, sys.argv[1] + ".tflite")
    except ValueError as error:
        assert "needs the TensorFlow backend. Received: backend=jax. Save" in str(error), error
    else:
        raise SystemExit("written")
print(export.compare(model, toys.images(), tflite=sys.argv[2])["tflite"].max_difference)
"""


@pytest.mark.slow
def test_jax_cannot_write_but_compares_and_an_absent_extra_is_named(tmp_path):
    pytest.importorskip("jax")
    model = toys.cnn()
    saved = export.save_model(model, tmp_path / "toy.keras")
    tflite = export.to_tflite(model, tmp_path / "toy.tflite")
    assert float(_python(JAX, saved, tflite, KERAS_BACKEND="jax")) < 1e-5
