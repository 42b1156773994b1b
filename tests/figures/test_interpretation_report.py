"""The page of both views: what is in it, and that it works in a browser."""

import base64
import hashlib
import html.parser
import io
import json
import re
import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest
import xarray
from PIL import Image
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.cortex.shown_surface import ShownSurface
from neuroadapter_jax.figures.interpretation_report import write_interpretation_report

# Would end the script element, keep it from ending, and run, were it not text.
MARKUP = "</title></script><!--<script><img src=x onerror=alert(1)>\u2028 & 'Face'"
S, T, P, R, K, SIDE, PIXELS = 2, 5, 7, 3, 2, 4, 16
BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)


@pytest.fixture
def regions():
    sets = tuple(np.arange(100 * i, 100 * i + 60, dtype=np.int32) for i in range(P))
    return Parcellation(
        tuple(f"r{i}" for i in range(P)), ("lh",) * 4 + ("rh",) * 3, sets, (10_242, 10_242)
    )


@pytest.fixture
def views(rng):
    brain = rng.random((S, T, P)).astype(np.float32)
    brain[0, 1, 3] = brain[:, 1, 5] = 0  # of an image, and of all
    brain /= brain.sum(-1, keepdims=True)
    maps = rng.random((S, T, R, SIDE, SIDE)).astype(np.float32)
    maps[:, :, 2] = np.nan
    weights = np.zeros((R, P), np.float32)
    weights[0, :2], weights[1, 4:] = 0.5, 1 / 3

    def images(*shape):
        return rng.integers(0, 256, (*shape, PIXELS, PIXELS, 3), np.uint8)

    pixels = ("row", "column", "channel")
    return xarray.Dataset(
        {
            "stimulus": (("sample", *pixels), images(S)),
            "image": (("sample", *pixels), images(S)),
            "noisy": (("sample", "shown", *pixels), images(S, K)),
            "predicted_clean": (("sample", "shown", *pixels), images(S, K)),
            "brain_view": (("sample", "step", "region"), brain),
            "image_view": (("sample", "step", "roi", "y", "x"), maps),
            "roi_weight": (("roi", "region"), weights),
        },
        {
            "sample": [31, 37],
            "timestep": ("step", [801, 601, 401, 201, 1]),
            "shown": [1, 4],
            "region": [f"lh r{i}" for i in range(P)],
            "roi": ["V1", MARKUP, "none"],
        },
        {
            "reduction": "attention",
            "layer_weighting": "queries",
            "sampling": json.dumps({"sampler": "ddim", "guidance_scale": 2.5}),
        },
    )


@pytest.fixture
def page(views, regions, tmp_path):
    path = tmp_path / "report.html"
    write_interpretation_report(path, views, regions, title="Made up.")
    return path


def test_the_page_needs_nothing_else(page):
    assert not re.search(r"(src|href)=.?https?:", page.read_text(encoding="utf-8"))
    data = read_data(page)
    assert data["lead"].startswith("Made up. 2 images, 5 steps of ddim, guidance 2.5")
    assert data["rois"][1] == MARKUP and data["shown"] == [1, 4]


def read_data(page):
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'type="application/json">(.*)</script>\n<script>', text)[1])


def test_regions_of_a_finer_surface_are_shown_at_the_vertices_of_fsaverage5(
    page, views, regions, rng, tmp_path
):
    beyond = rng.permutation(np.arange(10_242, 163_842))[: 30 * P].reshape(P, 30)
    vertices = tuple(
        np.concatenate([own, np.sort(more)]).astype(np.int32)
        for own, more in zip(regions.vertices, beyond, strict=True)
    )
    fine = Parcellation(regions.names, regions.hemispheres, vertices, (163_842, 163_842))
    write_interpretation_report(tmp_path / "fine.html", views, fine, title="Made up.")
    found, expected = read_data(tmp_path / "fine.html"), read_data(page)
    assert "on fsaverage, 163842 vertices per hemisphere; shown are" in found.pop("notes")
    assert "vertices per hemisphere" not in expected.pop("notes")
    assert found == expected


