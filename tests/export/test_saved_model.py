import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_fmm import export
from keras_fmm.layers import AWConv2D, SqueezeExcite
from tests.export import toys


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    model = toys.cnn()
    return model, export.to_saved_model(model, tmp_path_factory.mktemp("saved") / "toy")


@pytest.mark.parametrize("n", [1, 5])
def test_any_batch_gives_the_numbers_of_keras(written, n):
    model, path = written
    outputs = export.run_saved_model(path, toys.images(n), batch_size=3)
    np.testing.assert_allclose(outputs, model(toys.images(n)), atol=1e-5)


NAMES = ["cat", "dog", "horse", "zebra"]


@pytest.mark.slow
def test_it_is_served_without_keras_and_this_package(written, tmp_path):
    model, plain = written
    scaling = keras.layers.Rescaling(1 / 255)
    classifier = export.to_saved_model(model, tmp_path / "toy", NAMES, scaling)
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), "uint8")
    np.save(tmp_path / "images.npy", images)
    code = (
        "import sys, numpy as np, tensorflow as tf\n"
        "sys.modules['keras_fmm'] = sys.modules['keras'] = None\n"
        "images = np.load(sys.argv[3] + '/images.npy')\n"
        "loaded = tf.saved_model.load(sys.argv[1])\n"
        "serve = loaded.signatures['serving_default']\n"
        "(name,) = serve.structured_input_signature[1]\n"
        "(plain,) = serve(**{name: tf.constant(images, 'float32')}).values()\n"
        "serve = tf.saved_model.load(sys.argv[2]).signatures['classify']\n"
        "for n in (1, 5):\n"
        "    found = serve(images=tf.constant(images[:n]))\n"
        "    assert found['scores'].shape == found['class_names'].shape == (n, 4)\n"
        "found = {'plain': plain, **found}\n"
        "np.savez(sys.argv[3] + '/outputs.npz', **{k: v.numpy() for k, v in found.items()})\n"
    )
    arguments = [sys.executable, "-c", code, plain, classifier, tmp_path]
    subprocess.run(arguments, check=True, timeout=120)
    found = np.load(tmp_path / "outputs.npz", allow_pickle=True)
    expected = np.asarray(model(images.astype("float32")))
    np.testing.assert_allclose(found["plain"], expected, rtol=1e-5, atol=1e-4)
    expected = np.asarray(model(images / np.float32(255)))
    np.testing.assert_allclose(found["scores"], -np.sort(-expected), atol=1e-5)
    order = np.argsort(-expected, axis=-1)
    assert found["class_names"].tolist() == [[NAMES[i].encode() for i in row] for row in order]
    # What it was before is still there.
    outputs = export.run_saved_model(classifier, toys.images())
    np.testing.assert_allclose(outputs, model(toys.images()), atol=1e-5)


def test_class_names_need_a_score_for_each_class_of_an_image(tmp_path):
    inputs = [keras.Input((3,)) for _ in range(2)]
    for model in (
        keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Subtract()(inputs))),
        keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 1)]),
        # As many scores as the images have pixels.
        keras.Sequential([keras.Input((None, 8, 3)), keras.layers.Flatten()]),
    ):
        with pytest.raises(ValueError, match="one input and of outputs \\(batch, classes\\)"):
            export.to_saved_model(model, tmp_path / "toy", NAMES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow_on_tensorflow
def test_half_precision_stays_so(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    model = keras.Sequential([keras.Input((8, 8, 3)), SqueezeExcite(2), AWConv2D(4, 3)])
    path = export.to_saved_model(model, tmp_path / "toy")
    outputs = export.run_saved_model(path, toys.images())
    assert outputs.dtype == "float16"
    np.testing.assert_allclose(outputs, model(toys.images()), atol=1e-2)


def test_a_preprocessing_may_take_images_of_another_size(tmp_path):
    import tensorflow as tf

    layers = keras.layers
    resizing = keras.Sequential([keras.Input((None, None, 3)), layers.Resizing(8, 8)])
    path = export.to_saved_model(toys.cnn(), tmp_path / "toy", NAMES, resizing)
    loaded = tf.saved_model.load(str(path))
    images = np.random.default_rng(0).integers(0, 256, (2, 11, 9, 3), "uint8")
    assert loaded.signatures["classify"](images=tf.constant(images))["scores"].shape == (2, 4)


@pytest.mark.parametrize(
    ("names", "preprocessing", "kind", "message"),
    [
        (NAMES[:3], None, ValueError, "must name each class"),
        ("cats", None, TypeError, "must be a list or tuple of str"),
        (set(NAMES), None, TypeError, "must be a list or tuple of str"),
        (dict.fromkeys(NAMES), None, TypeError, "must be a list or tuple of str"),
        (3, None, TypeError, "must be a list or tuple of str. Received: class_names=3"),
        ([*NAMES[:3], " "], None, ValueError, "must be names of one line each"),
        ([*NAMES[:3], ""], None, ValueError, "must be names of one line each"),
        (None, keras.layers.Rescaling(2), ValueError, "which needs `class_names`"),
        (NAMES, abs, TypeError, "must be a keras.layers.Layer"),
        (NAMES, keras.layers.Resizing(9, 9), ValueError, r"must give what the model takes, \(None"),
    ],
)
def test_a_classifier_that_is_refused(tmp_path, names, preprocessing, kind, message):
    with pytest.raises(kind, match=message):
        export.to_saved_model(toys.cnn(), tmp_path / "toy", names, preprocessing)
    assert list(tmp_path.iterdir()) == []


def test_it_prints_nothing_and_replaces_an_older_one_or_an_empty_folder(tmp_path, capfd):
    (tmp_path / "toy").mkdir()
    export.to_saved_model(toys.cnn(), tmp_path / "toy")
    model = toys.cnn()
    export.to_saved_model(model, tmp_path / "toy")
    assert capfd.readouterr().out == ""
    assert [file.name for file in tmp_path.iterdir()] == ["toy"]
    outputs = export.run_saved_model(tmp_path / "toy", toys.images())
    np.testing.assert_allclose(outputs, model(toys.images()), atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "thesis.tex",
        "saved_model.pb",
        "variables/thesis.tex",
        "assets/thesis.tex",
        "assets/fingerprint.pb",
        "notes/variables.index",
    ],
)
@pytest.mark.parametrize("beside", [True, False], ids=["beside a SavedModel", "alone"])
def test_a_folder_of_other_files_is_refused_and_kept(written, tmp_path, name, beside):
    path = tmp_path / "toy"
    if beside:
        shutil.copytree(written[1], path)
    (path / name).parent.mkdir(parents=True, exist_ok=True)
    (path / name).write_text("years of work")
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match=f"whose files would be lost: .*{name}.*Move them away"):
        export.to_saved_model(written[0], path)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_in_a_saved_model_is_not_of_it(written, tmp_path):
    shutil.copytree(written[1], tmp_path / "toy")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "toy" / "assets").rmdir()
    (tmp_path / "toy" / "assets").symlink_to(tmp_path / "thesis")
    with pytest.raises(ValueError, match="would be lost: assets"):
        export.to_saved_model(written[0], tmp_path / "toy")


