"""A user's own convolution and residual, wherever a layer of this package can stand."""

import functools

import keras
import numpy as np
import pytest
from keras import layers as kl

from keras_fmm import analysis, layers, models
from tests.models.families import small
from tests.support.own_layers import Bent, Experts
from tests.support.weights import enliven

OWN = {"convolution": Experts, "residual": Bent}
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"


def images(model, count=2):
    shape = (count, *model.input_shape[1:])
    return np.random.default_rng(0).uniform(size=shape).astype("float32")


@pytest.fixture(scope="module")
def plain():
    return enliven(small("wide_resnet", classifier_activation=None))


@pytest.fixture(scope="module", params=["backbone", "upgrade"])
def model(request, plain):
    """One of own layers that was built with them, and one that was upgraded to them."""
    if request.param == "upgrade":
        return models.upgrade(plain, **OWN)
    return enliven(small("wide_resnet", classifier_activation=None, **OWN))


def of_kind(model, kind):
    return [layer.name for layer in model.layers if isinstance(layer, kind)]


def test_they_stand_in_their_places(model):
    blocks = [f"stage{stage}_block1" for stage in (1, 2, 3)]
    assert of_kind(model, Experts) == [f"{x}_conv{i}" for x in blocks for i in (1, 2)]
    residuals = of_kind(model, Bent)
    assert [name.rpartition("_")[0] for name in residuals] == blocks
    for name, block in zip(residuals, blocks, strict=True):
        branch, shortcut = (x._keras_history.operation.name for x in model.get_layer(name).input)
        assert branch == f"{block}_conv2"
        assert shortcut in ("stem_conv", f"{block}_shortcut_conv")


def test_a_callables_residual_is_named_by_its_place():
    assert small("wide_resnet", residual=Bent).get_layer("stage3_block1_residual").built
    assert small("bottleneck_resnet", residual=Bent).get_layer("stage4_block1_residual").built


def test_upgrading_keeps_the_outputs(plain):
    x = images(plain)
    np.testing.assert_allclose(models.upgrade(plain, **OWN)(x), plain(x), atol=1e-5)


def test_they_cost_what_they_say(model, plain):
    # Each of the 3x3 convolutions twice, as there are two experts.
    nine = sum(
        analysis.flops(keras.Model(layer.input, layer.output))
        for name in of_kind(model, Experts)
        for layer in [plain.get_layer(name)]
    )
    assert analysis.flops(model) == analysis.flops(plain) + nine


def test_saved_and_loaded(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images(model)), model(images(model)))
    assert len(of_kind(loaded, (Experts, Bent))) == 9


@pytest.mark.slow_on_tensorflow
@pytest.mark.skipif(not ON_TENSORFLOW, reason="TFLite is TensorFlow's")
def test_exported(plain, tmp_path):
    from keras_fmm import export

    model = models.upgrade(plain, **OWN)
    path = export.to_tflite(model, tmp_path / "model.tflite")
    x = images(model)
    np.testing.assert_allclose(export.run_tflite(path, x), np.asarray(model(x)), atol=1e-4)


def test_they_train(plain):
    model = models.upgrade(plain, **OWN)
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=ON_TENSORFLOW)
    before = {v.path: v.numpy().copy() for v in model.trainable_variables}
    model.train_on_batch(images(model, 4), np.eye(4, 3))
    moved = [v.path for v in model.trainable_variables if (v.numpy() != before[v.path]).any()]
    for name in (*of_kind(model, Bent), *of_kind(model, Experts)):
        assert any(path.startswith(f"{name}/") for path in moved)


def test_upgraded_again_gates_find_the_branches(model):
    upgraded = models.upgrade(model, attention="eca")
    gates = of_kind(upgraded, layers.EfficientChannelAttention)
    assert gates == [f"stage{i}_block1_conv2_attention" for i in (1, 2, 3)]


