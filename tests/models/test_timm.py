"""timm's networks in Keras, beside what timm's package computed."""

import sys
import types

import keras
import numpy as np
import pytest

from keras_fmm import layers, models
from keras_fmm.models import timm
from tests.support import timm_networks

QUICK = ("resnet10t", "seresnet18", "ecaresnet26t", "mobilenetv1_100")
CASES = [
    pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
    for name in timm_networks.CASES
]
# As `timm_networks.narrow`.
SMALL = {"input_shape": (32, 32, 3), "filters": 4}


def state_of(name):
    return timm_networks.weights(timm_networks.recorded()[name]["shapes"])


def small(weights=None, name="resnet10t", **arguments):
    stem = {"stem": (1, 2, 4)} if name == "resnet10t" else {}
    return models.from_timm(name, weights, **{**SMALL, **stem, **arguments})


NARROW = timm_networks.narrow("resnet10t")


def logits(model, images):
    return keras.ops.convert_to_numpy(model(images, training=False))


def assert_close(values, expected):
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize("name", CASES)
def test_networks_compute_what_timm_recorded(name):
    sides = timm_networks.CASES[name]
    state = state_of(name)
    model = models.from_timm(name, state, input_shape=(*sides, 3))
    numbers = sum(x.size for key, x in state.items() if not key.endswith("num_batches_tracked"))
    assert model.count_params() == numbers
    scores = logits(model, timm_networks.image(sides))
    assert_close(scores[0, ::100], timm_networks.recorded()[name]["logits"])


@pytest.mark.slow
@pytest.mark.parametrize("name", timm_networks.CASES)
def test_networks_compute_what_timm_computes(name):
    pytest.importorskip("timm", exc_type=ImportError)
    import torch

    module = timm_networks.timm_module(name)
    torch.manual_seed(0)
    for key, value in module.state_dict().items():
        if key.endswith(("running_var", "bn1.weight", "bn2.weight")):
            value.uniform_(0.5, 1.5)
        elif key.endswith("running_mean"):
            value.normal_(0, 0.3)
    images = np.random.default_rng(0).normal(size=(2, 35, 64, 3)).astype("float32")
    model = models.from_timm(name, module.state_dict(), input_shape=(None, None, 3))
    assert_close(logits(model, images), timm_networks.computed(module, images))


@pytest.mark.slow
def test_every_network_of_timms_class_is_built_or_refused_with_a_reason():
    pytest.importorskip("timm", exc_type=ImportError)
    from timm.models import _registry

    built = {weights.network for weights in timm.pretrained()}
    for name in _registry._module_to_models["resnet"]:
        former = name in _registry._deprecated_models
        if not former and name not in built:
            with pytest.raises(ValueError, match=f"Received: name='{name}', which (is|has) "):
                models.from_timm(name)


def test_a_name_is_of_a_network_or_of_its_weights():
    found = timm.find("seresnet50")
    assert (found.name, found.test_image_size, found.license) == (
        "seresnet50.a1_in1k",
        288,
        "apache-2.0",
    )
    assert timm.find("timm/seresnet50.ra2_in1k").top1 == 81.284
    assert timm.find("tv_resnet50").name == "resnet50.tv_in1k"
    assert timm.find("resnet50.fb_swsl_ig1b_ft_in1k").license == "cc-by-nc-4.0"


def test_all_names_are_listed_and_each_has_an_architecture():
    listed = models.list_presets("TIMM/*")
    assert {"timm/resnet50", "timm/ecaresnet269d", "timm/wide_resnet101_2.tv2_in1k"} < set(listed)
    assert all(timm.is_computed(name.removeprefix("timm/").partition(".")[0]) for name in listed)
    ours = ["se_resnet18", "aw_se_resnet18", "aa_se_resnet18"]
    assert models.list_presets("*se*t18") == [*ours, "timm/seresnet18"]
    assert len(models.list_presets()) == len(models.PRESETS) + len(listed)
    assert models.list_presets("nothing") == []
    with pytest.raises(TypeError, match="`pattern` must be a"):
        models.list_presets(3)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnext50_32x4d", "which has grouped convolutions"),
        ("seresnext26d_32x4d.bt_in1k", "which has grouped convolutions"),
        ("ecaresnet50d_pruned", "which is pruned"),
        ("legacy_seresnet50", "which is of timm's legacy class"),
        ("resnetaa50d", "which has layers against aliasing"),
        ("resnetrs50", "which has a convolution in the place of the stem's max-pool"),
        ("resnet50_gn", "which has group norm"),
        ("mobilenetv1_100h", "which has one more convolution"),
        ("ResNet50", "Nearest first: 'resnet50', "),
        ("seresnet-50", "Nearest first: 'seresnet50', "),
        ("resnet50.a1_in1", r"a tag that timm has of resnet50\. .* first: 'a1_in1k', "),
        ("seresnet50.a1", "Nearest first: 'a1_in1k', "),
        ("", "Nearest first: "),
    ],
)
def test_other_names_are_refused_with_the_reason_and_the_nearest(name, reason):
    with pytest.raises(ValueError, match=reason):
        models.from_timm(name)


