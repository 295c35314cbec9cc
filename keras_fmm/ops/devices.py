"""What the backend computes on."""

import keras


def on_accelerator():
    """Says whether Keras puts tensors on a GPU or TPU, as far as it is known when traced."""
    if keras.backend.backend() == "torch":
        # `keras.distribution` knows no devices of it. "meta" is where shapes are inferred.
        return keras.ops.zeros(()).device.type not in ("cpu", "meta")
    return not keras.distribution.list_devices()[0].startswith("cpu")
