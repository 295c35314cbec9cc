"""Backbones for keras-hub's detectors. It imports keras-hub, and nothing else here imports it."""

import keras

from keras_fmm import checks
from keras_fmm.detection.feature_pyramid import levels_of, maps_of

keras_hub = checks.package("keras_hub", "A backbone for keras-hub", "hub")


@keras.saving.register_keras_serializable("keras_fmm")
class HubBackbone(keras_hub.models.FeaturePyramidBackbone):
    """A model whose maps keras-hub's detectors find by their levels: "P3" is that of stride 8.

    For `keras_hub.models.RetinaNetBackbone(image_encoder=HubBackbone(model), ...)`. The layers are
    those of `model`.

    Args:
        model: functional `keras.Model` of one image, such as a backbone of this package.
        levels: list of str or None, default None (each stage). As `names` of
            `models.feature_model`; each map half as large as the one before.
        **kwargs: the arguments of `keras_hub.models.Backbone`.

    Raises:
        ImportError: keras-hub cannot be imported.
        TypeError, ValueError: as `models.feature_model` and `detection.RetinaNet` of levels.
    """

    def __init__(self, model, levels=None, **kwargs):
        features = maps_of(model, levels, "model")
        numbers = levels_of(features.inputs[0], features.outputs)
        maps = {f"P{n}": x for n, x in zip(numbers, features.outputs, strict=True)}
        super().__init__(inputs=features.inputs[0], outputs=maps, **kwargs)
        self.pyramid_outputs = maps
        self.model, self.levels = model, levels

    def get_config(self):
        model = keras.saving.serialize_keras_object(self.model)
        return {**super().get_config(), "model": model, "levels": self.levels}

    @classmethod
    def from_config(cls, config):
        model = keras.saving.deserialize_keras_object(config["model"])
        return super().from_config({**config, "model": model})
