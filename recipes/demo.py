"""The package in a minute: two small networks trained, compared, and the better one exported.

Question: none; with one run each, the table says nothing of which is better in general.
Data: `digits`, embedded: 1,797 scanned digits of 8x8.
Command:

    make demo

It writes under saved_models/demo/: curves.png, model.keras, saved_model and model.tflite of the
network that is better on validation, and the two runs. What was there before is removed.
Cost: under a minute on 2 cores.
"""

import pathlib
import shutil
import statistics
import sys

from keras_fmm import plots
from recipes import train

FOLDER = pathlib.Path("saved_models/demo")
# What float32 arithmetic in another order may change.
TOLERANCE = 1e-4


def main(folder=FOLDER, smoke=False):
    """Trains both, prints the table, exports the better; returns whether the exports agree."""
    shutil.rmtree(folder, ignore_errors=True)
    results = {}
    for attention in (None, "squeeze_excite"):
        name = attention or "plain"
        print(f"Training ToyCNN on digits, {name}", flush=True)
        settings = train.Settings(attention=attention, workdir=str(folder / name), smoke=smoke)
        results[name] = train.train(settings)
    print_table(results)

    histories = {name: run.record["history"] for name, (run, *_) in results.items()}
    curves = plots.save_figure(plots.training_curves(histories), folder / "curves.png")
    print(f"\nThe course of training is drawn in {curves}.")
    # The first of the two where both are as good: the plain one is cheaper.
    better = max(histories, key=lambda name: max(histories[name]["val_accuracy"]))
    _, model, test, _ = results[better]
    report = train.export_all(model, test, folder)
    print(f"The better on validation, {better}, is exported to {folder}.\n\n{report}\n")
    agree = all(row.max_difference < TOLERANCE and row.same_class == 1 for row in report)
    print("The exported files agree with Keras." if agree else "The exported files DISAGREE.")
    return agree


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
    sys.exit(not main())
