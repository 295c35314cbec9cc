"""Where Keras has no strategy, as on PyTorch."""

import keras
import pytest

from keras_fmm import training

pytestmark = pytest.mark.skipif(keras.backend.backend() != "torch", reason="for `make test-torch`")


@pytest.mark.parametrize("kind", ["auto", "default"])
def test_one_replica(kind):
    strategy = training.strategy(kind)
    with strategy.scope():
        assert training.replicas() == training.replicas(strategy) == 1
    assert training.batch_plan(strategy, 6, 0.1).per_replica_batch_size == 6


@pytest.mark.parametrize("several", [{"kind": "mirrored"}, {"model_devices": 2}])
def test_several_devices_are_refused(several):
    with pytest.raises(RuntimeError, match="Several devices need .* Received: .* on the torch"):
        training.strategy(**several)
