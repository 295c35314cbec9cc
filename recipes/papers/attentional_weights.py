"""Is it worth attending to weights? AW-convolution against and with gates, on CIFAR-10.

Question: "An Attention Module for Convolutional Neural Networks" finds that AW-convolution raises
the accuracy of networks at hardly any cost, with and without squeeze-and-excite gates. Do a small
plain network and a small ResNet show it?
Data: CIFAR-10; images divided by 255; a tenth of train is held out for the curves.
Command:

    python -m recipes.papers.attentional_weights --network toy_cnn --epochs 5
    python -m recipes.papers.attentional_weights --network resnet --epochs 2

`toy_cnn` is ToyCNN; `resnet` is ResNet of basic blocks, (1, 1, 1, 1) of 16 to 128 filters, with
the small stem, 0.3 million parameters. Fixed before the first run: SGD with momentum 0.9 and
batches of 400 (128 for the ResNet), a constant learning rate of 0.05, no weight decay, no
augmentation, so that all differences are the layers'; criterion and paired tests as in
multiplication_is_the_key. The paper trains large networks for 200 epochs with augmentation: its
figures are not ours to compare.
Cost: 15 to 60 seconds an epoch and network on 2 cores with nothing else to do.
Measured: recipes/results/attentional_weights.json and docs/reproduction.md.
"""

import dataclasses

from keras_fmm import analysis, models
from recipes.lab import accuracies, comparison, trials, verdicts
from recipes.lab.sections import Section
from recipes.lab.settings import setting, shown, start

# What each candidate's attention and convolution are.
CANDIDATES = {
    "plain": (None, None),
    "AW": (None, "aw"),
    "SE": ("squeeze_excite", None),
    "AW-SE": ("squeeze_excite", "aw"),
}
BATCH_SIZES = {"toy_cnn": 400, "resnet": 128}


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """What is trained and how long."""

    dataset: str = setting("cifar10", "`digits`, or a name of tensorflow-datasets")
    epochs: int = setting(5, "passes over train", minimum=1)
    network: str = setting("toy_cnn", "which network", choices=tuple(BATCH_SIZES))
    output: str = setting("recipes/results/attentional_weights.json", "where results go")


def main(settings):
    """Trains what is missing, tests, prints; returns the part of the results, a dict."""
    network = settings.network
    settings, dataset, schedule = comparison.begun(settings, BATCH_SIZES[network])

    def measure(candidate, seed):
        name = f"{candidate} {network}"
        model, found = trials.trained(
            name, builder(network, candidate), dataset, schedule, seed, shown(settings)
        )
        costs = {"parameters": model.count_params(), "multiply_adds": analysis.flops(model)}
        return {**found, **costs}

    part = comparison.measured(settings, dataclasses.asdict(schedule), CANDIDATES, measure, network)
    conclusions = {
        **accuracies.conclusions(part, dataset.classes),
        "tests": {
            f"{name} minus {other}": accuracies.test(part, name, other)
            for name, other in (("AW", "plain"), ("SE", "plain"), ("AW-SE", "SE"))
        },
    }
    part = comparison.conclude(settings, conclusions, network)
    print(accuracies.markdown(part))
    print(accuracies.costs(part))
    return part


def builder(network, candidate):
    """Returns the function that builds a candidate's network."""
    attention, convolution = CANDIDATES[candidate]

    def build(**arguments):
        chosen = {"attention": attention, "convolution": convolution, **arguments}
        if network == "toy_cnn":
            return models.ToyCNN(**chosen)
        return models.ResNet((1, 1, 1, 1), bottleneck=False, filters=16, stem="small", **chosen)

    return build


def table(part):
    """Returns the tables of accuracies and of costs."""
    return accuracies.markdown(part) + "\n\n" + accuracies.costs(part)


def judged(name, part):
    """The AW paper: attending to weights, without and with gates."""
    for ours, other in (("AW", "plain"), ("AW-SE", "SE")):
        test = part["tests"][f"{ours} minus {other}"]
        yield f"{ours} is better than {other}", verdicts.higher(name, part, test, (ours, other))


SECTIONS = (
    Section(
        "attentional_weights",
        "AW",
        "attending to weights raises the accuracy at hardly any cost.",
        table,
        judged,
        flags=lambda name, part: {"network": name.split(", ")[1]},
        deviations=(
            "2 to 5 epochs, where the paper trains ImageNet and CIFAR for 100 and more; a "
            "small CNN and a small ResNet."
        ),
    ),
)


if __name__ == "__main__":
    start(main, Settings, __doc__)
