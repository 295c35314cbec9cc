import functools

import keras
import numpy as np
import pytest

from keras_fmm import layers, models
from tests.models.families import WHOLE, small
from tests.support.weightless import weightless
from tests.support.weights import randomise

IMAGES = np.random.default_rng(0).uniform(size=(2, 32, 32, 3)).astype("float32")


def randomised(model):
    """Biases, means and variances are what a wrong order or place would not show if fresh."""
    for number, layer in enumerate(model.layers):
        kernel = np.asarray(layer.kernel.value) if hasattr(layer, "kernel") else None
        randomise(layer, seed=number)
        if kernel is not None:
            layer.kernel.assign(kernel)
    return model


SHAPE = {"input_shape": (32, 32, 3), "classes": 3}

# Keras' own constructor, ours, and what ours needs to be the same.
APPLICATIONS = {
    "ResNet50": (keras.applications.ResNet50, models.ResNet50, {"stem": "imagenet"}),
    "MobileNet": (
        lambda **arguments: keras.applications.MobileNet(alpha=0.25, **arguments),
        models.MobileNet,
        {"alpha": 0.25},
    ),
}


# JAX compiles a ResNet-50 for a minute; the way of the weights is the same.
ON_BACKEND = ["MobileNet"]
if keras.backend.backend() == "tensorflow":
    ON_BACKEND.append(pytest.param("ResNet50", marks=pytest.mark.slow))


@pytest.fixture(scope="module", params=ON_BACKEND)
def application(request, tmp_path_factory):
    """A model of keras.applications, its files in all formats, and ours with its arguments."""
    theirs, ours, arguments = APPLICATIONS[request.param]
    model = randomised(theirs(weights=None, **SHAPE))
    folder = tmp_path_factory.mktemp("weights")
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    model.save_weights(folder / "model.weights.h5")
    arguments = {**SHAPE, **arguments}
    return model, folder, functools.partial(ours, **arguments), ours(weights=model, **arguments)


@pytest.mark.slow_on_tensorflow
def test_predicts_what_keras_applications_predicts(application):
    theirs, folder, _, model = application
    expected = np.asarray(theirs(IMAGES))
    assert expected.std() > 0.01
    np.testing.assert_allclose(model(IMAGES), expected, atol=1e-5)
    loaded = model.get_weights()
    for name in ("model.keras", "model.h5", "model.weights.h5"):
        model.set_weights([np.zeros_like(value) for value in loaded])
        models.load_weights(model, folder / name)
        for value, other in zip(model.get_weights(), loaded, strict=True):
            np.testing.assert_array_equal(value, other)


@pytest.mark.slow_on_tensorflow
def test_new_attention_keeps_its_initial_weights(application):
    _, folder, ours, plain = application
    model = ours(attention="squeeze_excite", convolution="aw")
    before = {weight.path: np.asarray(weight.value) for weight in model.weights}
    report = models.load_weights(model, str(folder / "model.weights.h5"))
    values = {weight.path: np.asarray(weight.value) for weight in plain.weights}
    new = {path: value for path, value in before.items() if path not in values}
    assert set(report.loaded) == {place(path) for path in values if "seed" not in path}
    assert set(report.initialised) == {place(path) for path in new}
    assert report.skipped == ()
    assert any("pointwise_conv1" in path for path in new)
    for weight in model.weights:
        expected = {**values, **new}[weight.path]
        if "seed" not in weight.path:
            np.testing.assert_array_equal(weight.value, expected, err_msg=weight.path)


def place(path):
    return path.rpartition("/")[0]


# A ResNet's classifier has one name everywhere.
@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize("application", ["MobileNet"], indirect=True)
def test_a_model_without_top_takes_one_with_it_and_the_other_way(application):
    theirs, _, ours, _ = application
    headless = ours(include_top=False, pooling="avg", weights=None)
    report = models.load_weights(headless, theirs)
    assert report.skipped == ("conv_preds",)
    assert report.initialised == ()
    model = ours()
    report = models.load_weights(model, headless)
    assert report.initialised == ("predictions",)
    features = keras.Model(model.input, model.get_layer("avg_pool").output)
    np.testing.assert_array_equal(features(IMAGES), headless(IMAGES))


# The others' layers and names are among those of these.
KINDS = [family for family in ("basic_resnet", "fmmnet", "mobilenet") if family in WHOLE]


