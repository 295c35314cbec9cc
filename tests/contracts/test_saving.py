"""What was set on a layer is there again when it is saved and loaded, over the table of layers."""

import inspect

import keras
import numpy as np
import pytest

from keras_fmm import layers, models
from tests.support import weights
from tests.support.layer_table import FIRST_ROWS, every_row, first_row, label, over


@every_row
def test_legacy_files_hold_every_way_of_using_a_layer(row, tmp_path):
    model, inputs = row.model(), row.example()
    weights.randomise(model)
    model.save(tmp_path / "model.h5")
    loaded = keras.saving.load_model(tmp_path / "model.h5")
    assert loaded.layers[-1].get_config() == model.layers[-1].get_config()
    np.testing.assert_array_equal(loaded(inputs), model(inputs))


def test_a_checkpoint_of_the_legacy_format_loads(tmp_path):
    row = first_row(layers.SqueezeExcite)
    model, inputs = row.model(), row.example()
    model.compile("sgd", keras.losses.MeanSquaredError())
    path = tmp_path / "best.h5"
    checkpoint = keras.callbacks.ModelCheckpoint(path, monitor="loss", save_best_only=True)
    model.fit(inputs, inputs, verbose=0, callbacks=[checkpoint])
    loaded = keras.saving.load_model(path)
    np.testing.assert_allclose(loaded.predict(inputs, verbose=0), model(inputs), atol=1e-6)


class Words(layers.FeatureGate):
    """A user's gate whose options are words, one of them not known to the base."""

    def __init__(self, word="add", **kwargs):
        super().__init__(**kwargs)
        self.word = word

    def compute_attention_map(self, inputs, training=None):
        if not isinstance(self.word, str):
            raise TypeError(f"{self.word} is no word")
        return keras.ops.mean(inputs, axis=(1, 2), keepdims=True)

    def get_config(self):
        return {**super().get_config(), "word": self.word}


# What Keras' reader of .h5 takes for functions.
NAMES = [name for name, _ in inspect.getmembers(keras.layers, inspect.isfunction)]


def test_keras_has_such_names():
    assert {"add", "average", "concatenate", "dot", "maximum", "minimum", "multiply"} <= set(NAMES)


def test_words_of_a_gate_of_a_users_own_stay_words(tmp_path):
    inputs = x = keras.Input((4, 4, 3))
    for word in NAMES:
        x = Words(word, merge="add", gate_activation="relu", name=f"gate_{word}")(x)
    keras.Model(inputs, x).save(tmp_path / "model.h5")
    loaded = keras.saving.load_model(tmp_path / "model.h5", custom_objects={"Words": Words})
    for word in NAMES:
        gate = loaded.get_layer(f"gate_{word}")
        assert (gate.word, gate.merge) == (word, "add")
        assert gate.gate_activation is keras.activations.relu


class MadeByItself(Words):
    @classmethod
    def from_config(cls, config):
        return cls(**config)


def test_a_gate_whose_from_config_is_its_own_has_its_merge(tmp_path):
    inputs = keras.Input((4, 4, 3))
    outputs = MadeByItself("mine", merge="multiply", name="gate")(inputs)
    keras.Model(inputs, outputs).save(tmp_path / "model.h5")
    objects = {"MadeByItself": MadeByItself}
    loaded = keras.saving.load_model(tmp_path / "model.h5", custom_objects=objects)
    assert loaded.get_layer("gate").merge == "multiply"


def freeze(model):
    model.layers[-1]._layers[0].trainable = False


def enable_lora(model):
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dense):
            layer.enable_lora(2)
            layer.lora_kernel_b.assign(np.full(layer.lora_kernel_b.shape, 0.3))


def quantize(mode):
    def change(model):
        model.quantize(mode)
        dense = [x for x in model._flatten_layers() if isinstance(x, keras.layers.Dense)]
        assert all(layer.quantization_mode == mode for layer in dense)

    return change


CHANGES = {
    "frozen": freeze,
    "lora": enable_lora,
    "int8": quantize("int8"),
    "int4": quantize("int4"),
    "float8": quantize("float8"),
}


