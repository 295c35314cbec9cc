"""Put a finished run's TFLite file into saved_models/, with where it comes from and its score.

The score is measured here, from the file itself, on the whole test split.
Data: that of the run; the same TFDS_DATA_DIR.
Command:

    python -m recipes.publish --run runs/fashion_mnist_se --name toy_cnn_se_fashion_mnist

Cost: seconds to a minute.
"""

import dataclasses
import json
import pathlib
import shlex

import numpy as np

from keras_fmm import data, export
from recipes import train
from recipes.settings import parse, setting


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to publish."""

    run: str = setting("runs/train", "folder of a run of recipes.train")
    name: str = setting("toy_cnn", "of the artefact")
    folder: str = setting("saved_models", "where artefacts and their manifest lie")
    data_dir: str | None = setting(None, "folder of prepared datasets; none: TFDS_DATA_DIR")


def main(settings):
    """Copies the file, measures it and adds it to the manifest; returns the entry, a dict."""
    run = pathlib.Path(settings.run)
    record = json.loads((run / "run.json").read_text())
    if record["status"] != "finished":
        raise ValueError(
            f"`run` must be finished. Received: {run}, which is {record['status']}. "
            "Give its command again; it goes on where it was."
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

    folder = pathlib.Path(settings.folder)
    target = folder / f"{settings.name}.tflite"
    folder.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())
    entry = export.manifest_entry(
        name=settings.name,
        files=[target.name],
        command=command(config),
        dataset=config["dataset"],
        score={"test_accuracy": accuracy, "test_images": len(images)},
        folder=folder,
        date=record["end"],
        versions=record["environment"]["versions"],
    )
    export.add_to_manifest(folder, entry)
    return entry


def command(config):
    """Returns the command that makes such a run: the settings that are not the defaults."""
    words = ["python", "-m", "recipes.train"]
    for field in dataclasses.fields(train.Settings):
        value = config.get(field.name, field.default)
        flag = field.name.replace("_", "-")
        if value == field.default:
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", "none" if value is None else str(value)]
    return shlex.join(words)


if __name__ == "__main__":
    published = main(parse(Settings, __doc__))
    print(json.dumps(published, indent=2))
