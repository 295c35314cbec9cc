"""Controls inside a network, networks that the paper lacks, comparison at equal loss, power."""

import dataclasses
import json
import pathlib

import keras
import numpy as np
import pytest

from keras_fmm import analysis, data, layers, models
from recipes.lab import power, verdicts
from recipes.papers import importance_controls, networks, rate_search
from recipes.papers import smoothness_along_training as along

GATE = "stage2_attention"


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = models.ToyCNN(input_shape=(8, 8, 1), classes=3, attention=layers.SqueezeExcite)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(0, 0.3, weight.shape))
    return model


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).uniform(size=(5, 8, 8, 1)).astype("float32")


@pytest.mark.slow_on_tensorflow
def test_importances_of_the_network_as_it_is(model, images):
    found = importance_controls.Importances(model)(images, GATE)
    expected = analysis.channel_importance(model, images, GATE)
    np.testing.assert_allclose(found["input"], expected.without_bias, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["input with bias"], expected.with_bias, rtol=1e-4, atol=1e-6)
    behind = analysis.channel_importance(model, images, "stage2_pool").without_bias
    np.testing.assert_allclose(found["output"], behind, rtol=1e-4, atol=1e-6)
    own = analysis.attention_maps(model, images)[GATE][:, 0, 0]
    np.testing.assert_allclose(found["without attention"], behind / own, rtol=1e-3, atol=1e-5)


def by_hand(model, image, given):
    """The network with given numbers in the gate's place: a function of the gate's input."""
    features = keras.Model(model.input, model.get_layer(GATE).input)
    tail = keras.Model(model.get_layer("stage2_pool").input, model.layers[-2].output)
    kernel, bias = (keras.ops.convert_to_numpy(x) for x in model.layers[-1].weights)

    def logits(h):
        flat = keras.ops.convert_to_numpy(tail((h * given).astype("float32"))).astype("float64")
        return flat @ kernel + bias

    return keras.ops.convert_to_numpy(features(image)).astype("float64"), logits


@pytest.mark.slow_on_tensorflow
def test_importance_with_other_numbers_in_the_gates_place(model, images):
    given = np.random.default_rng(2).random((len(images), 64)).astype("float32")
    found = importance_controls.Importances(model)(images, GATE, given, batch_size=2)
    for place in (0, 4):
        h, logits = by_hand(model, images[place : place + 1], given[place])
        best = logits(h).argmax()
        for channel in (3, 40):
            expected = 0
            for row, column in np.ndindex(h.shape[1:3]):
                step = np.zeros_like(h)
                step[0, row, column, channel] = 1e-2
                slope = (logits(h + step) - logits(h - step))[0, best] / 2e-2
                expected += abs(h[0, row, column, channel] * slope)
            assert found["input"][place, channel] == pytest.approx(expected, rel=0.02, abs=1e-4)
    # What is given is no function of the images: the input's importance is the output's.
    np.testing.assert_allclose(found["input"], found["output"], rtol=1e-4, atol=1e-6)
    without = found["output"] / given
    np.testing.assert_allclose(found["without attention"], without, rtol=1e-3, atol=1e-5)


@pytest.mark.slow_on_tensorflow
def test_smooth_importance_is_that_of_the_mean_of_the_products(model, images):
    importances = importance_controls.Importances(model)
    still = importances(images, GATE, copies=3, noise=0.0)
    np.testing.assert_allclose(still["input"], importances(images, GATE)["input"], rtol=1e-4)
    noisy = importances(images, GATE, copies=4, noise=0.3)
    # Signs cancel in the mean: it is no more than the mean importance of the copies.
    rng = np.random.default_rng((0, 0))
    deviation = 0.3 * np.ptp(images, axis=(1, 2, 3), keepdims=True)
    copies = [images + deviation * rng.standard_normal(images.shape, "float32") for _ in range(4)]
    classes = keras.ops.convert_to_numpy(model(images)).argmax(-1)
    each = [
        analysis.channel_importance(model, copy, GATE, class_index=classes).without_bias
        for copy in copies
    ]
    assert (noisy["input"] <= np.mean(each, axis=0) + 1e-5).all()
    assert not np.allclose(noisy["input"], np.mean(each, axis=0), rtol=0.01)


