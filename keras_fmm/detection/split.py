"""A detector in two: what may be stored in eight bits, and what needs floats."""

import keras
import numpy as np

from keras_fmm.detection.detections import Detections
from keras_fmm.detection.retinanet import Raw


def split(detector):
    """Returns a detector as two models: the network, and what makes boxes of what it gives.

    For int8: pixels and scores of one tensor would share 256 steps, and the converter cannot look
    into the suppression's loop. Write the network by `export.to_tflite` with
    `quantization="int8"`, and run what follows in floats, as a Keras model or another file.

    Args:
        detector: functional `keras.Model` of images of a known size that ends in one `Detections`
            of what `RetinaNet` or `SSD300` gives.

    Returns:
        A functional `keras.Model` from images to a dict of "deltas", `(batch, anchors, 4)`, and
        "logits", `(batch, anchors, classes)`; and one from this dict to what `detector` gives.
        Weights are shared with it.

    Raises:
        TypeError: `detector` is no functional model.
        ValueError: it does not end so, or takes images of any size.

    Example:

    >>> from keras_fmm import detection, models
    >>> resnet = models.ResNet18(include_top=False, input_shape=(64, 64, 3), stem="imagenet")
    >>> model = detection.RetinaNet(resnet, classes=10, filters=32, head_depth=1)
    >>> found = detection.Detections()(model.output, model.input)
    >>> detector = keras.Model(model.input, found)
    >>> network, ending = detection.split(detector)
    >>> sorted(network.output), sorted(ending.output)
    (['deltas', 'logits'], ['boxes', 'count', 'labels', 'scores'])
    """
    if not isinstance(detector, keras.Model) or not isinstance(
        getattr(detector, "input", None), keras.KerasTensor
    ):
        raise TypeError(
            f"`detector` must be a functional keras.Model of one input. Received: {detector!r}"
        )
    raws, ends = (
        [layer for layer in detector.layers if isinstance(layer, kind)]
        for kind in (Raw, Detections)
    )
    # The boxes of a second stage are no constants.
    if len(raws) != 1 or len(ends) != 1 or len(raws[0].input[0].shape) != 2:
        raise ValueError(
            "`detector` must be a RetinaNet or an SSD that ends in `Detections`. "
            f"Received: detector={detector!r}"
        )
    images = detector.input
    if None in images.shape[1:]:
        raise ValueError(
            "`detector` must take images of a known size. "
            f"Received: detector={detector!r} for images of shape {images.shape}"
        )
    anchors, deltas, logits = raws[0].input
    network = keras.Model(images, {"deltas": deltas, "logits": logits}, name="network")
    blank = np.zeros((1, *images.shape[1:]), "float32")
    anchors = keras.ops.convert_to_numpy(keras.Model(images, anchors)(blank))
    given = {name: keras.Input(x.shape[1:], name=name) for name, x in network.output.items()}
    raw = Raw.from_config(raws[0].get_config())([anchors, given["deltas"], given["logits"]])
    end = Detections.from_config(ends[0].get_config())
    return network, keras.Model(given, end(raw, blank), name="ending")
