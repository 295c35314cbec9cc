"""The package in a minute: two small networks trained, compared, and the better one exported.

Question: none; with one run each, the table says nothing of which is better in general.
Data: `digits`, embedded: 1,797 scanned digits of 8x8.
Command:

    make demo

It writes under saved_models/demo/: curves.png, model.keras, saved_model and model.tflite of the
network that is better on validation, and the two runs. What was there before is removed.
Cost: under a minute on 2 cores.
"""

import dataclasses
import pathlib
import shutil
import statistics

from keras_fmm import export, plots
from recipes import train
from recipes.lab.settings import setting, start

# What float32 arithmetic in another order may change.
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Settings:
    """Where it goes."""

    folder: str = setting("saved_models/demo", "where to write; what is there is removed")
    smoke: bool = setting(False, "one epoch of ten steps each, to see that all of it runs")


def main(settings):
    """Trains both, prints the table, exports the better one; raises where the exports differ."""
    folder = pathlib.Path(settings.folder)
    shutil.rmtree(folder, ignore_errors=True)
    results, given = {}, {}
    for attention in (None, "squeeze_excite"):
        name = attention or "plain"
        print(f"Training ToyCNN on digits, {name}", flush=True)
        workdir = str(folder / name)
        given[name] = train.Settings(attention=attention, workdir=workdir, smoke=settings.smoke)
        results[name] = train.train(given[name])
        run, *_, metrics = results[name]
        run.finish(metrics)
    print_table(results)

    histories = {name: run.record["history"] for name, (run, *_) in results.items()}
    curves = plots.save_figure(plots.training_curves(histories), folder / "curves.png")
    print(f"\nThe course of training is drawn in {curves}.")
    better = better_on_validation(histories)
    _, model, dataset, _ = results[better]
    report = train.export_all(model, dataset, given[better], folder)
    print(f"The better on validation, {better}, is exported to {folder}.\n\n{report}\n")
    print(f"In model.tflite:\n{export.inspect(folder / 'model.tflite')}\n")
    check_agreement(report)
    print("The exported files agree with Keras.")


def better_on_validation(histories):
    """Returns the name of the best epoch's network; of two as good, the first: it is cheaper."""
    return max(histories, key=lambda name: max(histories[name]["val_accuracy"]))


def check_agreement(report):
    for row in report:
        if not (row.max_difference < TOLERANCE and row.same_class == 1):
            raise RuntimeError(
                f"The exported files must say what Keras says. Received: {row}. Please report it."
            )


def print_table(results):
    print(f"\n{'model':<16}{'parameters':>12}{'multiply-adds':>15}{'test':>9}{'s / epoch':>11}")
    for name, (run, _, _, metrics) in results.items():
        # The median: the first epoch compiles.
        seconds = statistics.median(run.record["seconds_per_epoch"])
        print(
            f"{name:<16}{metrics['parameters']:>12,}{metrics['multiply_adds']:>15,}"
            f"{metrics['test_accuracy']:>9.2%}{seconds:>11.3f}"
        )


if __name__ == "__main__":
    start(main, Settings, __doc__)