def test_controls_keep_each_images_numbers_or_know_nothing_of_them():
    own = np.random.default_rng(0).normal(5, 1, (40, 64)).astype("float32")
    found = importance_controls.replacements(own, np.random.default_rng(1))
    np.testing.assert_array_equal(np.sort(found["permuted"]), np.sort(own))
    assert not np.array_equal(found["permuted"].argsort()[0], own.argsort()[0])
    orders = found["permuted"].argsort() - own.argsort()
    assert len(np.unique(orders, axis=0)) == len(own)
    np.testing.assert_array_equal(found["another image's"][1:], own[:-1])
    assert 0 <= found["uniform"].min() < 0.01 < 0.99 < found["uniform"].max() < 1


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        ([0.04, 0.05, 0.06], "**holds**"),
        ([0.25, 0.30, 0.35], "**does not hold**"),
        ([-0.20, 0.30, 0.80], "cannot tell"),
    ],
)
def test_the_figure_as_a_whole(ours, expected):
    runs = {}
    for seed, tau in enumerate(ours):
        runs[str(seed)] = {
            "agreement": {
                f"{gate}, {kind}, {method}, {control}": {
                    "kendall_median": tau + step if control == "own" else 0.0
                }
                # One gate alone would decide otherwise.
                for gate, step in zip(importance_controls.GATES, (-0.4, 0.0, 0.4), strict=True)
                for kind in importance_controls.IMPORTANCES
                for method in importance_controls.METHODS
                for control in importance_controls.CONTROLS
            }
        }
    part = {"trials": {"AM": runs}, "not_learned": {"AM": 0}}
    found = dict(importance_controls.judged("digits, 60 epochs", part))
    whole = [str(x) for words, x in found.items() if words.startswith("the figure as a whole")]
    assert len(whole) == 8
    assert all(verdict.startswith(expected) for verdict in whole)


def test_networks_that_the_paper_lacks():
    built = {
        name: networks.builder(name)(input_shape=(8, 8, 1), classes=3)
        for name in rate_search.NETWORKS
    }
    counts = {name: model.count_params() for name, model in built.items()}
    assert counts["AM"] == counts["AMadd"] == counts["AMshuffled"] == counts["AMnoMTP"]
    assert counts["AMconstant"] == counts["CNN"] + 32 + 64 + 64
    x = np.random.default_rng(0).uniform(size=(3, 4, 4, 64)).astype("float32")
    shuffled = built["AMshuffled"].get_layer(GATE)
    plain = layers.SqueezeExcite()
    plain.build(x.shape)
    plain.set_weights(shuffled.get_weights())
    maps = keras.ops.convert_to_numpy(plain.attention_map(x))
    outputs = keras.ops.convert_to_numpy(shuffled(x))
    for image in range(3):
        np.testing.assert_allclose(outputs[image], x[image] * maps[image - 1], rtol=1e-5)
    constant = built["AMconstant"].get_layer(GATE)
    constant.set_weights([np.log(np.arange(1, 65) / np.arange(64, 0, -1))])
    expected = x * (np.arange(1, 65) / 65)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(constant(x)), expected, rtol=1e-5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(constant))
    assert isinstance(again, networks.ConstantGate)


def test_the_best_rate_is_that_of_validation_over_the_search_seeds():
    curves = {("AM", 0.1): (0.9, 0.5), ("AM", 0.05): (0.8, 0.8), ("AM", 0.01): (0.8, 0.8)}
    part = {
        "trials": {
            rate_search.named(*key): {
                str(seed): {"val_accuracy": [0.1] * 8 + [score] * 2, "test_accuracy": 0.0}
                for seed, score in enumerate(scores)
            }
            for key, scores in curves.items()
        }
    }
    rates = (0.1, 0.05, 0.01)
    assert rate_search.best(part, "AM", 1, rates) == "AM at 0.1"
    assert rate_search.best(part, "AM", 2, rates) == "AM at 0.01"
    # A search of fewer seeds does not undo one of more.
    for before, best in ({}, "AM at 0.1"), ({"search_seeds": 2}, "AM at 0.01"):
        settings = rate_search.Settings(networks=("AM",), search_seeds=1)
        found = rate_search.conclusions({**part, **before, "paper_percent": None}, settings, 10)
        assert found["chosen"] == {"AM": best}
        other = ["AM at 0.1, 0.00 ± 0.00 (2) % on test"] if before else []
        assert rate_search.by_one_seed({**part, **found}) == other
    part["trials"]["AM at 0.1"]["1"]["val_accuracy"] = []
    assert rate_search.on_validation(part, "AM at 0.1", 2) == pytest.approx(0.45)


