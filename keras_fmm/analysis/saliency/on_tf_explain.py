"""What is common to the measurements that tf-explain makes."""

import keras

from keras_fmm import checks


def explainer(module, name):
    """Returns a class of tf-explain, such as `explainer("grad_cam", "GradCAM")`.

    Raises:
        ImportError: tf-explain is absent; it is in the extra `explain`.
    """
    return getattr(checks.package(f"tf_explain.core.{module}", name, "explain"), name)


class ChosenLogit(keras.Operation):
    """Gives the logit of the class chosen for each image, `(n, 1)`.

    tf-explain takes one class for all images: it gets this as a model's only class, 0.

    Attributes:
        classes: int tensor `(n,)`; set it where the computation is traced.
    """

    classes = None

    def call(self, logits):
        return keras.ops.take_along_axis(logits, self.classes[:, None], axis=1)

    def compute_output_spec(self, logits):
        return keras.KerasTensor((None, 1), dtype=logits.dtype)