@pytest.fixture(scope="module", params=KINDS)
def saved(request, tmp_path_factory):
    """A model of random weights, those it had at first, it loaded again, its files' folder."""
    attention = {"pointwise": "cbam"} if request.param == "mobilenet" else "cbam"
    model = small(request.param, attention=attention, convolution="aw")
    fresh = model.get_weights()
    for layer in model.layers:
        randomise(layer)
    folder = tmp_path_factory.mktemp("saved")
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    model.save_weights(folder / "model.weights.h5")
    return model, fresh, keras.models.load_model(folder / "model.keras"), folder


@pytest.mark.slow_on_tensorflow
def test_saved_and_loaded_it_predicts_the_same(saved):
    model, _, loaded, _ = saved
    images = np.random.default_rng(0).uniform(size=(4, *model.input_shape[1:])).astype("float32")
    np.testing.assert_array_equal(loaded(images), model(images))


def test_a_model_of_this_package_loads_with_all_its_attention(saved):
    model, fresh, other, folder = saved
    for name in ("model.keras", "model.h5", "model.weights.h5"):
        other.set_weights(fresh)
        report = models.load_weights(other, folder / name)
        assert report.initialised == report.skipped == ()
        for value, expected in zip(other.get_weights(), model.get_weights(), strict=True):
            if value.dtype != "uint32":
                np.testing.assert_array_equal(value, expected)


def test_the_classifier_of_its_like_is_skipped():
    headless = small("bottleneck_resnet", include_top=False)
    assert models.load_weights(headless, small("bottleneck_resnet")).skipped == ("predictions",)


def test_a_backbone_inside_another_model_is_found():
    backbone = small("wide_resnet", include_top=False)
    inputs = keras.Input(backbone.input_shape[1:])
    wrapped = keras.Model(inputs, backbone(inputs))
    model = small("wide_resnet", include_top=False)
    models.load_weights(model, wrapped)
    x = np.ones((1, 8, 8, 3), "float32")
    np.testing.assert_array_equal(model(x), backbone(x))


def unchanged(model, source, message):
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        models.load_weights(model, source)
    for value, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)


@pytest.mark.slow_on_tensorflow
def test_what_does_not_fit_is_refused_whole():
    source = small("bottleneck_resnet")
    unchanged(
        small("bottleneck_resnet", classes=4), source, r"predictions has the shapes \[\(128, 4"
    )
    unchanged(
        small("bottleneck_resnet", stem="imagenet", input_shape=(32, 32, 3)), source, "stem_conv"
    )
    deeper = models.ResNet((2, 1, 1, 1), filters=4, input_shape=(16, 16, 3), classes=3)
    unchanged(deeper, source, "stage1_block2_conv1 is not in the source")
    unchanged(source, deeper, "stage1_block2_conv1 is not in the model")
    gated = small("bottleneck_resnet", attention="eca")
    unchanged(source, gated, "stage1_block1_attention/convolution is not in the model")
    unchanged(source, small("mobilenet"), r"; \d+ more. Nothing was loaded")


def test_errors_of_weights_name_weights(tmp_path):
    (tmp_path / "text.h5").write_text("no weights")
    other = models.WideResNet(10, 2)
    for wrong in ("abc", 3, "", tmp_path / "text.h5", other, "imagenet"):
        with pytest.raises((TypeError, ValueError, OSError), match="^.weights") as raised:
            models.WideResNet(10, 1, weights=wrong)
        assert "source`" not in str(raised.value)
        assert "source=" not in str(raised.value)


def test_what_is_no_source(tmp_path):
    model = small("wide_resnet")
    (tmp_path / "text.h5").write_text("no weights")
    (tmp_path / "text.keras").write_text("no weights")
    for name in ("text.h5", "text.keras"):
        with pytest.raises(OSError, match=f"{name}', which could not be read"):
            models.load_weights(model, tmp_path / name)
    for name in ("absent.weights.h5", "."):
        with pytest.raises(FileNotFoundError, match="Received: source=.*, where there is no file"):
            models.load_weights(model, tmp_path / name)
    with pytest.raises(ValueError, match="`source` must be .* not empty. Received: source=''"):
        models.load_weights(model, "")
    with pytest.raises(TypeError, match="`source` must be a model or the path"):
        models.load_weights(model, [1, 2])
    with pytest.raises(ValueError, match="which holds none. Give a model that has layers"):
        models.load_weights(model, keras.Sequential([keras.Input((2,)), keras.layers.ReLU()]))
    with pytest.raises(ValueError, match="whose weights keras.applications has"):
        models.load_weights(model, "imagenet")