def test_a_search_near_the_rate_of_fewer_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scores = {0.2: 0.7, 0.1: 0.8, 0.05: 0.82, 0.02: 0.8, 0.01: 0.7, 0.003: 0.6}

    def attempted(name, build, dataset, schedule, seed, verbose):
        score = scores[schedule.learning_rate] + seed / 100
        return {"finite": True, "val_accuracy": [score] * 2, "test_accuracy": score}

    monkeypatch.setattr(rate_search.trials, "attempted", attempted)
    before = {"digits, 100 images, 3 epochs": {"trials": {}, "chosen": {"CNN": "CNN at 0.01"}}}
    pathlib.Path("results.json").write_text(json.dumps(before))
    settings = rate_search.Settings(
        networks=("CNN",),
        dataset="digits",
        near_images=100,
        epochs=2,
        seeds=3,
        search_seeds=2,
        batch_size=64,
        output="results.json",
    )
    part = rate_search.main(settings)
    # From 0.01 and its neighbours one rate after the other, until one beyond the best is tried.
    counts = {name: len(runs) for name, runs in part["trials"].items()}
    tried = [f"CNN at {rate}" for rate in (0.02, 0.01, 0.003, 0.05, 0.1)]
    assert counts == {**dict.fromkeys(tried, 2), "CNN at 0.05": 3}
    assert part["chosen"] == {"CNN": "CNN at 0.05"}
    content = json.loads(pathlib.Path("results.json").read_text())
    assert list(content) == [*before, "digits, rates near those of 100 images, 2 epochs"]
    assert part["trials"]["CNN at 0.05"]["2"]["command"].endswith(
        "CNN --dataset digits --seeds 3 --epochs 2 --search-seeds 2 --near-images 100 "
        "--batch-size 64"
    )
    # More seeds are searched at all that was tried, and choose another.
    scores[0.02] = 0.9
    settings = dataclasses.replace(settings, search_seeds=3)
    more = rate_search.main(settings)
    assert {name: len(runs) for name, runs in more["trials"].items()} == dict.fromkeys(tried, 3)
    assert more["chosen"] == {"CNN": "CNN at 0.02"}
    # Not complete as long as a rate beside the best was not tried.
    del part["trials"]["CNN at 0.1"]
    assert rate_search.conclusions(part, settings, 10)["chosen"] == {}
    unfinished = {**before, "digits, 99 images, 1 epoch": {"trials": {}}}
    pathlib.Path("results.json").write_text(json.dumps(unfinished))
    for wrong in {"networks": ("AM",)}, {"near_images": 99}:
        with pytest.raises(ValueError, match=r"`near_images` must be.* Received: .* Search on"):
            rate_search.main(dataclasses.replace(settings, **wrong))


def steps(losses, measures):
    return [
        {"epoch": e, "loss_on_train": loss, "test_accuracy": 1 - loss, "jacobian": j}
        for e, (loss, j) in enumerate(zip(losses, measures, strict=True), start=1)
    ]


def test_ratio_at_equal_loss_by_hand():
    # J is 1 / loss in both networks: equal at equal loss, and not at equal epochs.
    slow = steps([0.8, 0.6, 0.4], [1 / 0.8, 1 / 0.6, 1 / 0.4])
    fast = steps([0.7, 0.3, 0.1], [1 / 0.7, 1 / 0.3, 1 / 0.1])
    assert along.ratio(slow, fast, "epoch", "jacobian") == pytest.approx(np.log(0.1 / 0.4))
    assert along.ratio(slow, fast, "loss_on_train", "jacobian") == pytest.approx(0, abs=1e-12)
    # At an accuracy of 0.6: midway between 0.3 and 0.7, a quarter before the end.
    between = np.log(1 / 0.7) + 0.75 * (np.log(1 / 0.3) - np.log(1 / 0.7))
    found = along.ratio(slow, fast, "test_accuracy", "jacobian")
    assert found == pytest.approx(np.log(1 / 0.4) - between)
    # The fast one is past that loss when it is first measured.
    assert along.ratio(slow, steps([0.2, 0.1], [1, 1]), "loss_on_train", "jacobian") is None


