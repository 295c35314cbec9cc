"""Arguments that would hang or end the process, or give NaN: refused before anything is made."""

import numpy as np
import pytest

from keras_fmm import analysis, checks, data, export, layers, models, ops, training

HUGE = 10**30
IMAGES = np.zeros((2, 8, 8, 1), "float32")


@pytest.mark.parametrize(
    ("name", "function", "arguments"),
    [
        ("kernel_size", layers.EfficientChannelAttention, {"kernel_size": 10**9 + 1}),
        ("beta", layers.EfficientChannelAttention, {"beta": 10**400}),
        ("kernel_size", layers.SpatialAttention, {"kernel_size": 10**6}),
        ("kernel_size", layers.CBAM, {"kernel_size": 10**6}),
        ("reduction", layers.SqueezeExcite, {"reduction": HUGE}),
        ("filters", layers.AWConv2D, {"filters": 10**12, "kernel_size": 3}),
        ("kernel_size", layers.AWConv2D, {"filters": 4, "kernel_size": (3, 10**6)}),
        ("strides", layers.AWConv2D, {"filters": 4, "kernel_size": 3, "strides": 10**9}),
        (
            "dilation_rate",
            layers.AWConv2D,
            {"filters": 4, "kernel_size": 3, "dilation_rate": 10**9},
        ),
        ("depth", models.WideResNet, {"depth": HUGE}),
        ("width", models.WideResNet, {"width": 10**12}),
        ("blocks_per_stage", models.ResNet, {"blocks_per_stage": (1, 1, 10**9, 1)}),
        ("filters", models.ResNet, {"blocks_per_stage": (1, 1, 1, 1), "filters": 10**12}),
        ("classes", models.ToyCNN, {"input_shape": (8, 8, 1), "classes": 10**12}),
        ("alpha", models.MobileNet, {"alpha": 1e12}),
        ("depth_multiplier", models.MobileNet, {"depth_multiplier": 10**12}),
        ("input_shape\\[2\\]", models.ToyCNN, {"input_shape": (8, 8, 10**12)}),
        ("points", analysis.ellipse, {**dict.fromkeys("abc", np.zeros(3)), "points": 3 * 10**12}),
        ("output_size", ops.adaptive_average_pool, {"inputs": IMAGES, "output_size": (1, 10**6)}),
        (
            "batch_size",
            training.batch_plan,
            {"strategy": None, "batch_size": HUGE, "learning_rate": 1},
        ),
        ("num_threads", export.run_tflite, {"path": "no", "images": 0, "num_threads": 10**9}),
    ],
)
def test_sizes_have_bounds(name, function, arguments):
    with pytest.raises(ValueError, match=rf"`{name}(\[\d\])?` must be.* Received: {name}.*="):
        function(**arguments)


def test_a_rule_that_gives_a_huge_kernel_is_refused():
    layer = layers.EfficientChannelAttention(beta=1e9)
    message = "`gamma` and `beta` must give a kernel of less than 256 .* Give `kernel_size`, or"
    with pytest.raises(ValueError, match=message):
        layer.build((None, 4, 4, 8))
    with pytest.raises(ValueError, match="gamma=5e-324"):
        layers.EfficientChannelAttention(gamma=5e-324).multiply_adds((None, 4, 4, 8))


@pytest.fixture(scope="module")
def model():
    return models.ToyCNN(input_shape=(8, 8, 1))


@pytest.mark.parametrize(
    ("name", "function", "value"),
    [
        ("draws", analysis.output_sensitivity, 10**12),
        ("noise", analysis.output_sensitivity, 1e39),
        ("value", analysis.occlusion_sensitivity, 1e39),
        ("batch_size", analysis.attention_maps, HUGE),
    ],
)
def test_measurements_and_exports_have_bounds(model, name, function, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .* Received: {name}="):
        function(model, IMAGES, **{name: value})


@pytest.mark.parametrize(
    ("name", "function", "value"),
    [
        ("n_steps", analysis.integrated_gradients, 10**12),
        ("num_samples", analysis.smooth_grad, 10**12),
        ("noise", analysis.smooth_grad, 1e39),
        ("samples", analysis.smooth_full_grad, 10**12),
        ("noise", analysis.smooth_full_grad, 1e39),
    ],
)
def test_means_over_copies_have_bounds(model, name, function, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .* Received: {name}="):
        function(model, IMAGES, **{name: value})


@pytest.mark.parametrize("name", ["batch_size", "initial_epoch", "epochs"])
def test_pipelines_have_bounds(name):
    with pytest.raises(ValueError, match=f"`{name}` must be .* Received: {name}="):
        data.load("digits").pipeline("train", **{name: HUGE})


def test_the_batch_of_an_evaluation_is_found_at_once():
    # One replica takes any; that of three is found below, not after two thousand million tries.
    assert training.evaluation_batch_size(None, checks.SIZES - 1, 10**9) == checks.SIZES - 1
    with pytest.raises(ValueError, match="`images` must be a positive integer"):
        training.evaluation_batch_size(None, 64, 0)


@pytest.mark.parametrize("shape", [(0, 8, 1), (8, 0, 1), (8, 8, 0), (8, -8, 1)])
@pytest.mark.parametrize("function", [models.ToyCNN, models.ResNet18, models.MobileNet])
def test_models_of_nothing_are_refused(function, shape):
    with pytest.raises(ValueError, match=r"`input_shape\[\d\]` must be a positive integer"):
        function(input_shape=shape)


@pytest.mark.parametrize(
    "shape", [3, "abc", b"abc", {8, 9, 1}, ("8", "8", "1"), (8.5, 8, 1), (True, 8, 1)]
)
def test_models_of_other_than_sizes_are_refused(shape):
    with pytest.raises(TypeError, match="`input_shape.* must be"):
        models.ToyCNN(input_shape=shape)
    with pytest.raises(TypeError, match="`input_shape.* must be"):
        analysis.flops(models.ToyCNN(include_top=False, input_shape=(None, None, 1)), shape)


def test_images_without_rows_are_refused():
    model = models.ToyCNN(include_top=False, input_shape=(None, None, 1), attention="eca")
    with pytest.raises(ValueError, match=r"Received: images of shape \(1, 0, 8, 1\)"):
        analysis.attention_maps(model, np.zeros((1, 0, 8, 1)))
    with pytest.raises(ValueError, match=r"`input_shape\[0\]` must be a positive integer"):
        analysis.flops(model, (0, 8, 1))


def test_an_empty_grid_or_map_has_no_averages():
    with pytest.raises(ValueError, match="`output_size.0.` must be a positive integer"):
        ops.adaptive_average_pool(IMAGES, (0, 1))
    with pytest.raises(ValueError, match="at least one row"):
        ops.adaptive_average_pool(IMAGES[:, :0], (1, 1))
