import keras
import numpy as np
import pytest

from keras_fmm.training import backup
from tests.training import small


def is_dict(state):
    return isinstance(state, dict)


def trained(optimizer="adam", units=4, seed=None):
    model = small.make_model(optimizer, units, seed=seed)
    model.fit(small.X, small.Y, verbose=0)
    return model


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "bfloat16"])
def test_everything_comes_back(tmp_path, policy):
    keras.config.set_dtype_policy(policy)
    # PyTorch draws what has no seed from its own generator, which is `Run`'s to put back.
    model = trained(seed=0)
    backup.save(tmp_path / "backup.npz", model, {"epochs": 2})
    other = small.make_model(seed=0)
    assert not other.optimizer.built
    assert backup.load(tmp_path / "backup.npz", other, is_dict) == {"epochs": 2}
    small.assert_same_state(model, other)
    # One more step draws the same dropout mask and moves the same moments.
    for each in (model, other):
        each.fit(small.X, small.Y, shuffle=False, verbose=0)
    small.assert_same_state(model, other)


@pytest.mark.parametrize(
    ("make", "first"),
    [
        (lambda: trained(units=5), r"dense/kernel', \(4, 4\), 'float32'\) in the backup"),
        (lambda: trained("sgd"), "variables for the"),
        (lambda: small.make_model(keras.optimizers.RMSprop()), "in the model"),
    ],
    ids=["shape", "fewer variables", "another optimizer"],
)
def test_another_model_is_refused_and_unchanged(tmp_path, make, first):
    backup.save(tmp_path / "backup.npz", trained(), {})
    other = make()
    other.optimizer.build(other.trainable_variables)
    before = small.state(other)
    with pytest.raises(ValueError, match=f"backup of this model.*{first}"):
        backup.load(tmp_path / "backup.npz", other, is_dict)
    for was, now in zip(before, small.state(other), strict=True):
        np.testing.assert_array_equal(was, now)


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b"not a zip"])
def test_a_damaged_file_is_refused(tmp_path, damage):
    path = tmp_path / "backup.npz"
    backup.save(path, trained(), {})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"must be a backup of a run.*Delete the run's folder"):
        backup.load(path, small.make_model(), is_dict)


def test_an_archive_that_unpacks_to_more_than_the_model_is_refused(tmp_path):
    model, path = small.make_model(), tmp_path / "backup.npz"
    np.savez_compressed(path, content=np.zeros(2**27, "uint8"))
    with pytest.raises(ValueError, match="bytes that unpack to"):
        backup.load(path, model, is_dict)
