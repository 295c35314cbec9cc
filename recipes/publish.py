"""Put a finished run's best model into saved_models/, as a TFLite file with its score.

The file is made anew, quantized on request, and the score is measured from the file itself, on the
whole test split. saved_models/README.md is written by hand: add a row.
Data: that of the run; the same TFDS_DATA_DIR. A run on a folder or a CSV of images does not record
where it lies: give its `--dataset` again.
Command:

    python -m recipes.publish --run runs/fashion_mnist_se --name toy_cnn_se_fashion_mnist

Cost: seconds to a minute.
"""

import dataclasses
import json
import os
import pathlib
import re
import shlex
import shutil

from keras_fmm import data, files, training
from recipes import export_model, train
from recipes.lab import artefacts, datasets, names
from recipes.lab.settings import flags, setting, start

# What the record of a run on people's own images holds beside its settings.
OF_IMAGES = ("class_names", "files")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to publish."""

    run: str = setting(..., "folder of a finished run of recipes.train")
    name: str = setting(..., "of the artefact: small letters, digits and underscores")
    quantization: str | None = setting(None, "how numbers are stored", choices=names.QUANTIZATIONS)
    replace: bool = setting(False, "put it in the place of another of this name")
    folder: str = setting("saved_models", "where artefacts and their manifest lie")
    data_dir: str | None = setting(None, "folder of prepared datasets; none: TFDS_DATA_DIR")
    dataset: str | None = setting(None, "the folder or CSV of a run on images: ./NAME")
    skip_unreadable: bool = datasets.skip_unreadable()


def main(settings):
    """Exports a run's best model, measures, lists and prints it; returns the entry, a dict."""
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
    check_images(run, config, settings)
    source, found = export_model.main(
        export_model.Settings(
            checkpoint=str(run / "best.keras"),
            quantization=settings.quantization,
            dataset=settings.dataset or config["dataset"],
            data_dir=settings.data_dir,
            aspect_ratio=config.get("aspect_ratio", "stretch"),
            skip_unreadable=settings.skip_unreadable,
            output=str(run / "export" / target.name),
        )
    )
    with files.replacing(target) as temporary:
        shutil.copyfile(source, temporary)
    entry = artefacts.manifest_entry(
        name=settings.name,
        files=[target.name],
        command=command(config, run.name, settings),
        dataset=", ".join(filter(None, [config["dataset"], config.get("files")])),
        score={
            "test_accuracy": round(found["accuracy"], 6),
            "test_accuracy_of_keras": round(found["accuracy_of_keras"], 6),
            "test_images": found["images"],
        },
        versions=training.environment()["versions"],
        folder=target.parent,
    )
    artefacts.add_to_manifest(target.parent, entry)
    print(json.dumps(entry, indent=2))
    return entry


def finished(run):
    """Returns the record of a run that is finished and was no smoke test."""
    path = run / "run.json"
    if not path.is_file():
        raise ValueError(f"`run` must be the folder of a run. Received: {run}, without run.json")
    try:
        record = json.loads(path.read_text())
        status, config = record["status"], dict(record["config"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(
            f"`run` must be the folder of a run. Received: {run}, whose run.json cannot be read as "
            f"a record ({type(error).__name__}). Give another, or train again."
        ) from error
    if status != "finished" or config.get("smoke"):
        kind = "a smoke test" if config.get("smoke") else status
        raise ValueError(
            f"`run` must be finished, and no smoke test. Received: {run}, which is {kind}. "
            "Give its command again; it goes on where it was."
        )
    known = {field.name: field.default for field in dataclasses.fields(train.Settings)}
    named = set(config) - set(OF_IMAGES)
    if not set(known) - {*train.NOT_IDENTITY, *train.LATER} <= named <= set(known):
        raise ValueError(
            "`run` must be a run of recipes.train. "
            f"Received: {run}, whose settings are {sorted(config)}"
        )
    # Every setting is named: defaults may change.
    later = {name: known[name] for name in train.LATER if name in known}
    return {**record, "config": {**later, **config}}


def check_images(run, config, settings):
    """Raises unless `settings.dataset` holds the images that the run was trained on, if on any."""
    if "files" not in config:
        if settings.dataset is not None:
            raise ValueError(
                "`dataset` is of runs on a folder or a CSV of images. Received: "
                f"dataset={settings.dataset!r} for {run}, on {config['dataset']!r}. Leave it out."
            )
        return
    if settings.dataset is None or not data.is_path(settings.dataset):
        raise ValueError(
            "`dataset` must be the folder or CSV that the run was trained on, as a path. Received: "
            f"dataset={settings.dataset!r} for {run}, on {config['dataset']!r}. "
            f"Give e.g. --dataset ./{config['dataset']}"
        )
    size, mode = config["image_size"], config["color_mode"]
    there = data.load(
        settings.dataset,
        image_size=size and tuple(size),
        color_mode=mode,
        skip_unreadable=settings.skip_unreadable,
    ).identity
    if there["files"] != config["files"]:
        raise ValueError(
            "`dataset` must hold the images of the run, unchanged. Received: "
            f"dataset={settings.dataset!r} of {there['files']}, for {run} on {config['files']} "
            "(their number, and a checksum). Train again on what is there."
        )


def command(config, folder, settings):
    """Returns the commands that make such an artefact, every setting named: defaults may change."""
    given = {"run": f"runs/{folder}", "name": settings.name, "quantization": settings.quantization}
    trained = {**config, "workdir": given["run"]}
    if settings.dataset is not None:
        # Where it lies is no one's business.
        name = pathlib.Path(os.path.abspath(os.path.expanduser(settings.dataset))).name
        images = {"dataset": f"./{name}", "skip_unreadable": settings.skip_unreadable}
        given.update(images)
        size = config["image_size"]
        trained.update(images, image_size=size and size[0])
        trained = {key: value for key, value in trained.items() if key not in OF_IMAGES}
    words = ["python", "-m", "recipes.train", *flags(trained)]
    published = ["python", "-m", "recipes.publish", *flags(given)]
    return f"{shlex.join(words)} && {shlex.join(published)}"


if __name__ == "__main__":
    start(main, Settings, __doc__)
