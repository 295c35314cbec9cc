import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("trains with TensorFlow's pipelines", allow_module_level=True)

from keras_fmm import data, graph, layers, models
from recipes import fine_tune as recipe


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A small classifier of 8x8 grey images, saved, with a batch norm and a residual branch."""
    path = tmp_path_factory.mktemp("source") / "source.keras"
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="stem_conv")(inputs)
    branch = keras.layers.Conv2D(8, 3, padding="same", name="stage_conv")(x)
    norm = keras.layers.BatchNormalization(name="stage_bn")
    x = keras.layers.Add()([norm(branch), x])
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = keras.layers.Dense(5, "softmax")(x)
    norm.moving_mean.assign(np.linspace(-0.1, 0.1, 8))
    keras.Model(inputs, outputs, name="small").save(path)
    return path


def settings(source, workdir, **changes):
    base = {
        "model": str(source),
        "image_size": None,
        "preprocessing": "scale",
        "workdir": str(workdir),
        "smoke": True,
    }
    return recipe.Settings(**{**base, **changes})


@pytest.mark.slow
def test_runs_end_to_end(source, tmp_path):
    chosen = settings(source, tmp_path, convolution="aw", attention="eca")
    record = recipe.main(chosen)
    assert record["status"] == "finished"
    assert 0 < record["metrics"]["test_accuracy"] <= 1
    assert set(record["metrics"]["exports"]) == {"saved_model", "tflite"}
    for phase in ("classifier", "new_layers", "all_layers"):
        assert (tmp_path / phase / "best.keras").exists()
    first = keras.models.load_model(tmp_path / "new_layers" / "best.keras")
    final = keras.models.load_model(tmp_path / "all_layers" / "best.keras")
    old = keras.models.load_model(source)
    convolution = {
        name: np.asarray(model.get_layer("small").get_layer("stage_conv").kernel)
        for name, model in (("first", first), ("final", final))
    }
    # Alone the new layers leave the old kernels as they were; the identity start divides them.
    before = np.asarray(old.get_layer("stage_conv").kernel)
    np.testing.assert_allclose(convolution["first"] * 1.5, before, rtol=1e-5)
    assert np.abs(convolution["final"] - convolution["first"]).max() > 1e-6
    for model in (first, final):
        norm = model.get_layer("small").get_layer("stage_bn")
        for weight, other in zip(norm.weights, old.get_layer(norm.name).weights, strict=True):
            np.testing.assert_array_equal(weight, other)


@pytest.mark.slow
def test_goes_on_where_it_was(source, tmp_path, capsys):
    chosen = settings(source, tmp_path, new_epochs=0, old_learning_rate=0.0, schedule="cosine")
    recipe.main(chosen)
    assert "<h1>" in (tmp_path / "report.html").read_text()
    # The old layers do not move at all, the new ones do.
    final = keras.models.load_model(tmp_path / "all_layers" / "best.keras").get_layer("small")
    first = keras.models.load_model(source)
    for name in ("stem_conv", "stage_conv"):
        np.testing.assert_array_equal(
            final.get_layer(name).kernel, first.get_layer(name).kernel, err_msg=name
        )
    keras.utils.set_random_seed(chosen.seed)
    before = recipe.classifier(chosen, data.load("digits")).get_layer("predictions").kernel
    trained = keras.models.load_model(tmp_path / "export" / "model.keras")
    assert np.abs(trained.get_layer("predictions").kernel - before).max() > 1e-3
    capsys.readouterr()
    record = recipe.main(chosen)
    assert "has its 1 epochs already" in capsys.readouterr().out
    assert len(record["history"]["loss"]) == 1


def test_what_a_classifier_sees_is_kept_however_the_model_ends():
    def ends(of, *layers):
        x = inputs = keras.Input((4, 4, 3))
        for layer in (keras.layers.Conv2D(5, 3, name="features"), *of, *layers):
            x = layer(x)
        return keras.Model(inputs, x)

    pool, flat = keras.layers.GlobalAveragePooling2D, keras.layers.Flatten
    ones = [keras.layers.Conv2D(2, 1), keras.layers.Reshape((2,)), keras.layers.Softmax()]
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")
    for model in (
        ends([]),
        ends([pool()]),
        ends([pool()], keras.layers.Dense(2), keras.layers.Activation("softmax")),
        # As keras.applications' MobileNet.
        ends([pool(keepdims=True), keras.layers.Dropout(0.1)], *ones),
    ):
        expected = np.mean(model.get_layer("features")(images), axis=(1, 2))
        nested = keras.Sequential([keras.Input((4, 4, 3)), model])
        for whole in (model, nested):
            found = recipe.without_classifier(whole)(images)
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for refused in (ends([flat()]), ends([pool(), keras.layers.ReLU()])):
        with pytest.raises(ValueError, match="`model` must end in a classifier's dense layer"):
            recipe.without_classifier(refused)


def test_the_upgraded_classifier_says_at_first_what_the_plain_one_says(source, tmp_path):
    digits = data.load("digits")
    chosen = settings(source, tmp_path)
    images = digits.arrays("test")[0][:4]
    plain = recipe.classifier(chosen, digits)
    recipe.freeze(plain)
    upgraded = models.upgrade(plain, "cbam", "aw")
    np.testing.assert_allclose(upgraded(images), plain(images), atol=1e-5)
    trainable = {weight.path.split("/")[-2] for weight in upgraded.trainable_weights}
    assert "squeeze" in trainable
    assert not any(name.startswith(("stage", "stem")) for name in trainable)
    aw = next(
        layer for layer in graph.layers(upgraded).values() if isinstance(layer, layers.AWConv2D)
    )
    assert not aw.kernel.trainable
    assert aw.pointwise_conv1.kernel.trainable


class Scaled(keras.layers.Conv2D):
    """A convolution's replacement of one's own: a factor each filter, which begins with 1."""

    def build(self, input_shape):
        super().build(input_shape)
        self.factor = self.add_weight(shape=(self.filters,), initializer="ones")

    def call(self, inputs):
        return super().call(inputs) * self.factor

    def start_as_convolution(self, kernel, bias=None):
        self.kernel.assign(kernel)
        self.bias.assign(bias)


def test_what_replaces_a_convolution_is_new_whatever_its_class(source, tmp_path):
    plain = recipe.classifier(settings(source, tmp_path), data.load("digits"))
    recipe.freeze(plain)
    model = models.upgrade(plain, "cbam", Scaled, convolution_where=["small/stage_conv"])
    replaced, norm = (model.get_layer("small").get_layer(f"stage_{x}") for x in ("conv", "bn"))
    stem = model.get_layer("small").get_layer("stem_conv")
    assert [x.trainable for x in (replaced.factor, replaced.kernel, replaced.bias)] == [1, 0, 0]
    assert not stem.trainable_weights
    assert model.get_layer("predictions").trainable_weights
    recipe.thaw(model)
    assert len(replaced.trainable_weights) == 3
    assert len(stem.trainable_weights) == 2
    # Old batch norms never learn, new ones do.
    assert not norm.trainable
    trainable = {id(weight) for weight in model.trainable_weights}
    assert {id(weight) for weight in norm.weights}.isdisjoint(trainable)
    gammas = [w for w in model.trainable_weights if w.path.endswith("gamma")]
    assert gammas


@pytest.mark.slow
def test_models_of_keras_applications_get_their_own_preprocessing(tmp_path):
    digits = data.load("digits")
    chosen = settings("MobileNetV2", tmp_path, weights=None, image_size=32, preprocessing="own")
    model = recipe.classifier(chosen, digits)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1)).astype("float32")
    backbone = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    features = backbone(np.repeat(images, 3, axis=-1) / 127.5 - 1)
    expected = model.get_layer("predictions")(features)
    np.testing.assert_allclose(model(images), expected, atol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(images), expected, atol=1e-5)


def test_networks_of_timm_get_their_own_preprocessing(tmp_path):
    chosen = settings("timm/resnet10t", tmp_path, weights=None, preprocessing="own", image_size=32)
    model = recipe.classifier(chosen, data.load("digits"))
    backbone = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    bare = models.from_timm(
        "resnet10t",
        include_preprocessing=False,
        include_top=False,
        input_shape=(32, 32, 3),
        pooling="avg",
    )
    bare.set_weights(backbone.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1)).astype("float32")
    # ImageNet's mean and deviation of each channel.
    scaled = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    expected = model.get_layer("predictions")(bare(scaled.astype("float32")))
    np.testing.assert_allclose(model(images), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "MobileNetV9"}, "or a name in keras.applications.*MobileNetV2"),
        ({"model": "absent.keras"}, "absent.keras"),
        ({"image_size": 9}, "`image_size` must be that of the model"),
        ({"model": "timm/resnet10x", "preprocessing": "own", "weights": None}, "resnet10t"),
    ],
)
def test_refuses(source, tmp_path, changes, message):
    with pytest.raises((ValueError, OSError), match=message):
        recipe.main(settings(source, tmp_path, **changes))
    assert not list(tmp_path.iterdir())