def test_weights_of_a_plain_model_leave_them_new(plain):
    model = small("wide_resnet", classifier_activation=None, **OWN)
    before = {v.path: v.numpy() for v in model.weights}
    report = models.load_weights(model, plain)
    own = of_kind(model, Experts)
    assert report.skipped == tuple(own)
    new = {part for name in own for part in (name, f"{name}/mix")} | set(of_kind(model, Bent))
    assert set(report.initialised) == new
    for variable in model.weights:
        name = variable.path.split("/")[0]
        is_new = name in new
        expected = before[variable.path] if is_new else None
        if not is_new:
            kind = variable.path.split("/")[-1]
            expected = np.asarray(getattr(plain.get_layer(name), kind).value)
        np.testing.assert_array_equal(variable, expected, err_msg=variable.path)


def test_weights_of_its_like_load_whole():
    one, other = (small("wide_resnet", classifier_activation=None, **OWN) for _ in range(2))
    report = models.load_weights(other, enliven(one))
    assert report.initialised == report.skipped == ()
    np.testing.assert_array_equal(other(images(one)), one(images(one)))


class Shifted(kl.Layer):
    """Holds a convolution's own weights, and is none."""

    def __init__(self, filters, kernel_size, strides, padding, use_bias, name):
        super().__init__(name=name)
        self.arguments = (strides, padding)
        self.shape = (kernel_size, kernel_size), filters
        self.use_bias = use_bias

    def build(self, input_shape):
        size, filters = self.shape
        self.kernel = self.add_weight(name="kernel", shape=(*size, input_shape[-1], filters))
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(filters,))

    def call(self, inputs):
        outputs = keras.ops.conv(inputs, self.kernel, *self.arguments)
        return outputs + self.bias if self.use_bias else outputs


class Narrow(Shifted):
    def build(self, input_shape):
        (height, _), filters = self.shape
        self.shape = (height, 1), filters
        super().build(input_shape)


class ByParts(kl.Layer):
    """A convolution without weights of its own."""

    def __init__(self, name, **arguments):
        super().__init__(name=name)
        self.part = kl.Conv2D(**arguments, name="part")

    def build(self, input_shape):
        self.part.build(input_shape)

    def call(self, inputs):
        return self.part(inputs)


def test_a_kernel_and_a_bias_that_fit_are_taken():
    source = enliven(models.ToyCNN(input_shape=(8, 8, 3)))
    x = images(source)
    fitting = models.ToyCNN(input_shape=(8, 8, 3), convolution=Shifted)
    assert models.load_weights(fitting, source).initialised == ()
    np.testing.assert_allclose(fitting(x), source(x), atol=1e-6)
    names = tuple(f"stage{i}_conv" for i in (1, 2, 3))
    for kind, new in (
        (Narrow, names),
        (ByParts, tuple(f"{name}/part" for name in names)),
    ):
        report = models.load_weights(models.ToyCNN(input_shape=(8, 8, 3), convolution=kind), source)
        assert (report.skipped, report.initialised) == (names, new)
        assert report.loaded == ("predictions",)


class Scaled(kl.Layer):
    """Has a convolution's shapes, and a gain in the place of its bias."""

    def __init__(self, filters, kernel_size, strides, padding, use_bias, name):
        super().__init__(name=name)
        self.how = (filters, kernel_size, strides, padding)

    def build(self, input_shape):
        filters, size, *_ = self.how
        self.filter = self.add_weight(name="filter", shape=(size, size, input_shape[-1], filters))
        self.gain = self.add_weight(name="gain", shape=(filters,), initializer="ones")

    def call(self, inputs):
        return keras.ops.conv(inputs, self.filter, *self.how[2:]) * self.gain