def test_networks_are_also_compared_each_at_its_best_rate():
    sizes = {"AM": 2, "CNN": 4, "AM, rate 0.1": 3, "CNN, rate 0.02": 1}
    trials = {
        along.named(network, epoch): {
            seed: {
                "epoch": epoch,
                "loss_on_train": 1 / epoch,
                "test_accuracy": 0.5 + epoch / 10,
                "val_accuracy": [0.5],
                **dict.fromkeys(along.MEASURES, size * factor),
            }
            for seed, factor in (("0", 1), ("1", 1.1), ("2", 1.3 if network == "AM" else 1.2))
        }
        for network, size in sizes.items()
        for epoch in (1, 2)
    }
    part = {"trials": trials}
    part.update(along.conclusions(part, classes=10))
    found = dict(along.judged("fashion_mnist, 3000 images, 2 epochs", part))
    statement = "jacobian is lower with attention at equal loss on train (log of CNN / AM)"
    fair = found[f"each at its best rate, {statement}"]
    assert fair.effect == pytest.approx(np.log(1 / 3))
    assert not verdicts.is_primary(
        "smoothness_along_training", f"each at its best rate, {statement}"
    )
    assert verdicts.is_primary("smoothness_along_training", statement)
    assert found[statement].effect == pytest.approx(np.log(2) - np.log(1.3 / 1.2) / 3)
    ours, _, at_best = found[statement].ours.partition("; ")
    assert ours.startswith("0.51 times (0.")
    assert ours.endswith(") at 0.5 to 0.5")
    assert at_best == "each at its best rate 3.00 times, exploratory"
    for other in "fashion_mnist, 2 epochs", "others, 3000 images, 2 epochs":
        assert not any(x.startswith("each") for x, _ in along.judged(other, part))
    # Another process has concluded while this network is trained.
    del trials["AM, rate 0.1 after 2"]
    assert dict(along.judged("fashion_mnist, 3000 images, 2 epochs", part)).keys() == {
        x for x in found if not x.startswith("each")
    }


def test_seeds_needed_by_simulation():
    deviation, difference = 1.0, 1.0
    n = power.seeds_needed(deviation, difference)
    rng = np.random.default_rng(0)

    def rejected(n):
        pairs = rng.normal(difference, deviation, (20000, n))
        t = pairs.mean(1) / (pairs.std(1, ddof=1) / np.sqrt(n))
        # Student's quantiles of 0.975 for 8 and 9 degrees of freedom.
        return np.mean(t > {9: 2.306, 10: 2.2622}[n])

    assert n == 10
    assert rejected(10) == pytest.approx(0.803, abs=0.01)
    assert rejected(9) < 0.79
    assert power.seeds_needed(1.0, 1.0, is_equivalence=True) > n
    assert power.seeds_needed(0.0, 1.0) == 2


@pytest.mark.slow
def test_a_file_of_arrays_is_the_same_part_of_the_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data.save_arrays(data.load("digits"), "numbers.npz")
    settings = rate_search.Settings(
        networks=("CNN",),
        dataset="numbers.npz",
        epochs=1,
        seeds=1,
        batch_size=200,
        verbose="0",
        output="results.json",
    )
    monkeypatch.setattr(rate_search, "RATES", (0.1,))
    part = rate_search.main(settings)
    assert json.loads((tmp_path / "results.json").read_text()) == {"digits, 1 epoch": part}
    trial = part["trials"]["CNN at 0.1"]["0"]
    assert trial["command"].endswith(
        "-m recipes.papers.rate_search CNN --dataset digits --seeds 1 --epochs 1 --batch-size 200"
    )
    assert part["environments"][trial["trained_in"]]["versions"]["keras"] == keras.__version__
