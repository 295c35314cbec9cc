"""How a rate is chosen, what is measured of a block's outputs, and what a part's trials come to."""

import keras
import numpy as np
import pytest

from recipes.lab.settings import parse
from recipes.papers import deep_products as recipe


def part_of(accuracies, blocks=54):
    """A part of one trial of seed 0 for each form and rate, its curve flat."""
    return {
        "trials": {
            recipe.named(form, blocks, rate): {"0": {"val_accuracy": [score] * 10 if score else []}}
            for (form, rate), score in accuracies.items()
        }
    }


def test_the_rate_is_the_best_on_validation_and_the_lowest_of_equals():
    part = part_of({("add", 0.03): 0.9, ("add", 0.1): 0.95, ("add", 0.3): 0.95, ("x", 0.03): 1})
    assert recipe.best(part, "add", 54) == "add 54 at 0.1"
    assert recipe.best(part, "add", 54, (0.03, 0.3)) == "add 54 at 0.3"


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ((0.9, 0.95, 0.9), (0.03, 0.1, 0.3)),
        ((0.9, 0.95, 0.955), (0.03, 0.1, 0.3)),
        ((0.97, 0.95, 0.9), (0.01, 0.03, 0.1, 0.3)),
        ((0.8, 0.9, 0.95), (0.03, 0.1, 0.3, 1.0)),
        # None of them learned, or stayed finite: nothing says which way.
        ((None, None, None), (0.03, 0.1, 0.3)),
    ],
)
def test_another_rate_is_tried_beyond_the_best(scores, expected):
    rates = (0.03, 0.1, 0.3)
    part = part_of({("add", rate): score for rate, score in zip(rates, scores, strict=True)})
    assert recipe.rates_beyond(part, "add", 54, rates) == expected


@pytest.mark.parametrize(("network", "layers"), [("chain", 4), ("wide_resnet", 3)])
def test_as_many_blocks_as_asked_for(network, layers):
    model = recipe.built(network, "scaled", layers, (8, 8, 1), 10)
    found = [layer for layer in model.layers if hasattr(layer, "form")]
    assert len(found) == layers
    assert {(layer.form, layer.depth) for layer in found} == {("scaled", layers)}


def test_sizes_by_block():
    keras.utils.set_random_seed(0)
    model = recipe.built("chain", "product", 2, (4, 4, 1), 3)
    images = np.random.default_rng(0).uniform(size=(6, 4, 4, 1)).astype("float32")
    labels = np.eye(3, dtype="float32")[[0, 1, 2, 0, 1, 2]]
    found = recipe.sizes(model, images, labels)
    inside = keras.Model(model.input, [model.get_layer(f"block{i}").output for i in (1, 2)])
    for index, x in enumerate(inside.predict(images, verbose=0)):
        mean = x.mean(dtype="float64")
        assert found["largest"][index] == pytest.approx(np.abs(x).max(), rel=1e-3)
        assert found["standard_deviation"][index] == pytest.approx(x.std(), rel=1e-3)
        # About zero, not about the mean, as the theory's line is.
        moment = np.mean(x.astype("float64") ** 4) / (x.var() + mean**2) ** 2
        assert found["kurtosis"][index] == pytest.approx(moment, rel=1e-3)
    assert "gradient" not in found


@pytest.mark.slow_on_tensorflow
def test_gradients_by_block_are_differences():
    keras.utils.set_random_seed(0)
    model = recipe.built("chain", "add", 1, (4, 4, 1), 3)
    # Batch norm's own statistics would move with what is added.
    images = np.random.default_rng(0).uniform(size=(6, 4, 4, 1)).astype("float32")
    labels = np.eye(3, dtype="float32")[[0, 1, 2, 0, 1, 2]]
    found = recipe.sizes(model, images, labels, training=True)
    tail = keras.Model(model.get_layer("block1").output, model.output)
    head = keras.Model(model.input, model.get_layer("block1").output)
    x = keras.ops.convert_to_numpy(head(images, training=True)).astype("float64")

    def loss(x):
        outputs = keras.ops.convert_to_numpy(tail(x.astype("float32"), training=True))
        return -np.log(outputs[labels.astype(bool)].astype("float64")).mean()

    rng = np.random.default_rng(1)
    slopes = []
    for _ in range(200):
        direction = rng.normal(size=x.shape)
        step = 1e-2
        slopes.append((loss(x + step * direction) - loss(x - step * direction)) / (2 * step))
    # The mean square of a slope along a standard normal direction is the gradient's square.
    assert found["gradient"][0] == pytest.approx(np.sqrt(np.mean(np.square(slopes))), rel=0.2)


