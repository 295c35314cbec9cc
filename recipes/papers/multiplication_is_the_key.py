"""Does attention help because it multiplies? Table I of the FMM paper, with several seeds.

Question: "Towards Understanding the Effectiveness of Attention Mechanism" trains a small network
plain (CNN), with a squeeze-and-excite gate after each convolution (AM), with the gate's ReLU left
out (AMnoRL), and with the gate added instead of multiplied (AMnoMTP), once each, and finds AM and
AMnoRL better than the other two. Are they?
Data: MNIST and CIFAR-10; images divided by 255; a tenth of train is held out for the curves.
Command:

    python -m recipes.papers.multiplication_is_the_key --dataset mnist --epochs 10
    python -m recipes.papers.multiplication_is_the_key --dataset cifar10 --epochs 20

Fixed before the first run: SGD with momentum 0.9 and batches of 400 (the paper's); a constant
learning rate of 0.05 (recipes.train's own; the paper states none), not tuned; no weight decay, no
augmentation; gates with reduction 16; the criterion is the accuracy on test after the last epoch;
AM is compared with each other row by a paired t-test over the seeds, which give weights and order.
At this rate AMnoMTP does not learn, which says nothing of addition: rate_search gives each network
its own.
The paper's schedule is 200 epochs: `--epochs 200` goes on from the same folders. Another rate
(`--learning-rate`) is measured beside this one, in a part of its own.
Cost: about 15 seconds an epoch and network on 2 cores with nothing else to do.
Measured: recipes/results/multiplication_is_the_key.json and docs/reproduction.md.
"""

import dataclasses

from recipes.lab import accuracies, comparison, trials, verdicts
from recipes.lab.sections import Section
from recipes.lab.settings import setting, shown, start
from recipes.papers.networks import ATTENTIONS, TABLE_1, builder


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """What is trained and how long."""

    output: str = setting("recipes/results/multiplication_is_the_key.json", "where results go")


def main(settings):
    """Trains what is missing, tests, prints; returns the part of the results, a dict."""
    settings, dataset, schedule = comparison.begun(settings)

    def measure(candidate, seed):
        return trials.trained(
            candidate, builder(candidate), dataset, schedule, seed, shown(settings)
        )[1]

    part = comparison.measured(settings, dataclasses.asdict(schedule), ATTENTIONS, measure)
    others = [name for name in ATTENTIONS if name != "AM"]
    conclusions = {
        **accuracies.conclusions(part, dataset.classes, TABLE_1.get(settings.dataset)),
        "tests": {f"AM minus {other}": accuracies.test(part, "AM", other) for other in others},
    }
    part = comparison.conclude(settings, conclusions)
    print(accuracies.markdown(part))
    return part


def judged(name, part):
    """Table I: AM against CNN, and against the gate that adds."""
    paper = part["paper_percent"] or {}
    for other in ("CNN", "AMnoMTP"):
        expected = paper["AM"] - paper[other] if paper else None
        test = part["tests"][f"AM minus {other}"]
        yield (
            f"AM is better than {other}",
            verdicts.higher(name, part, test, ("AM", other), expected),
        )
    test = part["tests"]["AM minus AMnoRL"]
    yield (
        "the gate's own ReLU matters little",
        "no verdict, as the paper gives no margin "
        f"(AM minus AMnoRL {test['difference']:+.2f}, p {accuracies.p_value(test)})",
    )


SECTIONS = (
    Section(
        "multiplication_is_the_key",
        "FMM, Table I",
        "attention helps because it multiplies.",
        accuracies.markdown,
        judged,
        deviations=(
            "10 and 20 epochs of 200; a constant rate of 0.05 for all, not tuned, at which "
            "AMnoMTP does not learn (rate_search tunes each); seeds instead of one run."
        ),
    ),
)


if __name__ == "__main__":
    start(main, Settings, __doc__)