def test_a_bias_is_no_gain():
    source = enliven(models.ToyCNN(input_shape=(8, 8, 3)))
    model, other = (models.ToyCNN(input_shape=(8, 8, 3), convolution=Scaled) for _ in range(2))
    before = model.get_layer("stage1_conv").get_weights()
    report = models.load_weights(model, source)
    assert report.loaded == ("predictions",)
    for old, new in zip(before, model.get_layer("stage1_conv").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    # From its like it takes them.
    assert models.load_weights(model, enliven(other)).initialised == ()
    np.testing.assert_array_equal(model(images(other)), other(images(other)))


class Gained(kl.Conv2D):
    """A convolution with one more weight, which Keras' class does not save."""

    def build(self, input_shape):
        super().build(input_shape)
        self.gain = self.add_weight(name="gain", shape=(self.filters,), initializer="ones")

    def call(self, inputs):
        return super().call(inputs) * self.gain


class SavedGained(Gained):
    def save_own_variables(self, store):
        for index, variable in enumerate(self._trainable_variables):
            store[str(index)] = variable

    def load_own_variables(self, store):
        for index, variable in enumerate(self._trainable_variables):
            variable.assign(store[str(index)])


def test_a_convolution_with_one_more_weight_is_new():
    plain = enliven(small("bottleneck_resnet"))
    report = models.load_weights(small("bottleneck_resnet", convolution=SavedGained), plain)
    assert "stage1_block1_conv2" in report.initialised
    assert "stage1_block1_conv1" in report.loaded


def test_a_layer_that_refuses_what_it_saves_leaves_all_as_it_was():
    plain = enliven(small("bottleneck_resnet"))
    model = small("bottleneck_resnet", convolution=Gained)
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"'stage1_block1_conv2' of class Gained, .*Nothing was"):
        models.load_weights(model, plain)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_nested_models_of_equal_names_load_by_their_paths():
    def two():
        inputs = keras.Input((8, 8, 3))
        towers = []
        for name in ("left", "right"):
            tower = models.ToyCNN(input_shape=(8, 8, 3), include_top=False, name=name)
            towers.append(tower(inputs))
        return keras.Model(inputs, keras.layers.Add()(towers))

    source, model = enliven(two()), two()
    report = models.load_weights(model, source)
    assert report.loaded[0] == "left/stage1_conv"
    assert report.initialised == report.skipped == ()
    np.testing.assert_array_equal(model(images(source)), source(images(source)))


class Own(kl.Conv2D):
    """Computes what a Conv2D does, with its weights."""


@pytest.mark.parametrize("convolution", [None, "aw", Own])
def test_a_convolution_of_another_size_is_still_refused(convolution):
    source = models.ToyCNN(input_shape=(8, 8, 1))
    with pytest.raises(ValueError, match=r"stage1_conv has the shapes \[\(3, 3, 3, 32\)"):
        models.load_weights(models.ToyCNN(input_shape=(8, 8, 3), convolution=convolution), source)


CONVOLUTION = {"kernel_size": 3, "padding": "same", "name": "conv"}


@pytest.mark.parametrize(
    "arguments",
    [
        {"strides": 2},
        {"use_bias": False},
        {"padding": "valid"},
        {"kernel_initializer": "he_normal"},
        {"kernel_size": 1},
    ],
)
def test_an_own_convolution_takes_the_old_ones_arguments(arguments):
    inputs = keras.Input((9, 9, 3))
    outputs = kl.Conv2D(4, **{**CONVOLUTION, **arguments})(inputs)
    model = enliven(keras.Model(inputs, outputs))
    upgraded = models.upgrade(
        model, convolution=functools.partial(Experts, experts=3), convolution_where=["conv"]
    )
    assert upgraded.get_layer("conv").experts == 3
    np.testing.assert_allclose(upgraded(images(model)), model(images(model)), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "lost"),
    [
        ({"dilation_rate": 2}, r"dilation_rate=\(2, 2\)"),
        ({"activation": "relu"}, "activation='relu'"),
        ({"kernel_regularizer": "l2"}, "kernel_regularizer="),
        ({"data_format": "channels_first"}, "data_format='channels_first'"),
    ],
)
def test_an_argument_that_an_own_convolution_lacks_is_not_dropped(arguments, lost):
    inputs = keras.Input((9, 9, 3))
    model = keras.Model(inputs, kl.Conv2D(4, **CONVOLUTION, **arguments)(inputs))
    with pytest.raises(ValueError, match=f"'conv' with {lost}.* config of Experts does not have"):
        models.upgrade(model, convolution=Experts, convolution_where=["conv"])