def test_names_stay_text_and_nothing_else_may_run(page):
    text = page.read_text(encoding="utf-8")
    assert "<!--" not in text and "<img src=x" not in text and "\\u003cimg src=x" in text
    assert text.count("<script") == text.count("</script>") == 2
    assert "innerHTML" not in text and "\u2028" not in text

    class Reader(html.parser.HTMLParser):
        tags, policy, scripts = [], "", []

        def handle_starttag(self, tag, attributes):
            self.tags.append(tag)
            if dict(attributes).get("http-equiv") == "Content-Security-Policy":
                self.policy = dict(attributes)["content"]

        def handle_data(self, data):
            if self.lasttag == "script":
                self.scripts.append(data)

    reader = Reader()
    reader.feed(text)
    assert reader.tags.count("script") == 2 and reader.tags.count("img") == 3  # the template's own
    (program,) = [script for script in reader.scripts if script.startswith('\n"use strict";')]
    digest = base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()
    rules = dict(rule.split(" ", 1) for rule in reader.policy.split("; "))
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": "'unsafe-inline'",
        "script-src": f"'sha256-{digest}'",
    }


def test_views_of_version_0_1_0_make_the_same_page(page, views, regions, tmp_path):
    old = views.rename({"roi": "area", "roi_weight": "area_weight"})
    old.attrs |= json.loads(old.attrs.pop("sampling"))
    write_interpretation_report(tmp_path / "old.html", old, regions, title="Made up.")
    assert (tmp_path / "old.html").read_text() == page.read_text()


def test_other_regions_are_refused(views, regions, tmp_path):
    with pytest.raises(ValueError, match="views are of 7 regions, but 6 were given"):
        write_interpretation_report(tmp_path / "x.html", views, regions.subset(range(6)))
    left, right = own_meshes(tmp_path)
    surface = ShownSurface.from_files((left, right))
    with pytest.raises(ValueError, match=r"have 13 and 17 vertices, the regions 10242 and 10242; "):
        write_interpretation_report(tmp_path / "x.html", views, regions, surface=surface)
    assert not (tmp_path / "x.html").exists()


def own_meshes(folder):
    """Meshes of a subject's own: hulls of 13 and 17 points, in both formats."""
    rng = np.random.default_rng(3)
    points = [
        p / np.linalg.norm(p, axis=1)[:, None] for p in map(rng.standard_normal, ((13, 3), (17, 3)))
    ]
    left, right = (ConvexHull(p).simplices.astype(np.int32) for p in points)
    nib.freesurfer.write_geometry(folder / "lh.inflated", points[0], left)
    arrays = [
        nib.gifti.GiftiDataArray(points[1].astype(np.float32), intent="NIFTI_INTENT_POINTSET"),
        nib.gifti.GiftiDataArray(right, intent="NIFTI_INTENT_TRIANGLE"),
    ]
    nib.save(nib.GiftiImage(darrays=arrays), folder / "rh.inflated.surf.gii")
    return folder / "lh.inflated", folder / "rh.inflated.surf.gii"


def own_regions():
    """As many regions as the views have, on a surface of 13 and 17 vertices."""
    sets = tuple(np.array([2 * i, 2 * i + 1], np.int32) for i in (0, 1, 2, 3, 4, 5, 6))
    return Parcellation(tuple("abcdefg"), ("lh",) * 4 + ("rh",) * 3, sets, (13, 17))


def decoded(text, kind):
    return np.frombuffer(base64.b64decode(text), kind)


def test_a_surface_of_files_is_shown_on_its_own_meshes(views, tmp_path):
    surface = ShownSurface.from_files(own_meshes(tmp_path))
    write_interpretation_report(tmp_path / "own.html", views, own_regions(), surface=surface)
    data = read_data(tmp_path / "own.html")
    assert "vertices" not in data["notes"]
    left, right = (decoded(side["region"], "<i2") for side in data["mesh"])
    assert left.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, -1, -1, -1, -1, -1]
    assert right.tolist() == [-1] * 8 + [4, 4, 5, 5, 6, 6, -1, -1, -1]
    points, _ = nib.freesurfer.read_geometry(tmp_path / "lh.inflated")
    shown = decoded(data["mesh"][0]["points"], "<f4").reshape(-1, 3)
    np.testing.assert_allclose(
        pdist(shown) / pdist(shown).max(), pdist(points) / pdist(points).max(), atol=1e-5
    )
    assert data["mesh"][0]["flat"] is None