def test_a_saved_model_with_a_vocabulary_is_replaced(written, tmp_path):
    import tensorflow as tf

    vocabulary = tmp_path / "words.txt"
    vocabulary.write_text("a\nb")
    module = tf.Module()
    module.asset = tf.saved_model.Asset(str(vocabulary))
    module.call = tf.function(lambda x: x, [tf.TensorSpec([], "float32")])
    tf.saved_model.save(module, str(tmp_path / "toy"))
    assert (tmp_path / "toy" / "assets" / "words.txt").exists()
    export.to_saved_model(written[0], tmp_path / "toy")
    assert list((tmp_path / "toy" / "assets").iterdir()) == []


def test_what_comes_while_it_is_written_is_kept(written, tmp_path):
    class Coming(keras.layers.Rescaling):
        def call(self, inputs):
            (tmp_path / "toy").mkdir(exist_ok=True)
            (tmp_path / "toy" / "thesis.tex").write_text("years of work")
            return super().call(inputs)

    with pytest.raises(ValueError, match="would be lost: thesis.tex"):
        export.to_saved_model(written[0], tmp_path / "toy", NAMES, Coming(1 / 255))
    assert (tmp_path / "toy" / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("path", [".", "..", "/", "folder/..", "file", "", 3, None, b"toy"])
def test_a_path_that_is_no_folder_of_its_own(path, tmp_path, monkeypatch):
    # Empty, and so free to be written but for this.
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    if path == "file":
        (tmp_path / "cwd" / "file").write_text("mine")
    with pytest.raises((TypeError, ValueError), match="`path` must .* Received: path="):
        export.to_saved_model(toys.cnn(), path)
    assert [file.name for file in tmp_path.rglob("*")] == ["cwd", "file"][: 1 + (path == "file")]


@pytest.mark.parametrize("damage", ["empty folder", "garbage", "cut graph", "cut weights"])
def test_a_damaged_saved_model_is_named(written, tmp_path, damage):
    path = tmp_path / "toy"
    path.mkdir()
    if damage == "garbage":
        (path / "saved_model.pb").write_bytes(b"garbage")
    elif damage != "empty folder":
        for file in [file for file in written[1].rglob("*") if file.is_file()]:
            copy = path / file.relative_to(written[1])
            copy.parent.mkdir(exist_ok=True)
            cut = file.name == "saved_model.pb" if damage == "cut graph" else "data" in file.name
            content = file.read_bytes()
            copy.write_bytes(content[: len(content) // 2] if cut else content)
    with pytest.raises(ValueError, match="`path` must be a whole SavedModel"):
        export.run_saved_model(path, toys.images())


@pytest.mark.parametrize(
    "images", [np.full((1, 2), 0.5), np.full((1, 2), 300), np.full((1, 2), np.nan), [[-1, 0]]]
)
def test_integers_are_fed_whole_or_not_at_all(images, tmp_path):
    inputs = keras.Input((2,), dtype="uint8")
    model = keras.Model(inputs, keras.ops.cast(inputs, "float32") / 2)
    path = export.to_saved_model(model, tmp_path / "toy")
    np.testing.assert_array_equal(export.run_saved_model(path, [[3.0, 255]]), [[1.5, 127.5]])
    for call in (
        lambda: export.run_saved_model(path, images),
        lambda: export.compare(model, images, path),
    ):
        with pytest.raises(ValueError, match="must be whole numbers of uint8, which the input of"):
            call()


def test_refused_arguments(written, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no SavedModel"):
        export.run_saved_model(tmp_path / "nothing", toys.images())
    with pytest.raises(ValueError, match=r"have the shape \(None, 8, 8, 3\).*\(5, 9, 9, 3\)"):
        export.run_saved_model(written[1], toys.images(size=9))
    with pytest.raises(ValueError, match="at least one image"):
        export.run_saved_model(written[1], toys.images(0))
    with pytest.raises(TypeError, match="`images` must be an array of real numbers"):
        export.run_saved_model(written[1], np.array(["cat"]))
    with pytest.raises(TypeError, match="Received: images of dtype complex64"):
        export.run_saved_model(written[1], toys.images().astype("complex64"))
    with pytest.raises(ValueError, match="`model` must be built"):
        export.to_saved_model(keras.Sequential([keras.layers.Dense(2)]), tmp_path / "toy")
