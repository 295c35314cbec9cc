"""Prepared tensorflow-datasets datasets by name, with one clear error for what can go wrong."""

import difflib
import os
import pathlib
import shutil
import tempfile
import urllib.parse

import numpy as np

from keras_fmm import checks
from keras_fmm.data.tfrecords import RecordSource, damaged, reason


def open_dataset(name, data_dir):
    """Returns the sources of a dataset, which is downloaded and prepared if it was not.

    Args:
        name: str, as tensorflow-datasets has it.
        data_dir: str, `os.PathLike` or None; see `load`.

    Returns:
        train: `RecordSource`.
        test: `RecordSource`, or None where the dataset has a train split only.
        shape: tuple (height, width, channels) of an image.
        class_names: list of str.
    """
    tfds, builder = prepared(name, data_dir, _check_features)
    known = builder.info.splits
    held_out = (split for split in ("test", "validation") if split in known)
    test = next((split for split in held_out if _is_labelled(tfds, builder, split)), None)
    image, label = (builder.info.features[key] for key in builder.info.supervised_keys)
    return (
        RecordSource(builder, "train"),
        test and RecordSource(builder, test),
        image.shape,
        label.names,
    )


def prepared(name, data_dir, check, embedded="digits"):
    """Returns the module of tensorflow-datasets, and a builder whose files are there.

    Args:
        name: as of `open_dataset`.
        data_dir: as of `open_dataset`.
        check: function of that module, a builder and `name`, which raises where the features of
            the builder are not those wanted; nothing is downloaded then.
        embedded: str, what needs no download, for messages.
    """
    checks.package("tensorflow", f"The dataset {name!r}", "tensorflow")
    tfds = checks.package("tensorflow_datasets", f"The dataset {name!r}", "data")
    builder = _builder(tfds, name, data_dir, embedded)
    check(tfds, builder, name)
    if not builder.data_path.exists():
        _prepare(builder)
    known = builder.info.splits
    if not known:
        raise damaged(builder, "it has no dataset_info.json")
    if "train" not in known:
        raise ValueError(
            f"The dataset {name!r} must have a train split. Received: splits {sorted(known)}"
        )
    return tfds, builder


def _builder(tfds, name, data_dir, embedded):
    if data_dir is None:
        data_dir = os.environ.get("TFDS_DATA_DIR") or None
    if data_dir is not None:
        data_dir = os.path.abspath(os.path.expanduser(data_dir))
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        known = [embedded, *tfds.list_builders()]
        close = difflib.get_close_matches(name.partition("/")[0].partition(":")[0], known)
        near = f"near to it: {', '.join(close)}; " if close else ""
        raise ValueError(
            f"`name` must be {embedded!r}, which is embedded, or a dataset of tensorflow-datasets. "
            f"Received: name={name!r} ({near}{len(known)} are known: tfds.list_builders())"
        ) from error
    except Exception as error:
        if type(error) in (AssertionError, ValueError):
            raise ValueError(
                "`name` must be that of a dataset, of one of its configurations 'name/config', or "
                f"of a version 'name:1.0.0'. Received: name={name!r} ({error})"
            ) from error
        # tensorflow-datasets fails here only over the files of a dataset that was prepared.
        folder = pathlib.Path(data_dir or tfds.core.constants.DATA_DIR) / name.partition(":")[0]
        raise OSError(
            f"The dataset {name!r} in {folder} is damaged: its dataset_info.json cannot be read. "
            "Delete that folder and load the dataset again, which prepares it anew."
        ) from error


def _check_features(tfds, builder, name):
    features, keys = builder.info.features, builder.info.supervised_keys or ()
    if len(keys) == 2 and all(isinstance(key, str) for key in keys):
        image, label = features[keys[0]], features[keys[1]]
        if (
            isinstance(image, tfds.features.Image)
            and np.dtype(image.np_dtype) == "uint8"
            and image.shape[-1] is not None
            and isinstance(label, tfds.features.ClassLabel)
        ):
            return
    raise ValueError(
        f"`name` must be a dataset of 8-bit images with one class each. Received: name={name!r} "
        f"with the supervised keys {keys or None} among the features {dict(features)}"
    )


def _is_labelled(tfds, builder, split):
    """Says whether a split has labels: some test splits hide theirs as -1."""
    import tensorflow as tf

    image, label = builder.info.supervised_keys
    decoders = {image: tfds.decode.SkipDecoding()}
    try:
        first = builder.as_dataset(split=f"{split}[:1]", decoders=decoders)
        return all(record[label] >= 0 for record in first.as_numpy_iterator())
    except tf.errors.OpError as error:
        raise damaged(builder, reason(error)) from error


def _prepare(builder):
    import requests

    folder = pathlib.Path(builder.data_dir_root, builder.name)
    is_new = not os.path.lexists(folder)
    _check_writable(builder)
    try:
        _check_online(builder)
        builder.download_and_prepare()
    # Each dataset's own code reads what it has downloaded, and raises what it likes.
    except Exception as error:
        if is_new:
            _tidy(folder)
        is_network = isinstance(error, requests.RequestException)
        cure = "Connect to the network" if is_network else "See that the folder has room"
        raise (ConnectionError if is_network else OSError)(
            f"The dataset {builder.name!r} is not in {builder.data_dir}, and preparing it there "
            f"failed ({type(error).__name__}: {error}). {cure}, or set "
            "TFDS_DATA_DIR or `data_dir` to a folder that holds the prepared dataset."
        ) from error


def _check_writable(builder):
    """Fails before any download where nothing can be written."""
    folder = pathlib.Path(builder.data_dir_root)
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise OSError(
            f"The dataset {builder.name!r} is not in {builder.data_dir}, and preparing it there "
            f"failed: {there} cannot be written ({error}). Set TFDS_DATA_DIR or `data_dir` to a "
            "folder that can, or that holds the prepared dataset."
        ) from error


def _check_online(builder):
    """Fails at once where no host of the downloads answers: tfds itself tries for minutes."""
    import requests

    downloads = pathlib.Path(builder.data_dir_root, "downloads")
    if any((*downloads.glob("*.INFO"), *downloads.glob(f"{builder.name}/*.INFO"))):
        return  # Files were downloaded before; they may be all that is needed.
    hosts = {urllib.parse.urlsplit(url)[:2]: url for url in builder.url_infos or ()}
    failure = None
    for url in hosts.values():
        if not url.startswith("http"):
            return
        try:
            requests.head(url, timeout=10)
            return
        except (requests.ConnectionError, requests.Timeout) as error:
            failure = error
    if failure is not None:
        raise failure


def _tidy(folder):
    """Removes a folder that a preparation made and left nothing in, but its own notes."""
    held = (path for path in folder.rglob("*") if path.parent.name != ".config")
    if not any(path.is_file() for path in held):
        shutil.rmtree(folder, ignore_errors=True)
