import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.training.checkpoints import CheckpointStore
from neuroadapter_jax.training.optimizers import make_optimizer, make_schedule


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    step: jax.Array
    params: nnx.State
    optimizer: object
    key: jax.Array
    ema: nnx.State | None = None


def make_state(width=3, seed=0):
    params = nnx.state(nnx.Linear(5, width, rngs=nnx.Rngs(seed)), nnx.Param)
    optimizer = make_optimizer(make_schedule(0.1, 10))
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    key = jax.random.key_data(jax.random.key(seed))
    return State(jnp.int32(0), params, optimizer.init(params), key, half)


@pytest.fixture
def store(tmp_path):
    store = CheckpointStore(tmp_path)
    yield store
    store.close()


@pytest.mark.parametrize("data_state", [b"\x00\xff{", {"k": 3, "nested": {"a": [1, None]}}, None])
def test_everything_comes_back_bit_for_bit(store, data_state):
    state = make_state(seed=1)
    store.save(7, state, data_state)
    store.wait()
    step, restored, data = store.restore(make_state(seed=2))
    assert (step, data) == (7, data_state)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for got, want in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        assert got.dtype == want.dtype and got.weak_type == want.weak_type
        np.testing.assert_array_equal(got, want)


def test_a_donated_state_is_saved_as_it_was(store):
    state = {"w": jnp.arange(1_000_003, dtype=jnp.float32)}
    advance = jax.jit(lambda s: {"w": s["w"] + 1}, donate_argnums=0)
    state = advance(state)
    store.save(1, state)
    for _ in range(5):
        state = advance(state)
    store.wait()
    np.testing.assert_array_equal(store.restore(state)[1]["w"], np.arange(1_000_003) + 1)


def test_last_two_and_best_are_kept(store):
    for step, value in [(2, 0.5), (3, 0.2), (5, 0.7), (7, 0.4)]:
        state = {"step": jnp.int32(step)}
        store.save(step, state)
        if store.best_value() is None or value < store.best_value():
            store.save_best(step, state, value)
    store.wait()
    assert sorted(p.name for p in (store.root).iterdir()) == ["5", "7", "best"]
    assert [p.name for p in (store.root / "best").iterdir()] == ["3"]
    assert (store.latest_step(), store.best_step(), store.best_value()) == (7, 3, 0.2)
    assert store.restore_best({"step": jnp.int32(0)})[1]["step"] == 3
    assert store.restore({"step": jnp.int32(0)}, 5)[1]["step"] == 5


def test_incomplete_folders_are_ignored(tmp_path):
    like = {"w": jnp.ones(3)}
    store = CheckpointStore(tmp_path)
    for step in (4, 5):
        store.save(step, like)
    store.close()
    # A process killed while it wrote step 6, and one killed while it deleted step 4.
    root = tmp_path / "checkpoints"
    shutil.copytree(root / "5", root / "6.orbax-checkpoint-tmp")
    shutil.rmtree(root / "6.orbax-checkpoint-tmp" / "progress")
    shutil.rmtree(root / "4" / "state")
    (root / "4" / "_CHECKPOINT_METADATA").unlink()

    store = CheckpointStore(tmp_path)
    assert store.restore(like)[0] == 5
    store.save(6, like)
    store.close()
    assert sorted(p.name for p in root.iterdir()) == ["5", "6", "best"]


def test_another_shape_dtype_or_leaf_is_refused_by_name(store):
    store.save(1, make_state())
    store.wait()
    with pytest.raises(ValueError, match=r"ema/bias/value: found bfloat16\[3\], expected .*\[2\]"):
        store.restore(make_state(width=2))
    with pytest.raises(ValueError, match=r"ema/bias/value: found bfloat16\[3\], expected nothing"):
        store.restore(dataclasses.replace(make_state(), ema=None))
    changed = dataclasses.replace(make_state(), step=jnp.float32(0))
    with pytest.raises(ValueError, match=r"leaf step: found int32\[\], expected float32\[\]"):
        store.restore(changed)


def test_a_missing_checkpoint_is_named(store):
    with pytest.raises(FileNotFoundError, match="no complete checkpoint"):
        store.restore({"w": jnp.ones(3)})
    store.save(1, {"w": jnp.ones(3)})
    store.wait()
    with pytest.raises(FileNotFoundError, match="of step 2"):
        store.restore({"w": jnp.ones(3)}, 2)
    with pytest.raises(FileNotFoundError, match="best"):
        store.restore_best({"w": jnp.ones(3)})


def test_a_damaged_checkpoint_names_the_older_one_that_is_whole(store):
    for step in (3, 5):
        store.save(step, {"w": jnp.arange(7.0) + step})
    store.wait()
    for path in (store.root / "5").rglob("*"):
        if path.is_file() and "_METADATA" not in path.name:
            path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match=r"checkpoints/5: .*damaged.*of step 3 .* is whole"):
        store.restore({"w": jnp.zeros(7)})
    shutil.rmtree(store.root / "5")
    assert store.restore({"w": jnp.zeros(7)}, 3)[1]["w"].tolist() == [3, 4, 5, 6, 7, 8, 9]


def test_a_damaged_best_checkpoint_names_the_last_one_that_is_whole(store, capfd):
    state = {name: jnp.arange(7.0) for name in "abcde"}
    store.save(4, state)
    store.save_best(3, state, 0.5)
    store.wait()
    for path in (store.root / "best" / "3").rglob("d/*"):
        path.write_bytes(b"")
    like = {name: jnp.zeros(7) for name in "abcde"}
    with pytest.raises(
        InputError, match=r"best/3: .*of step 4 in .*checkpoints is whole"
    ) as caught:
        store.restore_best(like)
    assert "\n" not in str(caught.value) and "Error" not in str(caught.value)
    for path in (store.root / "4").rglob("d/*"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match="no other one is whole, so start again"):
        store.restore_best(like)