def test_an_own_convolution_that_starts_as_another_is_refused(plain):
    class Deaf(Experts):
        def start_as_convolution(self, kernel, bias=None):
            pass

    class Mute(Experts):
        start_as_convolution = None

    with pytest.raises(ValueError, match="a Deaf in the place of 'stage1_block1_conv1', whose"):
        models.upgrade(plain, convolution=Deaf)
    with pytest.raises(ValueError, match="gives a Mute without. Write the method"):
        models.upgrade(plain, convolution=Mute)
    with pytest.raises(ValueError, match=r"whose outputs here have the shape \(None, 8, 8, 16\)"):
        models.upgrade(plain, convolution=lambda **kw: Experts(**{**kw, "filters": 3}))


@keras.saving.register_keras_serializable(package="own")
class Kept(Own):
    """Starts as a convolution in a `kernel` and `bias` of its own."""

    def start_as_convolution(self, kernel, bias=None):
        self.kernel.assign(kernel)
        self.bias.assign(bias)


def test_a_frozen_convolution_stays_frozen_where_the_own_one_has_a_kernel():
    inputs = keras.Input((9, 9, 3))
    model = keras.Model(inputs, kl.Conv2D(4, **CONVOLUTION)(inputs))
    model.get_layer("conv").trainable = False
    kept, mixed = (
        models.upgrade(model, convolution=kind, convolution_where=["conv"])
        for kind in (Kept, Experts)
    )
    assert kept.trainable_variables == []
    assert len(mixed.trainable_variables) == len(mixed.variables)


class FewArguments(kl.Layer):
    """Takes what a backbone gives, and nothing more."""

    def __init__(self, filters, kernel_size, strides, padding, use_bias, name):
        super().__init__(name=name)
        self.given = {
            "filters": filters,
            "kernel_size": kernel_size,
            "strides": strides,
            "padding": padding,
            "use_bias": use_bias,
        }

    def build(self, input_shape):
        self.part = kl.Conv2D(**self.given, name="part")
        self.part.build(input_shape)

    def call(self, inputs):
        return self.part(inputs)

    def start_as_convolution(self, kernel, bias=None):
        self.part.set_weights([kernel] if bias is None else [kernel, bias])

    def get_config(self):
        return {**self.given, "name": self.name}


def test_a_convolution_that_takes_no_more_than_it_is_given(plain):
    plain = small("wide_resnet", classifier_activation=None)
    enliven(plain)
    plain.get_layer("stage1_block1_conv1").trainable = False
    upgraded = models.upgrade(plain, convolution=FewArguments)
    assert of_kind(upgraded, FewArguments)
    x = images(plain)
    np.testing.assert_allclose(upgraded(x), plain(x), rtol=1e-4, atol=1e-4)
    assert all(layer.trainable for layer in upgraded.layers if isinstance(layer, FewArguments))


@pytest.mark.parametrize(
    ("method", "argument"),
    [("start_as_convolution", "convolution"), ("start_as_sum", "residual")],
)
def test_a_method_of_another_form_is_named(method, argument):
    kind = FewArguments if argument == "convolution" else kl.Add
    # As people write it who have not read what it is given.
    wrong = type("Wrong", (kind,), {method: lambda self, weights, more, extra: None})
    model = small("wide_resnet")
    message = f"`{method}.*must set its weights.*Received: that of a Wrong at 'stage1_block1"
    with pytest.raises(ValueError, match=message):
        models.upgrade(model, **{argument: wrong})
