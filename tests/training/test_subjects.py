"""One model of several subjects: a bank each over what they share, from data to pipeline."""

import dataclasses
import json
import weakref

import jax
import jax.numpy as jnp
import nibabel as nib
import numpy as np
import optax
import pytest
from flax import nnx
from prepared_records import write_prepared
from tiny_backbone import random_network
from tiny_step import SEED, UNET, B, N, P, TinyStep, V

from neuroadapter_jax.adapter.decoupled_attention import cross_attention_shapes
from neuroadapter_jax.adapter.neuroadapter import NeuroAdapter, NeuroAdapterConfig
from neuroadapter_jax.cortex import Parcellation, read_parcellation
from neuroadapter_jax.cortex.packing import Packing
from neuroadapter_jax.decoders.neuroadapter import pipeline_of_run
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel, UNetConfig
from neuroadapter_jax.training import validation
from neuroadapter_jax.training.metrics_log import read_metrics
from neuroadapter_jax.training.settings import Settings
from neuroadapter_jax.training.setup import TrainingSetup
from neuroadapter_jax.training.step import make_train_step
from neuroadapter_jax.training.train import load_run, train

U = 3


def by_name(params):
    return {"/".join(map(str, k)): np.array(x[...]) for k, x in nnx.to_flat_state(params)}


# ---- the step


@pytest.fixture(scope="module")
def tiny():
    """A step of one subject, and the parts of a step of three."""
    unet = random_network(lambda rngs: UNet2DConditionModel(UNetConfig(**UNET), rngs=rngs), 0)
    alone = TinyStep(unet, optax.sgd(1.0))
    widths, heads = map(tuple, cross_attention_shapes(unet))
    config = NeuroAdapterConfig(P, V, 13, widths, heads, num_subjects=U)
    joint = random_network(lambda rngs: NeuroAdapter(config, rngs=rngs), 2)
    rng = np.random.default_rng(8)
    index = np.stack([rng.permutation(N)[: P * V].reshape(P, V) for _ in range(U)])
    packing = Packing(jnp.asarray(index, jnp.int32), jnp.ones((U, P, V), bool))

    def step(adapter, packing):
        return make_train_step(
            nnx.graphdef(adapter), nnx.graphdef(unet), alone.schedule, optax.sgd(1.0), seed=SEED
        ), alone.frozen._replace(packing=packing)

    return joint, packing, step


def one_step(tiny, adapter, packing, batch):
    jitted, frozen = tiny[2](adapter, packing)
    params = jax.tree.map(jnp.copy, nnx.state(adapter, nnx.Param))
    state = {
        "params": params,
        "opt_state": optax.sgd(1.0).init(params),
        "step": jnp.zeros((), jnp.int32),
    }
    state, metrics = jitted(state, frozen, batch)
    return by_name(state["params"]), metrics