def test_a_preset_of_timm_takes_a_backbones_arguments():
    model = models.from_preset("timm/resnet10t", **SMALL, classes=3, name="mine", attention="eca")
    assert (model.name, model.output_shape) == ("mine", (None, 3))
    assert isinstance(model.get_layer("stage1_block1_attention"), layers.EfficientChannelAttention)
    with pytest.raises(ValueError, match="Nearest first: 'resnet10t"):
        models.from_preset("timm/resnet-10t")


def test_weights_without_a_classifier_load_without_a_top():
    features = small(NARROW, include_top=False, input_shape=None)
    assert features.output_shape == (None, None, None, 32)
    without = models.from_timm("resnet50.bamboo", **SMALL)
    assert without.output_shape == (None, 128)


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("resnet10t", "resnet18", "stem_conv1 is not in the source"),
        ("resnet10t", "resnet18d", r"stem_conv1 has the shapes \[\(3, 3, 3, 1\)\], in the source"),
        ("seresnet18", "resnet18", "`weights` must be of seresnet18. .*attention/squeeze and"),
        ("resnet18", "seresnet18", "attention/squeeze is not in the model"),
        ("resnet10t", "mobilenetv1_100", "stem_conv1 is not in the source"),
    ],
)
def test_weights_of_another_network_are_refused(name, source, message):
    with pytest.raises(ValueError, match=message):
        small(timm_networks.narrow(source), name)


def test_weights_of_another_shape_change_nothing():
    model = small(classes=7)
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"predictions has the shapes .*7\).* in the source"):
        models.load_weights(model, NARROW)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"average_shortcut": False}, "the model's strided shortcuts take every second row"),
        ({"symmetric_padding": False}, "the model has other strides, padding or epsilon"),
        ({"epsilon": 1e-3}, "the model has other strides, padding or epsilon"),
    ],
)
def test_what_weights_do_not_show_is_compared(changed, message):
    with pytest.raises(ValueError, match=message):
        small(NARROW, **changed)


@pytest.mark.parametrize("weights", ["imagenet", "hub"])
def test_weights_of_others_are_refused_before_a_download(weights):
    model = small(name="seresnet18")
    with pytest.raises(ValueError, match=f'`source="{weights}"` is'):
        models.load_weights(model, weights)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"fc.weight": None},
        {3: np.ones(3)},
        {"a.b": np.ones(3)},
        {"state_dict": {}},
        {"fc.weight": np.ones((4, 3), "int8")},
    ],
)
def test_what_is_no_state_dict_is_refused(state):
    model = models.ResNet((1, 1, 1, 1), **SMALL)
    with pytest.raises(ValueError, match="`source` as a dict must be a state dict of PyTorch"):
        models.load_weights(model, state)


