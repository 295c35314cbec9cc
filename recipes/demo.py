"""The package in a minute: two small networks trained, compared, and the better one exported.

Question: none; with one run each, the table says nothing of which is better in general.
Data: `digits`, embedded: 1,797 scanned digits of 8x8.
Command:

    make demo

It writes under saved_models/demo/: curves.png, model.keras, saved_model and model.tflite of the
network that is better on validation, the two runs, and demo.json, which lists these files. What an
earlier demo wrote there is removed; a folder that holds anything else is refused.
Cost: under a minute on 2 cores.
"""

import dataclasses
import hashlib
import json
import pathlib
import statistics

from keras_fmm import export, files, plots
from recipes import train
from recipes.lab.settings import setting, start

WRITER, WRITTEN = "recipes.demo", "demo.json"
NETWORKS = {"plain": None, "squeeze_excite": "squeeze_excite"}
RESULTS = ("curves.png", "model.keras", "saved_model", "model.tflite")
# What float32 arithmetic in another order may change.
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Settings:
    """Where it goes."""

    folder: str = setting("saved_models/demo", "where to write; new, or of an earlier demo")
    smoke: bool = setting(False, "one epoch of ten steps each, to see that all of it runs")


def main(settings):
    """Trains both, prints the table, exports the better one; raises where the exports differ."""
    folder = pathlib.Path(settings.folder)
    remove_earlier(folder)
    try:
        demonstrate(settings, folder)
    finally:
        if folder.is_dir():
            content = {"written_by": WRITER, "files": digests(folder)}
            with files.replacing(folder / WRITTEN) as temporary:
                temporary.write_text(json.dumps(content, indent=1) + "\n")


def remove_earlier(folder):
    """Removes what an earlier demo wrote, file for file; raises where there is anything else."""
    if not folder.is_dir():
        return
    try:
        content = json.loads((folder / WRITTEN).read_text())
        known = dict(content["files"]) if content["written_by"] == WRITER else {}
        known[WRITTEN] = digest(folder / WRITTEN)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        known = {}
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))}
    other = [name for name, path in found.items() if known.get(name) != digest(path)]
    if other:
        raise ValueError(
            "`folder` must be new, empty or as an earlier demo left it. "
            f"Received: folder={str(folder)!r}, which holds {', '.join(other[:3])}. "
            "Choose another folder, or move these away."
        )
    for path in reversed(found.values()):  # what is in a folder before it
        path.rmdir() if path.is_dir() else path.unlink()


def digests(folder):
    """Returns the `digest` of what a demo makes in a folder, by its path in there, a dict."""
    found = [path for top in (*NETWORKS, *RESULTS) for path in folder.glob(f"{top}/**/*")]
    found += [folder / top for top in (*NETWORKS, *RESULTS) if (folder / top).exists()]
    return {path.relative_to(folder).as_posix(): digest(path) for path in found}


def digest(path):
    """Returns what tells a file from another of its name, a str; of what is no file, its kind."""
    if path.is_symlink() or not (path.is_dir() or path.is_file()):
        return "a link or another thing"
    return "a folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()


def demonstrate(settings, folder):
    results, given = {}, {}
    for name, attention in NETWORKS.items():
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
