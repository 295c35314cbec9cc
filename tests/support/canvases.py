"""Two images with boxes, which a detector that learns can learn by heart."""

import keras

from keras_fmm import data, detection, models


def two():
    """Returns images `(2, 96, 96, 1)` from 0 to 1, and their annotations, of ten classes."""
    images, annotations = data.load_boxes("digits_on_canvas", seed=0).arrays(
        "train", (96, 96), [0, 1]
    )
    return images / 255, annotations


def backbone():
    """Returns a small ResNet of these images."""
    return models.ResNet(
        (1, 1, 1, 1),
        bottleneck=False,
        include_top=False,
        stem="imagenet",
        input_shape=(96, 96, 1),
        filters=16,
    )


def ap50(detector, images, annotations):
    """Returns the AP of boxes that overlap by a half."""
    found = detector(images)
    found = {key: keras.ops.convert_to_numpy(value) for key, value in found.items()}
    detections = [
        {key: found[key][image, :count] for key in ("boxes", "scores", "labels")}
        for image, count in enumerate(found["count"])
    ]
    return detection.average_precision(annotations, detections).ap50
