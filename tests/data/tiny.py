"""Small tensorflow-datasets builders, prepared by tensorflow-datasets itself without a network."""

import itertools

import numpy as np
import tensorflow_datasets as tfds


class _Tiny(tfds.core.GeneratorBasedBuilder):
    """Image i is filled with the value i; its class is i % 3."""

    VERSION = tfds.core.Version("1.0.0")
    SHAPE = (4, 5, 1)
    SPLITS = {"train": 40, "test": 7}  # noqa: RUF012

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=self.SHAPE),
                    "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
                    "id": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(n) for split, n in self.SPLITS.items()}

    def _generate_examples(self, number):
        for i in range(number):
            height, width, channels = self.SHAPE
            shape = (height or 4 + i % 3, width or 6, channels)
            yield i, {"image": np.full(shape, i, "uint8"), "label": i % 3, "id": str(i)}


class FmmTiny(_Tiny):
    """Train and test."""


class FmmTinyValid(_Tiny):
    """Train and validation, as imagenette has."""

    SPLITS = {"train": 12, "validation": 5}  # noqa: RUF012


class FmmTinyTrain(_Tiny):
    """Train only."""

    SPLITS = {"train": 20}  # noqa: RUF012


class FmmTinyEval(_Tiny):
    """Test only."""

    SPLITS = {"test": 5}  # noqa: RUF012


class FmmTinyHidden(_Tiny):
    """The labels of the test split are hidden, as imagenet2012's are."""

    SPLITS = {"train": 12, "validation": 5, "test": 6}  # noqa: RUF012

    def _generate_examples(self, number):
        for i, example in super()._generate_examples(number):
            yield i, {**example, "label": -1 if number == 6 else example["label"]}


class FmmTinyRagged(_Tiny):
    """Images of three heights."""

    SHAPE = (None, None, 3)
    SPLITS = {"train": 12, "test": 5}  # noqa: RUF012


class FmmTinyText(tfds.core.GeneratorBasedBuilder):
    """No image."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"text": "no image"}


class FmmTinyRemote(_Tiny):
    """Its files are to be downloaded from a port of this machine where nobody listens."""

    URL = "http://127.0.0.1:9/tiny.zip"
    url_infos = {URL: None}  # noqa: RUF012

    def _split_generators(self, dl_manager):
        dl_manager.download(self.URL)
        return super()._split_generators(dl_manager)


class FmmTinyBroken(_Tiny):
    """Preparing it fails halfway."""

    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="one")]  # noqa: RUF012

    def _generate_examples(self, number):
        yield from itertools.islice(super()._generate_examples(number), 3)
        raise RuntimeError("the disk is on fire")


class FmmTinyBoxes(tfds.core.GeneratorBasedBuilder):
    """Image i is filled with i, is 8 + i % 3 high and has i % 3 boxes; those of test are hidden."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        objects = {
            "bbox": tfds.features.BBoxFeature(),
            "label": tfds.features.ClassLabel(names=["a", "b"]),
            "area": np.int64,
            "is_crowd": np.bool_,
        }
        features = {
            "image": tfds.features.Image(encoding_format="png"),
            "objects": tfds.features.Sequence(objects),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        sizes = {"train": 40, "validation": 7, "test": 5}
        return {split: self._generate_examples(n) for split, n in sizes.items()}

    def _generate_examples(self, number):
        for i in range(number):
            objects = [
                {
                    "bbox": tfds.features.BBox(
                        ymin=0.0, xmin=0.25, ymax=0.5, xmax=0.25 * (place + 2)
                    ),
                    "label": place,
                    "area": i,
                    "is_crowd": place == 1,
                }
                for place in range(0 if number == 5 else i % 3)
            ]
            yield i, {"image": np.full((8 + i % 3, 12, 3), i, "uint8"), "objects": objects}