class Own(layers.FeatureGate):
    """A user's gate; how it makes its sub-layers is for subclasses to say."""

    def compute_attention_map(self, inputs, training=None):
        return self.excite(self.squeeze(keras.ops.mean(inputs, axis=(1, 2), keepdims=True)))


@keras.saving.register_keras_serializable("tests_of_saving")
class Made(Own):
    def build_attention(self, channels):
        kind, shape = keras.layers.Dense, (None, 1, 1, channels)
        self.squeeze = self.make_sublayer(kind, shape, units=3, name="squeeze")
        self.excite = self.make_sublayer(kind, (None, 1, 1, 3), units=channels, name="excite")


@keras.saving.register_keras_serializable("tests_of_saving")
class Built(Own):
    def build_attention(self, channels):
        self.squeeze = keras.layers.Dense(3, name="squeeze")
        self.squeeze.build((None, 1, 1, channels))
        self.excite = keras.layers.Dense(channels, name="excite")
        self.excite.build((None, 1, 1, 3))


@keras.saving.register_keras_serializable("tests_of_saving")
class Unbuilt(Own):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.squeeze = keras.layers.Dense(3, name="squeeze")

    def build_attention(self, channels):
        self.excite = keras.Sequential([keras.layers.Dense(channels, name="inner")], name="excite")


def own(gate):
    inputs = keras.Input((None, None, 8))
    return keras.Model(inputs, gate()(inputs)), np.random.default_rng(0).normal(size=(2, 3, 4, 8))


def flags(model):
    return sorted((variable.path, variable.trainable) for variable in model.variables)


def case(row):
    # CBAM is made of two others, and these are made of the same layers.
    is_quick = row.layer in (layers.CBAM, layers.AWConv2D)
    marks = () if is_quick else pytest.mark.slow
    return pytest.param(lambda: (row.model(), row.example()), id=label(row), marks=marks)


CASES = [
    *(case(row) for row in FIRST_ROWS if row.weights),
    *(
        pytest.param(lambda gate=gate: own(gate), id=gate.__name__)
        for gate in (Made, Built, Unbuilt)
    ),
]


@pytest.mark.filterwarnings("ignore:.*does not have a `quantize` method")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("case", CASES)
def test_what_was_set_on_sub_layers_is_kept(case, change, tmp_path):
    model, inputs = case()
    weights.randomise(model)
    model(inputs)
    CHANGES[change](model)
    expected = np.asarray(model(inputs))

    def check(other):
        np.testing.assert_array_equal(other(inputs), expected)
        assert flags(other) == flags(model)

    model.save(tmp_path / "model.keras")
    check(keras.saving.load_model(tmp_path / "model.keras"))
    model.save_weights(tmp_path / "model.weights.h5")
    clone = keras.models.clone_model(model)
    clone.load_weights(tmp_path / "model.weights.h5")
    check(clone)
    clone = keras.models.clone_model(model)
    models.load_weights(clone, tmp_path / "model.keras")
    check(clone)
    if change == "float8" and "Unbuilt" in type(model.layers[-1]).__name__:
        return  # Keras goes by the order of variables, which is another for what is built so.
    model.save(tmp_path / "model.h5")
    check(keras.saving.load_model(tmp_path / "model.h5"))
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    check(clone)


@pytest.mark.filterwarnings("ignore:.*does not have a `quantize` method")
@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
@over([first_row(layers.SqueezeExcite), first_row(layers.CBAM)])
def test_what_is_quantized_stays_so_in_an_upgraded_model(row, mode):
    model, inputs = row.model(), row.example()
    model.quantize(mode)
    upgraded = models.upgrade(model, attention="eca", attention_where=[model.layers[-1].name])
    np.testing.assert_allclose(upgraded(inputs), model(inputs), atol=1e-5)
    old, new = (x.get_layer(model.layers[-1].name)._flatten_layers() for x in (model, upgraded))
    modes = [[layer.quantization_mode for layer in part] for part in (old, new)]
    assert modes[0] == modes[1]


@every_row
def test_an_ordinary_config_says_nothing_of_sub_layers(row):
    layer = row.make_built(trainable=False, dtype="mixed_float16")
    assert "sublayers" not in layer.get_config()
