import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_fmm import export, training
from keras_fmm.layers import SqueezeExcite
from tests.export import toys


@keras.saving.register_keras_serializable("test_tflite")
class Erfinv(layers.Layer):
    """TFLite has no such operator."""

    def call(self, inputs):
        return ops.erfinv(ops.tanh(inputs))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    model = toys.cnn()
    return model, export.to_tflite(model, tmp_path_factory.mktemp("tflite") / "toy.tflite")


def _agrees(path, model, images, atol=1e-5):
    np.testing.assert_allclose(export.run_tflite(path, images), model(images), atol=atol)


@pytest.mark.parametrize("batch_size", [1, 3, None])
def test_every_number_of_images_gives_the_numbers_of_keras(tmp_path, batch_size, capfd):
    # A file of a fixed batch holds the whole shape: it cannot run a smaller last batch.
    model = toys.cnn(head=layers.Reshape((36, 1, 6)))
    path = export.to_tflite(model, tmp_path / "toy.tflite", batch_size=batch_size)
    assert capfd.readouterr().out == ""
    for n in (1, 3, 5):
        _agrees(path, model, toys.images(n))


@pytest.mark.slow_on_tensorflow
def test_numbers_of_any_dtype_are_fed_as_the_input_dtype(written):
    model, path = written
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype="uint8")
    expected = model(images.astype("float32"))
    np.testing.assert_allclose(export.run_tflite(path, images), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, None])
def test_unknown_height_and_width_stay_unknown(tmp_path, batch_size):
    model = toys.cnn(size=None)
    path = export.to_tflite(model, tmp_path / "toy.tflite", batch_size=batch_size)
    _agrees(path, model, toys.images(3, size=8))
    _agrees(path, model, toys.images(3, size=11))


@pytest.mark.slow_on_tensorflow
def test_sequential_and_subclassed_models(tmp_path):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = toys.cnn()

        def call(self, inputs):
            return self.inner(inputs) * 2

    subclassed = Subclassed()
    with pytest.raises(ValueError, match="`model` must be built"):
        export.to_tflite(subclassed, tmp_path / "toy.tflite")
    subclassed(toys.images(2))
    sequential = keras.Sequential([layers.Flatten(), layers.Dense(3)])
    sequential(toys.images(2))
    for model in (subclassed, sequential):
        _agrees(export.to_tflite(model, tmp_path / "toy.tflite"), model, toys.images())


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize(
    ("head", "message"),
    [
        (Erfinv(name="odd_one"), r"needs Erfinv \(at .*odd_one"),
        (lambda x: ops.cholesky(ops.matmul(x, ops.swapaxes(x, 2, 3))), "needs Cholesky"),
        (lambda x: ops.cholesky(ops.erfinv(x)), "needs Cholesky.*; Erfinv"),
    ],
    ids=["custom", "flex", "both"],
)
def test_operators_that_tflite_lacks_are_named_and_nothing_is_written(tmp_path, head, message):
    path = tmp_path / "toy.tflite"
    with pytest.raises(ValueError, match=message):
        export.to_tflite(toys.cnn(head=head), path)
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"the old file")
    with pytest.raises(ValueError, match="builtin operators only"):
        export.to_tflite(toys.cnn(head=head), path)
    assert path.read_bytes() == b"the old file"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("dtype", "cure"), [("uint8", "give the model"), ("float32", "or write")])
