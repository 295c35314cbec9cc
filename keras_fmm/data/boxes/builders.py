"""tensorflow-datasets' detection sets by name."""

import itertools

import numpy as np

from keras_fmm.data import builders, image_source, listing, splits
from keras_fmm.data.boxes import records
from keras_fmm.data.boxes.dataset import BoxDataset, Part
from keras_fmm.data.tfrecords import check_files, damaged, reason

# What a record has before its bytes, and in all, beside them.
_BEFORE, _BESIDE = 12, 16
_FIRST = 64
_MAYBE = ("area", "is_crowd", "is_difficult")


def open_boxes(name, data_dir, validation_fraction, seed):
    """Returns the `BoxDataset` of a name of tensorflow-datasets; see `load_boxes`."""
    tfds, builder = builders.prepared(name, data_dir, _check_features, "digits_on_canvas")
    if builder.info.file_format.value != "tfrecord":
        raise ValueError(
            "A dataset with boxes must be prepared as TFRecord, which is tensorflow-datasets' own "
            f"choice. Received: {name!r} as {builder.info.file_format.value}"
        )
    features = _features(tfds, builder)
    found = records.Found(list(features["objects"].feature["label"].names))
    given = {
        split: _part(builder, features, split, name, found)
        for split in ("train", "test", "validation")
        if split in builder.info.splits and _has_boxes(builder, features, split)
    }
    if "train" not in given:
        raise ValueError(f"The train split of {name!r} must have boxes. Received: none")
    if found.faults:
        raise ValueError(
            f"The boxes of a dataset must fit its images. Received: {name!r} with "
            f"{len(found.faults)} that do not: {listing.enumerated(found.faults)}"
        )
    if "test" not in given and "validation" in given:
        given["test"] = given.pop("validation")
    for split, fraction, number in (
        ("test", splits.TEST_FRACTION, splits.TEST_SEED),
        ("validation", validation_fraction, seed),
    ):
        if split not in given:
            source, places, *rest = given["train"]
            left, taken = splits.cut(places, fraction, number)
            given["train"], given[split] = (source, left, *rest), (source, taken, *rest)
    return BoxDataset(
        name,
        features["image"].shape,
        tuple(found.class_names),
        {split: Part(*part) for split, part in given.items()},
        left_out=tuple(found.left_out),
    )


class RecordImages:
    """The images of a split, read from where their records are; see `ArraySource`.

    Args:
        builder: `tfds.core.DatasetBuilder`.
        features: `tfds.features.FeaturesDict` of what is read.
        files: list of str, by example.
        offsets: list of int, by example. Where the bytes of its record begin.
        lengths: list of int, by example. How many they are.
    """

    is_indexed = True
    dtype = "uint8"

    def __init__(self, builder, features, files, offsets, lengths):
        self.size = len(files)
        self._builder = builder
        self._features = features
        self._places = list(zip(files, offsets, lengths, strict=True))

    def resident(self):
        return self

    def begin(self, indices, image_size=None):
        """Does nothing: several threads read each chunk."""

    def chunks(self, indices, image_size=None):
        length = 32 if image_size is not None or None not in self._features["image"].shape else 1
        for start in range(0, len(indices), length):
            part = indices[start : start + length]
            images = image_source.pool().map(lambda index: self._image(index, image_size), part)
            yield np.stack(list(images)), part

    def _image(self, index, image_size):
        import tensorflow as tf

        file, offset, length = self._places[index]
        try:
            with open(file, "rb") as opened, tf.device("CPU:0"):
                opened.seek(offset)
                image = self._features.deserialize_example(opened.read(length))["image"]
                if image_size is not None:
                    image = tf.image.resize(image, image_size, antialias=True)
                return image.numpy()
        except (OSError, tf.errors.OpError) as error:
            told = reason(error) if isinstance(error, tf.errors.OpError) else error.strerror
            raise damaged(self._builder, f"image {index}, in {file}: {told}") from error


def _check_features(tfds, builder, name):
    features = dict(builder.info.features)
    image, objects = (features.get(key) for key in ("image", "objects"))
    inner = getattr(objects, "feature", None)
    of_object = dict(inner) if isinstance(inner, tfds.features.FeaturesDict) else {}
    if (
        isinstance(image, tfds.features.Image)
        and np.dtype(image.np_dtype) == "uint8"
        and image.shape[-1] is not None
        and isinstance(of_object.get("bbox"), tfds.features.BBoxFeature)
        and isinstance(of_object.get("label"), tfds.features.ClassLabel)
    ):
        return
    raise ValueError(
        "`name` must be 'digits_on_canvas' or a dataset of 8-bit images with objects that have a "
        f"bbox and a label. Received: name={name!r} with the features {features}"
    )


def _features(tfds, builder):
    """Returns the features of an image and its boxes alone."""
    inner = builder.info.features["objects"].feature
    wanted = {"bbox", "label", *(key for key in _MAYBE if key in inner)}
    spec = {"image": True, "objects": dict.fromkeys(wanted, True)}
    return tfds.decode.PartialDecoding(spec).extract_features(builder.info.features)


def _examples(builder, features, split):
    """Yields, by example, its file, the length of its record, its image's shape and its objects."""
    import tensorflow as tf

    def look(record):
        example = features.deserialize_example(record)
        return tf.strings.length(record), tf.shape(example["image"]), example["objects"]

    check_files(builder, split)
    number = 0
    for path in builder.info.splits[split].filepaths:
        dataset = tf.data.TFRecordDataset(str(path))
        dataset = dataset.map(look, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        try:
            for length, shape, objects in dataset.as_numpy_iterator():
                yield str(path), int(length), tuple(map(int, shape[:2])), objects
                number += 1
        except tf.errors.OpError as error:
            told = f"image {number} of {split}, in {path.name}: {reason(error)}"
            raise damaged(builder, told) from error


def _has_boxes(builder, features, split):
    """Says whether a split has boxes: some test splits have none."""
    first = itertools.islice(_examples(builder, features, split), _FIRST)
    return any(len(objects["bbox"]) for *_, objects in first)


def _part(builder, features, split, name, found):
    """Returns source, indices, annotations and image sizes of a split."""
    files, offsets, lengths, annotations, sizes = [], [], [], [], []
    offset, last = 0, None
    classes = len(found.class_names)
    for number, (file, length, whole, objects) in enumerate(_examples(builder, features, split)):
        offset = offset if file == last else 0
        last = file
        files.append(file)
        offsets.append(offset + _BEFORE)
        lengths.append(length)
        offset += length + _BESIDE
        labels = objects["label"].astype("int64")
        told = f"image {number} of {split}"
        for label in labels[(labels < 0) | (labels >= classes)]:
            found.faults.append(f"{told} (the label {label} is not from 0 to {classes - 1})")
        extra = {}
        if "area" in objects:
            extra["area"] = objects["area"].astype("float64")
        crowds = [objects[key] for key in ("is_crowd", "is_difficult") if key in objects]
        if crowds:
            extra["crowd"] = np.logical_or.reduce(crowds).astype(bool)
        record = records.Record(
            file,
            told,
            told,
            split,
            objects["bbox"].astype("float64")[:, [1, 0, 3, 2]],
            labels,
            [f"object {place}" for place in range(len(labels))],
            extra,
            is_relative=True,
        )
        annotations.append(records.annotation(record, whole, found))
        sizes.append(whole)
    source = RecordImages(builder, features, files, offsets, lengths)
    return source, np.arange(len(files)), annotations, np.array(sizes)
