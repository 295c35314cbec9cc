"""From a trained model to a quantized file on the command line, and from images to classes."""

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("exports", allow_module_level=True)

from PIL import Image

from keras_fmm import data, export, layers
from recipes import classify, export_model
from recipes.lab.settings import start


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small model of digits, trained a little, its int8 file, and what the recipe measured."""
    keras.utils.set_random_seed(0)
    digits = data.load("digits")
    inputs = keras.Input(digits.input_shape)
    x = data.preprocessing(digits, "standardize")(inputs)
    x = layers.SqueezeExcite(4)(keras.layers.Conv2D(16, 3, activation="relu")(x))
    outputs = keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(x))
    model = keras.Model(inputs, outputs)
    model.compile("adam", "sparse_categorical_crossentropy")
    images, labels = digits.arrays("train")
    model.fit(images.astype("float32"), labels, epochs=5, verbose=0)
    checkpoint = tmp_path_factory.mktemp("digits") / "best.keras"
    model.save(checkpoint)
    path, found = export_model.main(
        export_model.Settings(str(checkpoint), quantization="int8", io_dtype="uint8")
    )
    return checkpoint, path, found


@pytest.mark.slow
def test_the_file_is_measured(trained):
    checkpoint, path, found = trained
    assert path == checkpoint.with_name("best_int8.tflite")
    assert found["accuracy_of_keras"] > 0.9
    assert abs(found["accuracy"] - found["accuracy_of_keras"]) < 0.02
    assert found["same_class"] > 0.97
    assert export.read_metadata(path)["class_names"] == [str(i) for i in range(10)]
    assert export.inspect(path).inputs[0].dtype == "uint8"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", "absent.keras"], "Received: absent.keras, where there is no file"),
        (["--quantization", "int4"], "must be one of none, float16, dynamic, int8"),
        (["--dataset", "didgits"], "didgits"),
        (["--quantization", "float16", "--io-dtype", "int8"], "must be one of 'float32' with"),
    ],
)
def test_a_wrong_command_ends_in_one_line(trained, tmp_path, capsys, arguments, message):
    output = tmp_path / "out.tflite"
    given = ["--checkpoint", str(trained[0]), "--output", str(output), *arguments]
    with pytest.raises(SystemExit) as stop:
        start(export_model.main, export_model.Settings, "", given)
    assert message in str(stop.value) + capsys.readouterr().err
    assert stop.value.code != 0
    assert not output.exists()


def test_another_dataset_is_refused(trained, tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    model.save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="must be the one that the model was trained on"):
        export_model.main(export_model.Settings(str(tmp_path / "other.keras")))


@pytest.fixture
def pictures(tmp_path):
    images, labels = data.load("digits").arrays("test")
    paths = []
    for number, image in enumerate(images[:5]):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(image[..., 0]).save(paths[-1])
    return paths, images[:5], labels[:5]


def test_images_are_classified(trained, pictures, capsys):
    paths, images, labels = pictures
    found = start(classify.main, classify.Settings, "", ["--model", str(trained[1]), *paths])
    scores = export.run_tflite(trained[1], images)
    assert [row[0][0] for row in found] == [str(i) for i in scores.argmax(-1)]
    np.testing.assert_allclose([row[0][1] for row in found], scores.max(-1))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[0].startswith(f"{paths[0]}: {found[0][0][0]} ")
    assert (
        np.mean([row[0][0] == str(label) for row, label in zip(found, labels, strict=True)]) > 0.7
    )


def test_a_coloured_image_of_another_size(trained, pictures, tmp_path):
    paths, _, _ = pictures
    large = tmp_path / "large.png"
    Image.open(paths[0]).convert("RGB").resize((80, 80), Image.Resampling.NEAREST).save(large)
    settings = classify.Settings((str(large),), str(trained[1]))
    with pytest.raises(ValueError, match="must be 8 wide and 8 high. .* 80 wide .* Give --resize"):
        classify.main(settings)
    small, again = (
        classify.main(classify.Settings((path,), str(trained[1]), top=1, resize=True))
        for path in (paths[0], str(large))
    )
    assert small[0][0][0] == again[0][0][0]


@pytest.mark.parametrize("what", ["text", "cut", "absent", "damaged model", "no model"])
def test_what_cannot_be_read_ends_in_one_line(trained, pictures, tmp_path, capsys, what):
    image, model = tmp_path / "0.png", trained[1]
    if what == "text":
        image.write_text("a picture of a cat")
    elif what == "cut":
        image.write_bytes(image.read_bytes()[:60])
    elif what == "absent":
        image = tmp_path / "absent.png"
    else:
        content = model.read_bytes()
        model = tmp_path / "bad.tflite"
        if what == "damaged model":
            model.write_bytes(content[:-100])
    with pytest.raises(SystemExit) as stop:
        start(classify.main, classify.Settings, "", ["--model", str(model), str(image)])
    message = str(stop.value)
    assert message.startswith("error: ")
    assert len(message.splitlines()) == 2  # the second one tells of --traceback
    assert capsys.readouterr().out == ""
