"""Numbers of a training in TensorBoard and in Weights & Biases, read where these keep them."""

import io
import json
import math
import struct
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.training.metrics_log import MetricsLog, read_metrics
from neuroadapter_jax.training.trackers import require_trackers, validation_picture

PICTURE = np.random.default_rng(3).integers(0, 256, (5, 7, 3), np.uint8)


def train(workdir, first, last, log_to, evaluated=()):
    """What a training writes from a step to another."""
    log = MetricsLog(workdir, first, log_to, {"learning_rate": 0.5})
    for step in range(first + 1, last + 1):
        log.write(step, "train", {"loss": 1 / step})
        if step in evaluated:
            path = validation_picture(workdir, step)
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(PICTURE).save(path)
            log.write(step, "evaluation", {"validation/loss": 2 / step, "validation/x": math.nan})
    log.close()


def events_of(workdir):
    """Every event of the files in order: TFRecords, each a length, a checksum, data, a checksum."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    for path in sorted((workdir / "tensorboard").glob("events*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            yield event_pb2.Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]


def test_tensorboard_has_every_number_and_the_pictures_of_validation(tmp_path):
    pytest.importorskip("tensorboardX")
    train(tmp_path, 0, 5, ["tensorboard", "tensorboard"], evaluated=[3])
    train(tmp_path, 3, 4, ["tensorboard"])  # killed after step 5, continued from step 3
    found, restarts, images = {}, [], []
    for event in events_of(tmp_path):
        if event.HasField("session_log"):
            restarts.append(event.step)
        for value in event.summary.value:
            if value.HasField("image"):
                images.append((event.step, value.tag, value.image.encoded_image_string))
            else:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    steps, losses = zip(*found["loss"], strict=True)
    assert steps == (1, 2, 3, 4, 5, 4)
    np.testing.assert_allclose(losses, [1 / step for step in steps], rtol=1e-6)
    assert found["validation/loss"] == [(3, pytest.approx(2 / 3))]
    assert "validation/x" not in found and len(found["steps_per_second"]) == 6
    # What TensorBoard hides from step 4 on is what was written before the second START.
    assert restarts == [1, 4]
    ((step, tag, encoded),) = images
    assert (step, tag) == (3, "validation/images")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encoded))), PICTURE)


@pytest.fixture
def wandb(monkeypatch):
    """Weights & Biases with its own signatures, and without a connection."""
    module = pytest.importorskip("wandb")
    run = mock.create_autospec(module.Run, instance=True)
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_PROJECT", "WANDB_NAME", "WANDB_RUN_GROUP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "init", mock.create_autospec(module.init, return_value=run))
    return module, run


def test_weights_and_biases_continues_the_same_run(tmp_path, wandb):
    module, run = wandb
    workdir = tmp_path / "study" / "run"
    workdir.mkdir(parents=True)
    train(workdir, 0, 2, ["wandb"], evaluated=[2])
    train(workdir, 2, 3, ["wandb"])
    first, second = (call.kwargs for call in module.init.call_args_list)
    assert first["id"] == second["id"] == json.loads((workdir / "wandb.json").read_text())["id"]
    assert first["resume"] == "allow" and first["config"] == {"learning_rate": 0.5}
    assert (first["project"], first["group"], first["name"]) == ("neuroadapter-jax", "study", "run")
    assert mock.call("*", step_metric="step") in run.define_metric.call_args_list
    logged = [call.args[0] for call in run.log.call_args_list]
    losses = [(x["step"], x["loss"]) for x in logged if "loss" in x]
    assert losses == [(1, 1.0), (2, 1 / 2), (3, 1 / 3)]
    assert [x["step"] for x in logged if "validation/images" in x] == [2]
    assert {"step": 2, "validation/loss": 1.0} in logged
    assert run.finish.call_count == 2


def test_metrics_are_the_same_with_and_without_trackers(tmp_path, wandb):
    for name, log_to in (("with", ["wandb"]), ("without", [])):
        (tmp_path / name).mkdir()
        train(tmp_path / name, 0, 3, log_to, evaluated=[2])
    with_it, without = (tmp_path / name / "metrics.jsonl" for name in ("with", "without"))
    assert with_it.read_bytes() == without.read_bytes()
    assert [line["step"] for line in read_metrics(without)] == [1, 2, 2, 3]


def test_who_is_not_logged_in_is_told_so(monkeypatch, wandb):
    module, _ = wandb
    require_trackers(["wandb"])  # offline
    monkeypatch.delenv("WANDB_MODE")
    login = mock.create_autospec(module.login, return_value=False)
    monkeypatch.setattr(module, "login", login)
    with pytest.raises(InputError, match=r"nobody is logged in.*wandb login.*WANDB_MODE=offline"):
        require_trackers(["tensorboard", "wandb"])
    login.assert_called_once_with(prompt=False)
    login.side_effect = module.errors.AuthenticationError("bad key.")
    with pytest.raises(InputError, match=r"refused \(bad key\)"):
        require_trackers(["wandb"])
    login.side_effect, login.return_value = None, True
    require_trackers(["wandb"])


def test_a_run_that_cannot_begin_is_one_sentence(tmp_path, wandb):
    module, _ = wandb
    module.init.side_effect = module.errors.CommError("no route\nto host")
    with pytest.raises(InputError, match=r"did not begin a run \(no route to host\)"):
        MetricsLog(tmp_path, 0, ["wandb"])