@pytest.mark.slow
def test_a_batch_of_one_subject_is_a_step_of_that_subject_alone(tiny):
    joint, packing, _ = tiny
    batch = TinyStep.batch(3)
    own = jax.tree.map(lambda x: x[1], packing)
    truth, alone = one_step(tiny, joint.of_subject(1), own, batch)
    before = by_name(nnx.state(joint, nnx.Param))
    subject = {"subject_index": np.full(B, 1, np.int32)}
    after, together = one_step(tiny, joint, packing, batch | subject)
    np.testing.assert_allclose(together["loss"], alone["loss"], rtol=1e-5)
    for name, value in truth.items():
        if name.startswith("region_projection"):
            for other in (0, 2):  # no gradient reaches the others' banks
                assert after[name][:, other].tobytes() == before[name][:, other].tobytes()
            np.testing.assert_allclose(after[name][:, 1], value, atol=1e-5)
            assert np.any(after[name][:, 1] != before[name][:, 1])
        else:
            np.testing.assert_allclose(after[name], value, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_tokens_and_gradient_of_a_mixed_batch_are_pytorchs(tiny, rng):
    torch = pytest.importorskip("torch")
    joint, subject = tiny[0], np.array([2, 0, 2, 1, 0, 0, 2], np.int32)
    packed = rng.standard_normal((len(subject), P, V)).astype(np.float32)
    upstream = rng.standard_normal((len(subject), P, 13)).astype(np.float32)
    graph, params = nnx.split(joint)

    def tokens(params):
        return nnx.merge(graph, params).tokens(jnp.asarray(packed), None, jnp.asarray(subject))

    gradient = jax.grad(lambda params: jnp.sum(tokens(params) * upstream))(params)

    w = {n: torch.tensor(x).requires_grad_() for n, x in by_name(params).items()}
    rows = []
    for b, u in enumerate(subject):
        each = [
            torch.tensor(packed[b, p]) @ w["region_projection/weights"][p, u]
            + w["region_projection/bias"][p, u]
            for p in range(P)
        ]
        x = torch.stack(each) @ w["token_norm/proj/kernel"] + w["token_norm/proj/bias"]
        norm = w["token_norm/norm/scale"], w["token_norm/norm/bias"]
        rows.append(torch.nn.functional.layer_norm(x, (13,), *norm, eps=1e-5))
    truth = torch.stack(rows)
    np.testing.assert_allclose(tokens(params), truth.detach().numpy(), atol=2e-5)
    (truth * torch.tensor(upstream)).sum().backward()
    for name, ours in by_name(gradient).items():
        if not name.startswith("attention"):
            np.testing.assert_allclose(ours, w[name].grad.numpy(), atol=2e-4, err_msg=name)


# ---- a run


LH, RH, REGIONS = 103, 101, 11
SUBJECTS = (7, 2)
IDS = {
    7: {"train": range(0, 10), "validation": [40, 41, 42], "test": [90, 91]},
    2: {"train": range(20, 26), "validation": [50], "test": [90, 91]},
}
STEPS = 5


def write_parcels(folder, order=None, sizes=7):
    """Eleven regions a hemisphere of 7 vertices, their table in any order."""
    folder.mkdir(exist_ok=True)
    order = np.arange(REGIONS) if order is None else order
    for h, n in (("lh", LH), ("rh", RH)):
        labels = np.zeros(n, int)
        for region in range(REGIONS):
            start = 3 + region * 8 + (h == "rh")
            labels[start : start + sizes] = 1 + np.flatnonzero(order == region)[0]
        table = np.zeros((REGIONS + 1, 5), int)
        table[:, 0] = 1 + 20 * np.arange(REGIONS + 1)
        names = ["unknown", *(f"{h}{region}" for region in order)]
        nib.freesurfer.write_annot(folder / f"{h}.annot", labels, table, names, fill_ctab=True)
    return str(folder / "lh.annot"), str(folder / "rh.annot")


@pytest.fixture(scope="module")
def settings(tmp_path_factory, random_backbone):
    folder = tmp_path_factory.mktemp("subjects")
    prepared = [write_prepared(folder / f"subj{s}", s, ids, (LH, RH)) for s, ids in IDS.items()]
    return Settings(
        prepared=tuple(map(str, prepared)),
        parcellation=write_parcels(folder / "label"),
        backbone=str(random_backbone),
        num_regions=6,
        banks="per_subject",
        groupwise=False,
        batch_size=4,
        num_steps=STEPS,
        learning_rate=1e-2,
        sample_steps=2,
        log_every=1,
        evaluate_every=2,
        checkpoint_every=2,
    )


@pytest.fixture(scope="module")
def run(settings, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "joint"
    grids = {}
    train(
        settings,
        workdir,
        save_grid=lambda step, images, reconstructions: grids.update(
            {step: (images, reconstructions)}
        ),
        progress=False,
    )
    return workdir, grids


def own_choice(settings, subject):
    """The best three regions of each hemisphere, by a plain loop."""
    regions = read_parcellation(*settings.parcellation)
    folder = settings.prepared[SUBJECTS.index(subject)]
    ncsnr = np.load(f"{folder}/cortex.npz")["ncsnr"]
    snr = [np.mean(ncsnr[regions.cortex_indices(i)]) for i in range(len(regions))]
    left = sorted(range(REGIONS), key=lambda i: -snr[i])[:3]
    right = sorted(range(REGIONS, 2 * REGIONS), key=lambda i: -snr[i])[:3]
    return [regions.names[i] for i in left + right]


@pytest.mark.slow
def test_what_a_run_writes(settings, run):
    workdir, grids = run
    for subject in SUBJECTS:
        chosen = Parcellation.load(workdir / f"regions-subj{subject:02d}.npz")
        assert list(chosen.names) == own_choice(settings, subject)
    lines = read_metrics(workdir / "metrics.jsonl")
    evaluations = [line for line in lines if line["kind"] == "evaluation"]
    assert [line["step"] for line in evaluations] == [2, 4, STEPS]
    for line in evaluations:
        parts = [line[f"validation/loss_subj{s:02d}"] for s in SUBJECTS]
        # Three validation images of the one, one of the other.
        assert line["validation/loss"] == pytest.approx((3 * parts[0] + parts[1]) / 4, rel=1e-5)
    images, reconstructions = grids[STEPS]
    assert images.shape == reconstructions.shape == (4, 64, 64, 3)


@pytest.mark.slow
def test_a_run_that_ended_early_goes_on_bit_for_bit(settings, run, tmp_path):
    whole, _ = run
    workdir = tmp_path / "again"

    class End(Exception):
        pass

    def end(step, images, reconstructions):
        raise End

    with pytest.raises(End):
        train(settings, workdir, save_grid=end, progress=False)
    assert read_metrics(workdir / "metrics.jsonl")[-1]["step"] == 2
    # In the meantime the parcellation's files were written again, in another order.
    write_parcels(tmp_path / "label", np.random.default_rng(1).permutation(REGIONS))
    moved = dataclasses.replace(
        settings, parcellation=tuple(str(tmp_path / "label" / f"{h}.annot") for h in ("lh", "rh"))
    )
    config = json.loads((workdir / "config.json").read_text())
    config["parcellation"] = list(moved.parcellation)
    (workdir / "config.json").write_text(json.dumps(config))
    train(moved, workdir, progress=False)
    assert (workdir / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    states = [load_run(each, last=True)[1] for each in (whole, workdir)]
    for one, other in zip(*(jax.tree.leaves(nnx.state(s)) for s in states), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.mark.slow
def test_one_subject_is_taken_out(settings, run):
    workdir, _ = run
    setup, joint, _ = load_run(workdir)
    betas = np.random.default_rng(4).standard_normal((3, LH + RH)).astype(np.float32)
    for index, subject in enumerate(SUBJECTS):
        pipeline = pipeline_of_run(workdir, subject=subject)
        assert list(pipeline.regions.names) == own_choice(settings, subject)
        assert pipeline.provenance["data"]["subject"] == subject
        assert pipeline.provenance["parcellation"]["name"] == "annot"
        packed = np.zeros((3, 6, 7), np.float32)
        for i in range(6):
            packed[:, i] = betas[:, pipeline.regions.cortex_indices(i)]
        w = by_name(nnx.state(joint, nnx.Param))
        truth = np.einsum("bpv,pvf->bpf", packed, w["region_projection/weights"][:, index])
        truth = truth + w["region_projection/bias"][:, index]
        found = pipeline.adapter.region_projection(jnp.asarray(packed))
        np.testing.assert_allclose(found, truth, atol=1e-5)
    assert pipeline(betas[:1], pipeline.sampling.replace(num_steps=2)).shape == (1, 1, 64, 64, 3)
    with pytest.raises(ValueError, match=r"a model of subjects 7, 2, .*export --run .* --subj"):
        pipeline_of_run(workdir)
    with pytest.raises(ValueError, match="trained on subjects 7, 2; 5 is not among them"):
        pipeline_of_run(workdir, subject=5)
    with pytest.raises(ValueError, match="projection banks of 2 subjects; take one out"):
        type(pipeline)(joint, setup.backbone, setup.regions[0], backbone_name="x")


@pytest.mark.slow
def test_checkpoints_refuse_another_parcellation(settings, run, tmp_path):
    """Same numbers, names and sizes; other vertices."""
    workdir, _ = run
    other = write_parcels(tmp_path / "label", np.roll(np.arange(REGIONS), 1), sizes=6)
    moved = dataclasses.replace(settings, parcellation=other)
    with pytest.raises(ValueError) as caught:
        TrainingSetup(moved, workdir=workdir)
    sentence = str(caught.value)
    assert f"The checkpoints of {workdir} do not fit" in sentence
    assert f"{other[0]} and {other[1]} (annot) is another parcellation" in sentence
    assert "lacks 6 of 6" in sentence


@pytest.mark.slow
def test_validation_never_holds_its_split_in_memory(settings, monkeypatch):
    setup = TrainingSetup(dataclasses.replace(settings, batch_size=1))
    batches, alive, seen = validation.eval_batches, [], []

    def watched(*arguments):
        for batch in batches(*arguments):
            alive.append(weakref.ref(batch["betas"]))
            seen.append(sum(each() is not None for each in alive))
            yield batch
            del batch

    evaluate = validation.make_evaluation(setup, None)
    state = setup.initial_state()
    monkeypatch.setattr(validation, "eval_batches", watched)
    streamed = evaluate(state, 2)
    # The one that comes, and the one that the loop is just done with.
    assert len(seen) == 4 and max(seen) <= 2
    monkeypatch.setattr(validation, "eval_batches", lambda *given: list(batches(*given)))
    assert evaluate(state, 2) == streamed


def test_one_bank_for_all_takes_the_groups_regions(settings):
    shared = dataclasses.replace(settings, banks="shared", groupwise=True)
    setup = TrainingSetup(shared)
    assert setup.adapter.config.num_subjects == 1
    assert setup.packing.index.shape == (6, 7)
    assert setup.regions[0] is setup.regions[1]
    with pytest.raises(ValueError, match=r"groupwise is False, .* but banks is 'shared'"):
        dataclasses.replace(settings, banks="shared")


def test_one_subjects_settings_read_as_ever(settings):
    alone = dataclasses.replace(settings, prepared=settings.prepared[1], groupwise=True)
    setup = TrainingSetup(alone)
    assert [list(r.names) for r in setup.regions] == [own_choice(settings, 2)]
    assert setup.adapter.region_projection.weights[...].shape[:2] == (6, 7)
    assert Settings.from_dict(settings.to_dict()) == settings