def test_operators_without_int16_are_named(tmp_path, dtype, cure):
    head = None if dtype == "uint8" else lambda x: ops.cast(ops.cast(x, "int32"), "float32")
    inputs = keras.Input((4, 4, 3), dtype=dtype)
    x = keras.layers.Conv2D(2, 3)(keras.layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, x if head is None else keras.layers.Lambda(head)(x))
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3)).astype(dtype)
    arguments = {"quantization": "int16x8", "representative_data": images, "verbose": 0}
    with pytest.raises(ValueError, match=rf"which needs CAST\. .*\"int8\", {cure}"):
        export.to_tflite(model, tmp_path / "toy.tflite", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_division_in_int8_is_warned_of(tmp_path):
    inputs = keras.Input((4, 4, 3))
    ratio = keras.layers.Lambda(lambda x: (x - 0.5) / (1 + 20 * ops.mean(x, axis=3, keepdims=True)))
    images = np.random.default_rng(0).random((8, 4, 4, 3))
    with pytest.warns(UserWarning, match="divides int8 wrongly.*Received: .*is a division"):
        export.to_tflite(
            keras.Model(inputs, ratio(inputs)),
            tmp_path / "toy.tflite",
            quantization="int8",
            representative_data=images,
        )


@pytest.mark.slow_on_tensorflow
def test_what_would_be_wrong_in_int16_is_refused_by_name(tmp_path):
    images = np.random.default_rng(0).random((8, 4, 4, 3))
    arguments = {"quantization": "int16x8", "representative_data": images, "verbose": 0}
    inputs = keras.Input((4, 4, 3))
    total = keras.layers.Lambda(lambda x: ops.sum(x, axis=(1, 2)))(inputs)
    off = keras.layers.Dense(4, "relu", bias_initializer=keras.initializers.Constant(-9))(inputs)
    outputs = {"takes.*is a sum over axes": total, "is a product of what is 0": off}
    for message, output in outputs.items():
        model = keras.Model(inputs, keras.layers.Dense(2, bias_initializer="ones")(output))
        with pytest.raises(ValueError, match=message):
            export.to_tflite(model, tmp_path / "toy.tflite", **arguments)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.slow_on_tensorflow
@pytest.mark.filterwarnings("ignore:.*does not have a `quantize` method")
@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_what_keras_has_quantized_is_written_or_refused_by_name(tmp_path, mode):
    """TensorFlow's converter takes int4 alone, as Keras computes it since 3.14."""
    model = keras.Sequential([keras.Input((4, 4, 8)), SqueezeExcite(2, name="gate")])
    model.quantize(mode)
    path = tmp_path / "toy.tflite"
    if mode == "int4" and keras.__version__ >= "3.14":
        _agrees(export.to_tflite(model, path), model, np.random.default_rng(0).random((2, 4, 4, 8)))
        return
    with pytest.raises(ValueError, match=rf"layers gate/\w+ \({mode}\), gate/\w+ "):
        export.to_tflite(model, path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"not a model",
        lambda content: content[:1000],
        lambda content: content[:8] + np.random.default_rng(0).bytes(len(content) - 8),
    ],
    ids=["empty", "text", "cut", "random"],
)
def test_a_damaged_file_is_named(written, tmp_path, damage):
    path = tmp_path / "toy.tflite"
    path.write_bytes(damage(written[1].read_bytes()))
    with pytest.raises(ValueError, match="`path` must be a whole TFLite file"):
        export.run_tflite(path, toys.images())


def test_a_model_whose_file_does_not_run_is_refused(tmp_path):
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layers.Conv2D(1, 97, name="huge")(layers.ReLU()(inputs)))
    model = keras.Model(inputs, layers.MaxPooling2D()(model.output))
    message = "must run in LiteRT to count as written.*does not: CONV_2D at .*huge"
    with pytest.raises(ValueError, match=message):
        export.to_tflite(model, tmp_path / "toy.tflite")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow_on_tensorflow
def test_a_model_of_a_distribution_strategy_is_written(tmp_path):
    with training.strategy("mirrored").scope():
        model = toys.cnn()
        model.compile("sgd", "mse")
    model.fit(toys.images(8), np.zeros((8, 4)), batch_size=4, verbose=0)
    path = export.to_tflite(model, tmp_path / "toy.tflite")
    folder = export.to_saved_model(model, tmp_path / "toy")
    for row in export.compare(model, toys.images(), saved_model=folder, tflite=path):
        assert row.max_difference < 1e-5


def test_a_file_of_unknown_operators_is_refused(tmp_path):
    model, path = toys.cnn(head=Erfinv()), tmp_path / "toy.tflite"
    model.export(str(path), format="litert", verbose=False, allow_custom_ops=True)
    with pytest.raises(ValueError, match="Erfinv"):
        export.run_tflite(path, toys.images())


def test_refused_arguments(written, tmp_path):
    model, path = written
    with pytest.raises(FileNotFoundError):
        export.run_tflite(tmp_path / "nothing.tflite", toys.images())
    with pytest.raises(ValueError, match=r"have the shape \(None, 8, 8, 3\).*\(5, 9, 9, 3\)"):
        export.run_tflite(path, toys.images(size=9))
    with pytest.raises(ValueError, match="at least one image"):
        export.run_tflite(path, toys.images()[0])
    with pytest.raises(ValueError, match="`num_threads` must be a positive integer"):
        export.run_tflite(path, toys.images(), num_threads=0)
    with pytest.raises(ValueError, match=r"`path` must end in '\.tflite'"):
        export.to_tflite(model, tmp_path / "toy.lite")
    with pytest.raises(ValueError, match="`batch_size` must be a positive integer"):
        export.to_tflite(model, tmp_path / "toy.tflite", batch_size=0)
    assert list(tmp_path.iterdir()) == []
