"""Put a finished run's TFLite file into saved_models/, with where it comes from and its score.

The score is measured here, from the file itself, on the whole test split. saved_models/README.md
is written by hand: add a row.
Data: that of the run; the same TFDS_DATA_DIR.
Command:

    python -m recipes.publish --run runs/fashion_mnist_se --name toy_cnn_se_fashion_mnist

Cost: seconds to a minute.
"""

import dataclasses
import json
import pathlib
import re
import shlex
import shutil

import numpy as np

from keras_fmm import data, export, files
from recipes.settings import setting, start


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to publish."""

    run: str = setting(..., "folder of a finished run of recipes.train")
    name: str = setting(..., "of the artefact: small letters, digits and underscores")
    replace: bool = setting(False, "put it in the place of another of this name")
    folder: str = setting("saved_models", "where artefacts and their manifest lie")
    data_dir: str | None = setting(None, "folder of prepared datasets; none: TFDS_DATA_DIR")


def main(settings):
    """Measures a run's file, copies it, lists and prints it; returns the entry, a dict."""
    run = pathlib.Path(settings.run)
    record = finished(run)
    if not re.fullmatch("[a-z0-9_]+", settings.name):
        raise ValueError(
            "`name` must be of small letters, digits and underscores. "
            f"Received: name={settings.name!r}"
        )
    target = pathlib.Path(settings.folder) / f"{settings.name}.tflite"
    if target.exists() and not settings.replace:
        raise ValueError(
            f"`name` must be new. Received: name={settings.name!r}, and {target} exists. "
            "Choose another, or give --replace."
        )
    config = record["config"]
    dataset = data.load(
        config["dataset"], config["validation_fraction"], config["seed"], settings.data_dir
    )
    size = config["image_size"] and (config["image_size"],) * 2
    images, labels = dataset.arrays("test", image_size=size)
    source = run / "export" / "model.tflite"
    classes = export.run_tflite(source, images).argmax(axis=-1)
    accuracy = round(float(np.mean(classes == labels)), 6)

    with files.replacing(target) as temporary:
        shutil.copyfile(source, temporary)
    entry = export.manifest_entry(
        name=settings.name,
        files=[target.name],
        command=command(config),
        dataset=config["dataset"],
        score={"test_accuracy": accuracy, "test_images": len(images)},
        versions=record["environment"]["versions"],
        folder=target.parent,
        date=record["end"],
    )
    export.add_to_manifest(target.parent, entry)
    print(json.dumps(entry, indent=2))
    return entry


def finished(run):
    """Returns the record of a run that is finished and was no smoke test."""
    path = run / "run.json"
    if not path.is_file():
        raise ValueError(f"`run` must be the folder of a run. Received: {run}, without run.json")
    record = json.loads(path.read_text())
    if record["status"] != "finished" or record["config"]["smoke"]:
        kind = "a smoke test" if record["config"]["smoke"] else record["status"]
        raise ValueError(
            f"`run` must be finished, and no smoke test. Received: {run}, which is {kind}. "
            "Give its command again; it goes on where it was."
        )
    return record


def command(config):
    """Returns the command that makes such a run, with every setting: defaults may change."""
    words = ["python", "-m", "recipes.train"]
    for name, value in config.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", "none" if value is None else str(value)]
    return shlex.join(words)


if __name__ == "__main__":
    start(main, Settings, __doc__)
