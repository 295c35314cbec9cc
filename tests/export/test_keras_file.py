import keras
import numpy as np
import pytest

from keras_fmm import export
from tests.export import toys


def test_a_saved_model_loads_with_its_weights(tmp_path):
    model = toys.cnn()
    path = export.save_model(model, str(tmp_path / "toy.keras"))
    assert path == tmp_path / "toy.keras"
    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(loaded(toys.images()), model(toys.images()))
    assert [file.name for file in tmp_path.iterdir()] == ["toy.keras"]


def test_refused_models_and_paths(tmp_path):
    with pytest.raises(TypeError, match=r"`model` must be a keras\.Model"):
        export.save_model("toy", tmp_path / "toy.keras")
    with pytest.raises(ValueError, match="`model` must be built"):
        export.save_model(keras.Sequential([keras.layers.Dense(2)]), tmp_path / "toy.keras")
    with pytest.raises(ValueError, match=r"`path` must end in '\.keras'"):
        export.save_model(toys.cnn(), tmp_path / "toy.h5")
    (tmp_path / "folder.keras").mkdir()
    (tmp_path / "folder.keras" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="which is a folder"):
        export.save_model(toys.cnn(), tmp_path / "folder.keras")
    assert (tmp_path / "folder.keras" / "mine.txt").read_text() == "mine"