def test_two_layers_of_one_name_are_refused():
    inputs = keras.Input((8, 8, 3))
    both = [small("wide_resnet", include_top=False, name=name)(inputs) for name in ("one", "two")]
    model = keras.Model(inputs, keras.layers.Add()(both))
    with pytest.raises(ValueError, match="stem_conv could be one/stem_conv or two/stem_conv"):
        models.load_weights(model, small("wide_resnet", include_top=False))


def test_files_with_two_layers_of_one_name_are_refused(tmp_path):
    inputs = keras.Input((8, 8, 3))
    both = [small("wide_resnet", include_top=False, name=name)(inputs) for name in ("one", "two")]
    model = keras.Model(inputs, keras.layers.Add()(both))
    model.save(tmp_path / "model.keras")
    with pytest.raises(
        ValueError, match=r"names of their own.* twice, as in two nested models. Give a model"
    ):
        models.load_weights(model, tmp_path / "model.keras")


def test_bfloat16_weights(tmp_path):
    keras.config.set_dtype_policy("bfloat16")
    model = randomised(small("wide_resnet"))
    model.save(tmp_path / "model.keras")
    keras.config.set_dtype_policy("float32")
    other = small("wide_resnet")
    models.load_weights(other, tmp_path / "model.keras")
    for value, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, np.asarray(expected).astype("float32"))


def test_a_legacy_file_of_a_batch_norm_with_one_variable_frozen(tmp_path):
    model = randomised(small("wide_resnet"))
    model.get_layer("head_bn").gamma.trainable = False
    model.save(tmp_path / "model.h5")
    other = small("wide_resnet")
    models.load_weights(other, tmp_path / "model.h5")
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        value, expected = (getattr(m.get_layer("head_bn"), name) for m in (other, model))
        np.testing.assert_array_equal(value, expected)


def test_a_file_without_the_layers_names_says_what_to_do(tmp_path):
    import h5py

    model = small("wide_resnet")
    model.save_weights(tmp_path / "old.weights.h5")
    with h5py.File(tmp_path / "old.weights.h5", "a") as file:
        file.visititems(lambda _, item: item.attrs.pop("name", None) and None)
    with pytest.raises(ValueError, match="must hold the names of the layers"):
        models.load_weights(model, tmp_path / "old.weights.h5")


def test_keras_2_files(tmp_path):
    """As Keras 2 wrote them: bytes, `:0`, a scope before the layer's name, long lists in pieces."""
    import h5py

    model = randomised(small("basic_resnet"))
    with h5py.File(tmp_path / "old.h5", "w") as file:
        names = [layer.name.encode() for layer in model.layers]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:5], names[5:]
        for layer in model.layers:
            group = file.create_group(layer.name)
            paths = [f"model/{layer.name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = [path.encode() for path in paths]
            for path, weight in zip(paths, layer.get_weights(), strict=True):
                group[path] = weight
    other = small("basic_resnet")
    models.load_weights(other, tmp_path / "old.h5")
    for value, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)


class Asked(Exception):
    pass


@pytest.mark.slow_on_tensorflow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="takes long to build")
def test_which_weights_of_imagenet_a_model_takes(monkeypatch):
    # Stands for the download alone.
    asked = []
    mobilenet = keras.applications.MobileNet

    def resnet_without_weights(*args, **arguments):
        # Of 23 million weights, none of which is looked at: the names are keras.applications'.
        raise Asked(args, arguments)

    def mobilenet_without_weights(*args, **arguments):
        asked.append((args, arguments))
        return mobilenet(*args, **{**arguments, "weights": None})

    monkeypatch.setattr(keras.applications, "ResNet50", resnet_without_weights)
    monkeypatch.setattr(keras.applications, "MobileNet", mobilenet_without_weights)
    with weightless(), pytest.raises(Asked) as error:
        models.ResNet50(False, "imagenet", input_shape=(64, 64, 3), stem="imagenet")
    assert error.value.args == ((), {"weights": "imagenet", "include_top": False})
    models.MobileNet((64, 64, 3), 0.25, weights="imagenet", attention=layers.SqueezeExcite)
    arguments = {"weights": "imagenet", "include_top": True}
    assert asked.pop() == (((224, 224, 3), 0.25), arguments)