@pytest.mark.parametrize("kind", ["voxels", "no meshes"])
def test_regions_that_no_mesh_shows_get_a_page_without_a_cortex(kind, views, tmp_path):
    regions = own_regions()
    if kind == "voxels":
        regions = Parcellation(regions.names, ("both",) * P, regions.vertices, (29, 0))
    write_interpretation_report(tmp_path / "page.html", views, regions)
    data = read_data(tmp_path / "page.html")
    said = "sets of voxels" if kind == "voxels" else "a surface of 13 and 17 vertices"
    assert data["mesh"] == [] and said in data["notes"] and data["shown"] == [1, 4]


def test_large_pictures_become_smaller_ones(views, regions, rng, tmp_path):
    pictures = ("stimulus", "image", "noisy", "predicted_clean")
    fine = views.drop_vars([*pictures, "image_view"])
    for name in pictures:
        large = np.repeat(np.repeat(views[name].values, 17, axis=-3), 17, axis=-2)
        fine[name] = (views[name].dims, large)
    maps = rng.random((S, T, R, 64, 64)).astype(np.float32)
    fine["image_view"] = (views["image_view"].dims, maps)
    write_interpretation_report(tmp_path / "large.html", fine, regions)
    data = read_data(tmp_path / "large.html")
    assert "Pictures of 272 pixels are shown at 256, as JPEG." in data["notes"]
    picture = data["samples"][1]["noisy"][0].removeprefix("data:image/jpeg;base64,")
    with Image.open(io.BytesIO(base64.b64decode(picture))) as found:
        assert found.size == (256, 256)
        small = np.asarray(found.resize((PIXELS, PIXELS), Image.Resampling.BOX), float)
    # Colours of noise, which JPEG stores at half the resolution.
    assert (
        np.corrcoef(small.mean(-1).ravel(), views["noisy"].values[1, 0].mean(-1).ravel())[0, 1]
        > 0.9
    )
    found = decoded(data["image_view"], np.uint8).reshape(S, K, R, 32, 32)
    blocks = maps[:, [1, 4]].reshape(S, K, R, 32, 2, 32, 2).mean((4, 6))
    expected = np.round(255 * blocks / blocks.max(axis=(-2, -1), keepdims=True))
    assert np.abs(found - expected).max() <= 1


