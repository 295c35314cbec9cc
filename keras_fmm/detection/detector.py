"""A trained detector as a model of images that gives boxes."""

import keras

from keras_fmm import checks
from keras_fmm.detection.anchors import DefaultBoxes
from keras_fmm.detection.detections import Detections
from keras_fmm.detection.retinanet import Raw


def detector(model, **arguments):
    """Returns the model of images alone that gives boxes, scores, labels and their count.

    Args:
        model: what `RetinaNet`, `FasterRCNN` or `SSD300` returned, trained or loaded. The layers
            are shared.
        **arguments: of `Detections`; `data_format` is by default the model's.

    Returns:
        A functional `keras.Model` of the name "detector", from the images to what `Detections`
        gives.

    Raises:
        TypeError: `model` is no model.
        ValueError: it is none of these, or an argument is out of range.

    Example:

    >>> from keras_fmm import detection, models
    >>> resnet = models.ResNet18(include_top=False, input_shape=(64, 64, 3), stem="imagenet")
    >>> model = detection.RetinaNet(resnet, classes=10, filters=32, head_depth=1)
    >>> detector(model, max_detections=7).output["boxes"].shape
    (None, 7, 4)
    """
    checks.instance("model", model, keras.Model)
    raw = [layer for layer in model.layers if isinstance(layer, Raw)]
    if len(raw) != 1:
        raise ValueError(
            "`model` must be what `RetinaNet`, `FasterRCNN` or `SSD300` returned. "
            f"Received: the model {model.name!r}, which has no layer of the class Raw."
        )
    # The model's own, whatever Keras' setting is now.
    (data_format,) = {x.data_format for x in model.layers if isinstance(x, DefaultBoxes)}
    arguments["data_format"] = arguments.get("data_format") or data_format
    arguments = {"activation": raw[0].activation, "name": "detections", **arguments}
    images = model.inputs[0]
    return keras.Model(images, Detections(**arguments)(raw[0].output, images), name="detector")
