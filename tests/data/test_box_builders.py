import numpy as np
import pytest

from keras_fmm import data
from tests.data import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("tfds")
    tiny.FmmTinyBoxes(data_dir=found).download_and_prepare()
    return found


@pytest.mark.slow_on_tensorflow
def test_boxes_of_a_name(folder):
    dataset = data.load_boxes("fmm_tiny_boxes", data_dir=folder)
    assert dataset.class_names == ("a", "b")
    assert dataset.input_shape == (None, None, 3)
    # Test has no boxes, so that validation takes its place.
    assert dataset.sizes == {"train": 34, "validation": 6, "test": 7}
    for split in dataset.sizes:
        images, annotations = dataset.arrays(split, (20, 24))
        for image, own, found, size in zip(
            images,
            dataset.annotations(split),
            annotations,
            dataset.image_sizes(split),
            strict=True,
        ):
            number = round(float(image[0, 0, 0]))
            assert np.abs(image - number).max() < 1e-3
            assert size.tolist() == [8 + number % 3, 12]
            boxes = [[3, 0, 3 * (place + 2), size[0] / 2] for place in range(number % 3)]
            np.testing.assert_allclose(own["boxes"].reshape(-1), np.ravel(boxes), rtol=1e-6)
            scaled = [[6, 0, 6 * (place + 2), 10] for place in range(number % 3)]
            np.testing.assert_allclose(found["boxes"].reshape(-1), np.ravel(scaled), rtol=1e-6)
            assert own["labels"].tolist() == list(range(number % 3))
            assert own["area"].tolist() == [number] * (number % 3)
            assert own["crowd"].tolist() == [False, True][: number % 3]
    order = data.load_boxes("fmm_tiny_boxes", data_dir=folder).batches("train", 34, (8, 12), seed=1)
    numbers = sorted(round(float(image[0, 0, 0])) for image in order[0][0])
    assert numbers == sorted(round(float(x[0, 0, 0])) for x in dataset.arrays("train", (8, 12))[0])
    assert order[0][1].shape == (34, 1, 5)


def test_names_that_are_none(folder, prepared):
    with pytest.raises(ValueError, match=r"must be 'digits_on_canvas' or a dataset of 8-bit"):
        data.load_boxes("fmm_tiny", data_dir=prepared)
    with pytest.raises(ValueError, match="'digits_on_canvas', which is embedded"):
        data.load_boxes("digits_on_canvass", data_dir=folder)