def in_browser(page, program, tmp_path):
    """What a program that is added to a page leaves in its element "found", as JSON."""
    probe = tmp_path / "probe.html"
    text = page.read_text(encoding="utf-8")
    # The page's policy allows its own script alone; it is to hold, so the probe is named in it.
    code = program[len("<script>") : program.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    text = text.replace("script-src ", f"script-src 'sha256-{digest}' ")
    probe.write_text(text.replace("</html>", program))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    done = subprocess.run(
        [
            BROWSER,
            *flags,
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=20000",
            "--dump-dom",
            probe.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    assert "data-error" not in done
    return json.loads(re.search(r'<pre id="found">(.*?)</pre>', done, re.S)[1])


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_the_page_answers_in_a_browser(page, views, tmp_path):
    program = """<script>
window.onerror = message => { document.body.dataset.error = message; };
window.onload = () => setTimeout(() => {
  const found = {}, state = () => [$("cortex").toDataURL(), $("overlay").toDataURL()];
  const note = (name, act) => { act(); return new Promise(done => setTimeout(() => {
    found[name] = { cortex: state()[0], overlay: state()[1], noisy: $("noisy").src,
      step: $("step-name").textContent, shares: $("rois").innerText,
      pressed: [...$("rois").children].map(b => b.getAttribute("aria-pressed")),
      largest: $("largest").innerText, pointed: $("pointed").textContent,
      hidden: $("pointed").hidden,
      scale: $("scale-start").textContent + " " + $("scale-end").textContent,
      sights: [...$("sights").children].map(b => b.getAttribute("aria-pressed")) };
    done(); }, 150)); };
  (async () => {
    await note("start", () => {});
    await note("step", () => { $("step").value = 0; $("step").oninput({target: $("step")}); });
    await note("roi", () => $("rois").children[1].click());
    await note("sample", () => $("samples").children[1].click());
    await note("turned", () => { turn += 1; drawCortex(); });
    const choose = name => {
      $("measure").value = name; $("measure").dispatchEvent(new Event("change")); };
    for (const name of ["uniform", "mean"]) await note(name, () => choose(name));
    await note("common", () => $("common").click());
    for (const [i, name] of ["lateral", "medial", "ventral", "flat"].entries())
      await note(name, () => $("sights").children[i].click());
    const at = hit.findIndex(p => p >= 0), box = $("cortex").getBoundingClientRect();
    const where = { bubbles: true, clientX: box.left + (at % 720) * box.width / 720 + .5,
      clientY: box.top + Math.floor(at / 720) * box.height / 360 + .5 };
    await note("pointed", () => $("cortex").dispatchEvent(new PointerEvent("pointermove", where)));
    await note("played", () => $("play").click());
    await new Promise(done => setTimeout(done, 700));
    await note("later", () => $("play").click());
    document.body.innerHTML = "<pre id=found></pre>";
    document.getElementById("found").textContent = JSON.stringify(found);
  })();
}, 100);
</script></html>"""
    found = in_browser(page, program, tmp_path)
    brain = views["brain_view"].values
    assert found["start"]["step"] == "5 of 5 (timestep 1)"
    assert found["step"]["step"] == "2 of 5 (timestep 601)"
    for before, after in (("start", "step"), ("step", "roi"), ("roi", "sample")):
        assert found[before]["overlay"] != found[after]["overlay"], after
    for before, after in (("start", "step"), ("step", "roi"), ("sample", "turned")):
        assert found[before]["cortex"] != found[after]["cortex"], after
    for before, after in (("turned", "mean"), ("mean", "common"), ("common", "lateral")):
        assert found[before]["cortex"] != found[after]["cortex"], after
    sights = ("lateral", "medial", "ventral", "flat")
    assert len({found[name]["cortex"] for name in sights}) == len(sights)
    for i, name in enumerate(sights):
        assert found[name]["sights"] == ["true" if k == i else "false" for k in range(4)]
    order = np.argsort(-brain[1, 1])
    lines = found["common"]["largest"].split("\n")  # one name has a line separator
    assert [line.split(" (")[0] for line in lines] == [f"lh r{i}" for i in order]
    assert lines[0].endswith(f"{100 * brain[1, 1].max():.2f} %")
    uniform = P * brain[1, 1]
    assert found["uniform"]["scale"].startswith(f"{uniform.min():.2f} × {uniform.max():.2f} ×")
    ratio = np.delete(brain[1, 1], 5) / np.delete(brain.mean(0)[1], 5)
    high = max(ratio.max(), 1 / ratio.min())
    assert found["mean"]["scale"].startswith(f"{1 / high:.2f} × {high:.2f} ×")
    assert found["later"]["step"] != found["played"]["step"]
    assert found["start"]["hidden"] and not found["pointed"]["hidden"]
    assert re.match(r"lh r\d · .* · [\d.]+ % of the attention", found["pointed"]["pointed"])
    assert found["roi"]["pressed"] == ["false", "true", "false"]
    expected = [f"{100 * brain[1, 1, part].sum():.1f} %" for part in (slice(2), slice(4, 7))]
    for share in expected:
        assert share in found["sample"]["shares"]
    assert found["roi"]["noisy"] == found["step"]["noisy"] != found["sample"]["noisy"]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_page_without_a_cortex_lists_every_region_in_a_browser(views, tmp_path):
    write_interpretation_report(tmp_path / "page.html", views.drop_vars("stimulus"), own_regions())
    program = """<script>
window.onerror = message => { document.body.dataset.error = message; };
window.onload = () => setTimeout(() => {
  window.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft" }));
  const found = { largest: $("largest").innerText, step: $("step-name").textContent,
    hidden: [$("on-cortex").offsetHeight, $("stimulus").parentElement.offsetHeight],
    curves: $("curves").querySelectorAll("path").length };
  document.body.innerHTML = "<pre id=found></pre>";
  document.getElementById("found").textContent = JSON.stringify(found);
}, 100);
</script></html>"""
    found = in_browser(tmp_path / "page.html", program, tmp_path)
    assert found["hidden"] == [0, 0] and found["curves"] == 2
    assert found["step"] == "2 of 5 (timestep 601)"
    order = np.argsort(-views["brain_view"].values[0, 1])
    lines = found["largest"].split("\n")
    assert [line.split(" (")[0] for line in lines] == [f"lh r{i}" for i in order]