def test_gradients_by_block_in_half_precision_are_those_of_float32():
    images = np.random.default_rng(0).uniform(size=(6, 4, 4, 1)).astype("float32")
    labels = np.eye(3, dtype="float32")[[0, 1, 2, 0, 1, 2]]
    found = {}
    for policy in ("float32", "mixed_float16"):
        keras.utils.set_random_seed(0)
        with recipe.policy(policy):
            model = recipe.built("chain", "centered", 2, (4, 4, 1), 3)
            assert model.output.dtype == ("float16" if policy != "float32" else policy)
            found[policy] = recipe.sizes(model, images, labels, training=True)["gradient"]
    assert found["mixed_float16"] == pytest.approx(found["float32"], rel=0.05)


def test_a_page_has_the_commands_that_measured_it():
    names = ["centered 102 at 0.1", "linear 54 at 0.1", "centered 54 at 0.1", "centered 54 at 0.3"]
    part = {"trials": {name: {} for name in names}}
    found = list(recipe.flags_of("digits, wide_resnet, 20 epochs", part))
    shared = {"network": "wide_resnet", "blocks": 54}
    assert found[0] == {"forms": ("linear", "centered"), **shared}
    assert [flags["blocks"] for flags in found] == [54, 102]
    # Half precision was measured at the rates given, one command each.
    found = list(recipe.flags_of("digits, wide_resnet mixed_float16, 20 epochs", part))
    half = {"policy": "mixed_float16"}
    assert found[0] == {"forms": ("linear", "centered"), **shared, **half, "rate": 0.1}
    assert found[1] == {"forms": ("centered",), **shared, **half, "rate": 0.3}
    assert [flags["blocks"] for flags in found] == [54, 54, 102]


def test_refuses_unknown_forms(capsys):
    settings, _ = parse(recipe.Settings, "", ["add", "centered", "--blocks", "4"])
    assert settings.forms == ("add", "centered")
    with pytest.raises(SystemExit):
        parse(recipe.Settings, "", ["add", "signed", "--blocks", "4"])
    assert "must be one of add, product, centered" in (error := capsys.readouterr().err)
    assert "Received: signed" in error


def test_refuses_numbers_of_blocks_that_cannot_be(monkeypatch):
    settings, _ = parse(recipe.Settings, "", ["centered", "--blocks", "28"])
    with pytest.raises(ValueError, match="multiple of 3.*Received: blocks=28. Take 27 or 30"):
        recipe.main(settings)

    def too_deep(*arguments):
        raise RecursionError

    monkeypatch.setattr(recipe.networks, "chain", too_deep)
    with pytest.raises(ValueError, match="limit of recursion. Received: blocks=400. Take"):
        recipe.built("chain", "centered", 400, (8, 8, 1), 10)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("blocks", "seeds"),
    # Each seed is a network compiled anew, which takes by far the longest of 54 blocks.
    [(54, 1), (3, 2)],
)
def test_one_command_trains_54_blocks_for_any_seeds(tmp_path, monkeypatch, blocks, seeds):
    monkeypatch.chdir(tmp_path)
    flags = ["--blocks", str(blocks), "--seeds", str(seeds), "--epochs", "1"]
    flags += ["--rate", "0.1", "--output", "a"]
    settings, _ = parse(recipe.Settings, "", ["centered", *flags])
    part = recipe.main(settings)
    assert part["by_blocks"][f"centered {blocks}"]["finite"] == seeds
    trials = part["trials"][f"centered {blocks} at 0.1"]
    assert set(trials) == {str(seed) for seed in range(seeds)}
    assert len(trials["0"]["untrained"]["kurtosis"]) == blocks