def test_files_of_safetensors_load(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    state = NARROW
    safetensors.save_file(state, tmp_path / "model.safetensors")
    safetensors.save_file(state, tmp_path / "MODEL.SafeTensors")
    for name in ("resnetaa50d.safetensors", "models--timm--resnetblur50.bt_in1k/model.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        safetensors.save_file(state, tmp_path / name)
        with pytest.raises(ValueError, match=r"it is of resnet(aa50d|blur50), which has layers ag"):
            small(tmp_path / name)
    model = small(tmp_path / "MODEL.SafeTensors")
    expected = state["layer2.0.downsample.1.weight"].transpose(2, 3, 1, 0)
    kernel = model.get_layer("stage2_block1_shortcut_conv").kernel
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(kernel), expected)
    (tmp_path / "cut.safetensors").write_bytes(
        (tmp_path / "model.safetensors").read_bytes()[:10_000]
    )
    with pytest.raises(OSError, match="cut.safetensors', which could not be read"):
        models.load_weights(model, tmp_path / "cut.safetensors")


class Trap:
    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


def test_files_of_pytorch_load_without_unpickling_more_than_arrays(tmp_path):
    torch = pytest.importorskip("torch")
    state = {f"module.{key}": torch.from_numpy(x) for key, x in NARROW.items()}
    half = {key: x.half() if x.ndim == 4 else x for key, x in state.items()}
    torch.save({"epoch": 3, "state_dict": half}, tmp_path / "model.pth")
    model = small(tmp_path / "model.pth")
    expected = half["module.layer1.0.conv1.weight"].float().permute(2, 3, 1, 0).numpy()
    kernel = model.get_layer("stage1_block1_conv1").kernel
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(kernel), expected)
    torch.save({**state, "trap": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(
        OSError, match="trap.pth', which could not be read .*holds more than arrays"
    ):
        models.load_weights(model, tmp_path / "trap.pth")


@pytest.mark.parametrize(
    ("missing", "file"), [("safetensors", "a.safetensors"), ("torch", "a.pth")]
)
def test_a_missing_package_is_named_with_its_extra(missing, file, tmp_path, monkeypatch):
    if missing == keras.backend.backend():
        pytest.skip("Keras runs on it")
    (tmp_path / file).touch()
    for module in [missing, *(name for name in sys.modules if name.startswith(f"{missing}."))]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"needs {missing}\. .*keras-fmm\[timm\]"):
        models.load_weights(models.ResNet((1, 1, 1, 1), **SMALL), tmp_path / file)


def test_the_hub_is_asked_for_the_named_weights_only_when_they_are_wanted(tmp_path, monkeypatch):
    asked = []

    def download(repo_id, filename):
        asked.append((repo_id, filename))
        return str(tmp_path / "cached.weights.h5")

    monkeypatch.setitem(
        sys.modules, "huggingface_hub", types.SimpleNamespace(hf_hub_download=download)
    )
    source = small()
    source.save_weights(tmp_path / "cached.weights.h5")
    assert not asked
    model = small("hub")
    models.load_weights(model, "hub")
    assert asked == [("timm/resnet10t.c3_in1k", "model.safetensors")] * 2
    for old, new in zip(source.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)

    def fail(**_):
        raise RuntimeError("no network")

    monkeypatch.setattr(sys.modules["huggingface_hub"], "hf_hub_download", fail)
    with pytest.raises(OSError, match="RuntimeError for resnet10t.c3_in1k \\(no network\\)"):
        models.load_weights(model, "hub")
    with pytest.raises(ValueError, match="is for models of `from_timm`"):
        models.load_weights(models.ResNet((1, 1, 1, 1), **SMALL), "hub")


@pytest.mark.slow_on_tensorflow
def test_preprocessing_travels_with_the_model(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = logits(small(NARROW), (images / 255 - mean) / std)
    model = small(NARROW, include_preprocessing=True)
    model.save(tmp_path / "model.keras")
    for made in (keras.models.load_model(tmp_path / "model.keras"), models.upgrade(model, "eca")):
        kept = made.get_layer("preprocessing")
        assert (kept.image_mean, kept.image_std, kept.normalize) == (mean, std, True)
        assert (kept.image_size, kept.crop_pct, kept.interpolation) == (176, 0.875, "bicubic")
        assert (kept.test_image_size, kept.test_crop_pct) == (224, 0.95)
        assert_close(logits(made, images), expected)


def test_preprocessing_wants_a_number_a_channel():
    with pytest.raises(ValueError, match="must have a number a channel"):
        models.Preprocessing((0.5, 0.5, 0.5), (0.5, 0.0, 0.5))
    layer = models.Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match=r"must have 3 channels.* Received: input_shape=\(1, "):
        layer(np.ones((1, 2, 2, 1)))
    left = models.Preprocessing((0.5,), (0.5,), normalize=False)
    assert keras.ops.convert_to_numpy(left(np.full((1, 2, 2, 3), 7.0))).max() == 7


@pytest.mark.slow
def test_networks_deeper_than_pythons_recursion_are_built_and_loaded(tmp_path):
    model = models.from_timm("ecaresnet269d", **{**SMALL, "stem": (4, 4, 4)})
    assert model.count_params() > 0
    model.save(tmp_path / "deep.keras")
    assert len(keras.models.load_model(tmp_path / "deep.keras").layers) == len(model.layers)
