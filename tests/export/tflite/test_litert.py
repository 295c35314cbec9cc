"""A session of a file whose sizes are open; one of fixed sizes is run in all other tests."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_fmm import export
from keras_fmm.export.tflite import litert, metadata
from tests.export import toys


@pytest.mark.parametrize("keeps_all", [False, True], ids=["fast", "keeps_all"])
def test_a_session_takes_one_size_after_another_and_goes_on_after_one_it_refuses(
    tmp_path, keeps_all
):
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layers.Conv2D(2, 5)(inputs))
    path = export.to_tflite(model, tmp_path / "toy.tflite", batch_size=None)
    content, _ = metadata.split(path.read_bytes())
    session = litert.Session(content, keeps_all=keeps_all)
    (name,) = session.inputs
    images = toys.images(2)
    for fitting in (images, images[:1, :6, :7], images):
        (output,) = session.run({name: fitting}).values()
        np.testing.assert_allclose(output, model(fitting), atol=1e-5)
        with pytest.raises(litert.RefusedError, match="failed to prepare"):
            session.run({name: images[:, :3, :3]})
