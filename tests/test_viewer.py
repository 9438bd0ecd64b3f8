"""Widgets: alive without a kernel by what they carry, and answered by the library where there is one."""

import io
import json
import shutil
import subprocess
import time

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image as Picture
from small_radiomics import draw_counts, draw_slices, small_model, small_store

from drlib.cohort.brats import PatientVolume
from drlib.profiles import load_profile
from drlib.radiomics.ablation import change_maps, encode_tumours, region_values, tumour_labels
from drlib.radiomics.atlas import Atlas
from drlib.radiomics.classifier import fit_classifier, predict_hgg
from drlib.radiomics.grading import grading_metrics
from drlib.radiomics.histogram import codebook_hash, codeword_histogram, encode_patient
from drlib.viewer import (
    ablation_panel,
    codeword_explorer,
    grading_panel,
    perturbation_panel,
    quantizer,
    quantizer_widget,
    sheets,
    slice_browser,
    slices,
)
from drlib.viewer.panel import LEFT_OUT, STATE, STATIC, VIEW, Panel, leave_panels_out, read_script
from drlib.viewer.perturbation import PerturbedPatient, prepared_changes

NODE = shutil.which("node")
with_node = pytest.mark.skipif(NODE is None, reason="needs node to run a widget's script outside a browser (apt install nodejs)")


def run_script(script: str, given: dict, lines: str, folder) -> dict:
    """Return what ``lines`` of JavaScript compute from ``given``, with the exports of a widget's script as ``widget``."""
    module = folder / "widget.mjs"
    module.write_text(f"globalThis.window = {{}};\n{read_script(script)}")
    program = f'const widget = await import("{module.as_uri()}"); const given = {json.dumps(given)};\n{lines}'
    done = subprocess.run([NODE, "--input-type=module", "-e", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def pixels(sheet: dict, number: int, mode: str = "RGBA") -> np.ndarray:
    """Return picture ``number`` of a sheet."""
    whole = np.asarray(Picture.open(io.BytesIO(sheet["picture"])).convert(mode)).astype(int)
    row, column = divmod(number, sheet["columns"])
    h, w = sheet["height"], sheet["width"]
    return whole[row * h : (row + 1) * h, column * w : (column + 1) * w]


# The quantizer


def trained_bench(start: str, codewords: int, steps: int) -> tuple[list[np.ndarray], list[list[int]]]:
    """Return the library's codebook after each step, and which latents revived codewords in it."""
    bench, codebooks, drawn = quantizer.make_bench(codewords, start=start), [], []
    for _ in range(steps):
        alive = bench.quantizer.codebook_in_use.clone()
        bench.step()
        codebooks.append(bench.codebook)
        candidates = [int(k) for k in (~alive & bench.quantizer.codebook_in_use).nonzero().flatten()]
        distance = np.abs(bench.latents.astype(np.float32)[None] - bench.codebook[candidates][:, None]).sum(axis=2)
        drawn.append([int(row.argmin()) for row in distance if row.min() == 0])
    return codebooks, drawn


@with_node
@pytest.mark.parametrize("codewords", [4, 12, 32])
@pytest.mark.parametrize("start", list(quantizer.STARTS))
def test_the_browsers_step_is_that_of_the_library(start, codewords, tmp_path):
    content = quantizer_widget().content
    codebooks, drawn = trained_bench(start, codewords, steps=25)
    latents = quantizer.make_bench(codewords).latents
    given = {
        "latents": latents.tolist(),
        "first": content["first"][content["sizes"].index(codewords)],
        "settings": {"corrected": quantizer.STARTS[start]["bias_correction"], "constants": content["constants"]},
        "drawn": drawn,
    }
    lines = """
    const state = widget.begin(given.first, given.settings), found = [];
    given.drawn.forEach((due) => {
      widget.step(state, given.latents, given.settings, (errors, n) => (n === due.length ? due : Array(n).fill(0)));
      found.push(state.codebook);
    });
    console.log(JSON.stringify(found));"""
    found = np.array(run_script("quantizer.js", given, lines, tmp_path))
    reach = np.abs(codebooks).max(axis=(1, 2), keepdims=True)  # the authors' first step throws codewords far away
    assert np.abs(found - codebooks).max() < 1e-3 * reach.max()
    assert (np.abs(found - codebooks) / reach).max() < 1e-3


@with_node
def test_a_codeword_that_is_dragged_learns_on_from_where_it_was_put(tmp_path):
    content = quantizer_widget().content
    given = {
        "latents": [[0.0, 0.0]] * 5,
        "first": [[1.0, 1.0], [3.0, 3.0]],
        "settings": {"corrected": True, "constants": content["constants"]},
    }
    lines = """
    const state = widget.begin(given.first, given.settings);
    widget.step(state, given.latents, given.settings);
    widget.place(state, 0, [0.5, 0], given.settings);
    widget.step(state, given.latents, given.settings);
    console.log(JSON.stringify(state.codebook[0]));"""
    decay = quantizer.DECAY
    weight = decay * (1 - decay) / (decay * (1 - decay) + (1 - decay))  # of what was before in the average of two steps
    assert run_script("quantizer.js", given, lines, tmp_path) == pytest.approx([0.5 * weight, 0], abs=1e-9)


@with_node
def test_the_browser_draws_every_latent_that_revives_a_codeword_by_its_error(tmp_path):
    constants = quantizer_widget().content["constants"] | {"decay": 0.4}
    given = {"first": [[0.0, 0.0], [50.0, 50.0]], "settings": {"corrected": True, "constants": constants}}
    lines = """
    const latents = [[1, 0], [-1, 0], [0, 0]], seen = new Set();
    for (let n = 0; n < 60; n++) {
      const state = widget.step(widget.begin(given.first, given.settings), latents, given.settings);
      seen.add(String(state.codebook[1]));
    }
    console.log(JSON.stringify([...seen].sort()));"""
    assert run_script("quantizer.js", given, lines, tmp_path) == ["-1,0", "1,0"]  # the exact one is never drawn


def test_corrected_averages_keep_codewords_near_the_latents_and_the_authors_do_not():
    reach = {}
    for start in quantizer.STARTS:
        bench = quantizer.make_bench(32, start=start)
        bench.step()
        reach[start] = np.abs(bench.codebook).max()
    assert reach["moving average, corrected"] < 5 < reach["as the authors' code"]


def test_the_widget_carries_the_latents_and_first_codewords_of_the_bench():
    content, bench = quantizer_widget(seed=3).content, quantizer.make_bench(16, spread=0.3, seed=3)
    latents = np.array(content["centres"]) + 0.3 * np.array(content["normals"])
    assert np.abs(latents - bench.latents).max() < 1e-4
    assert np.abs(np.array(content["first"][content["sizes"].index(16)]) - bench.codebook).max() < 1e-4


# Slices


def test_the_browser_carries_the_slice_with_most_tumour_and_opens_there():
    store = small_store()
    shown = slice_browser(store, ["P00"], most=3).content["patients"]["P00"]
    assert shown["slices"][shown["start"]] == 2 and len(shown["slices"]) == 3


def test_a_kernel_brings_every_slice_of_every_patient():
    panel = slice_browser(small_store(), ["P00"], most=2)
    panel.asked = {"patient": "P02", "number": 7}
    assert panel.answered["number"] == 7 and panel.answered["patient"] == "P02"
    assert panel.answered["shown"]["slices"] == [1, 2, 3, 4]  # of six; the first and the last are blank
    assert [name for _, name in panel.content["all"]] == ["LGG P00", "HGG P01", "LGG P02", "HGG P03"]


def test_tumour_at_the_patients_left_is_seen_at_the_right():
    labels = np.zeros((1, 32, 32), np.uint8)
    labels[0, 10:14, 20:24] = 3
    shown = pixels(sheets.label_sheet(labels, sheets.crop_to_brain(draw_slices(0))), 0)
    assert np.argwhere(shown[..., 3] == 255)[:, 1].mean() > 0.55 * shown.shape[1]
    assert tuple(shown[shown[..., 3] == 255][0][:3]) == (0xF4, 0xC4, 0x30)  # the colour of ET, unharmed


def test_a_sheet_keeps_its_pictures_apart_and_in_order():
    levels = np.linspace(-2.5, 5, 7)
    images = np.repeat(np.repeat(levels[:, None, None], 16, axis=1), 16, axis=2)
    sheet = sheets.grey_sheet(images, sheets.Crop(slice(0, 16), slice(0, 16)))
    means = [pixels(sheet, n, "L").mean() for n in range(7)]
    assert np.abs(np.array(means) - 255 * np.linspace(0, 1, 7)).max() < 6


def test_the_crop_shows_all_of_the_brain():
    images = draw_slices(1)
    crop = sheets.crop_to_brain(images)
    rest = images.astype(float).copy()
    rest[:, :, crop.rows, crop.columns] = images[0, 0, 0, 0]
    assert (rest == images[0, 0, 0, 0]).all() and crop(images[:, 0]).shape[1] < 32


def test_a_map_is_transparent_where_nothing_changes_and_strongest_at_its_top():
    maps = np.zeros((1, 16, 16))
    maps[0, 8:] = 4.0
    shown = pixels(sheets.map_sheet(maps, sheets.Crop(slice(0, 16), slice(0, 16)), 4.0, "inferno"), 0)
    assert (shown[:7, :, 3] == 0).all() and (shown[9:, :, 3] == 255).all() and shown[12, 8, 0] > 230


def test_a_patient_without_truth_or_slices_that_show_anything_can_be_browsed():
    shown = slice_browser(small_store(), ["P03"]).content["patients"]["P03"]
    assert shown["regions"] is None and 0 <= shown["start"] < len(shown["slices"])
    assert slices.choose_slices(np.zeros((5, 4, 8, 8)), None, 3).tolist() == [0, 2, 4]


# Grading


def judged(p: np.ndarray, is_hgg: np.ndarray, threshold: float, share: float, folder) -> dict:
    given = {"p": p.T.tolist(), "isHgg": is_hgg.tolist(), "threshold": threshold, "share": share}
    return run_script(
        "grading.js", given, "console.log(JSON.stringify(widget.judge(given.p, given.isHgg, given.threshold, given.share)));", folder
    )


@with_node
@pytest.mark.parametrize(("threshold", "times"), [(0.5, 1), (0.3, 1), (0.5, 4), (0.7, 9)])
def test_rates_of_the_sliders_are_those_of_the_library(threshold, times, tmp_path):
    random = np.random.default_rng(5)
    is_hgg = np.arange(40) < 25
    p = np.clip(0.5 + 0.3 * (is_hgg[:, None] - 0.5) + 0.25 * random.normal(size=(40, 3)), 0.001, 0.999)
    weights = np.where(is_hgg, 1.0, times)[None]  # so many times as many LGG: another prevalence
    share = (is_hgg * weights[0]).sum() / weights.sum()
    due = grading_metrics(p - threshold + 0.5, is_hgg, np.zeros((40, 3), int), weights)
    found = judged(p, is_hgg, threshold, share, tmp_path)
    assert found["accuracy"] == pytest.approx(due["accuracy"][0])
    for grade in ("HGG", "LGG"):
        for rate in ("sensitivity", "specificity", "ppv", "npv"):
            assert found[grade][rate] == pytest.approx(due[f"{rate}_{grade}"][0]), (grade, rate)


@with_node
def test_counts_of_the_cohort_are_whole_patients_and_the_conventions_mirror_each_other(tmp_path):
    is_hgg = np.array([True] * 6 + [False] * 4)
    p = np.array([0.9, 0.8, 0.7, 0.6, 0.4, 0.2, 0.1, 0.3, 0.6, 0.7])[:, None]
    found = judged(p, is_hgg, 0.5, 0.6, tmp_path)
    assert [found["HGG"][name] for name in ("tp", "fn", "fp", "tn")] == pytest.approx([4, 2, 2, 2])
    assert [found["LGG"][name] for name in ("tp", "fn", "fp", "tn")] == pytest.approx([2, 2, 2, 4])


@with_node
def test_a_rate_that_does_not_exist_is_none(tmp_path):
    found = judged(np.array([[0.1], [0.2]]), np.array([True, False]), 0.5, 0.5, tmp_path)
    assert found["HGG"]["ppv"] is None and found["HGG"]["npv"] == pytest.approx(0.5)


@with_node
def test_the_browser_reads_the_probabilities_as_they_are(tmp_path):
    table = pd.DataFrame(np.arange(6).reshape(3, 2) / 7, index=list("abc"))
    (model,) = grading_panel({"codewords": table}, pd.Series(["LGG", "HGG", "HGG"], index=list("abc")), "").content["models"]
    lines = """
    const bytes = Uint8Array.from(given.bytes), table = { p: new DataView(bytes.buffer), repeats: given.repeats };
    console.log(JSON.stringify(widget.byRepeat(table)));"""
    found = run_script("grading.js", {"bytes": list(model["p"]), "repeats": model["repeats"]}, lines, tmp_path)
    assert np.allclose(found, table.to_numpy().T)


def test_probabilities_of_other_patients_are_refused():
    with pytest.raises(ValueError, match="other patients"):
        grading_panel({"codewords": pd.DataFrame({0: [0.5]}, index=["a"])}, pd.Series(["LGG"], index=["b"]), "")


# Perturbation


@pytest.fixture(scope="module")
def perturbed():
    model, profile = small_model(), load_profile("smoke")
    random = np.random.default_rng(0)
    images = np.zeros((4, 40, 40, 24), np.float32)
    images[:, 8:32, 8:32, 4:20] = random.uniform(80, 120, (4, 24, 24, 16))
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    volume = PatientVolume("P9", images, None, affine, "HGG", affine, images.shape[1:])
    counts, grades = draw_counts(n_codewords=16, planted={3: 4.0})
    classifier = fit_classifier(counts, grades, codebook=codebook_hash(model))
    settings = profile.preprocessing.model_copy(update={"image_size": 32})
    case = PerturbedPatient("HGG P9", volume, 10, model, classifier, settings, profile.cohort.spacing_mm)
    return case, perturbation_panel(case, "Phantom. Research only.")


def test_nothing_changes_without_a_change(perturbed):
    _, panel = perturbed
    first = panel.content["prepared"][0]
    assert first["name"] == "as it is" and first["ratio"] == 0
    panel.asked = {"scale": 0, "shift": 0, "kind": "noise", "magnitude": 0, "number": 1}
    assert panel.answered["ratio"] == 0 and panel.answered["p_hgg"] == first["p_hgg"]


def test_a_move_of_the_sliders_counts_and_grades_as_the_library_does(perturbed):
    case, panel = perturbed
    images = torch.as_tensor(panel._slices(None)).float().numpy()
    counts = codeword_histogram(encode_patient(case.model, 1.5 * (images + np.float32(0.25))), 16)
    panel.asked = {"scale": 0.5, "shift": 0.25, "number": 2}
    clean = np.array(panel.content["clean"]["counts"])
    assert panel.answered["counts"] == counts.tolist()
    assert panel.answered["ratio"] == pytest.approx(np.abs(counts - clean).sum() / clean.sum()) and panel.answered["ratio"] > 0
    due = predict_hgg(case.classifier, pd.DataFrame([counts]), codebook_hash(case.model)).iloc[0]
    assert panel.answered["p_hgg"] == pytest.approx(due)


def test_the_picture_shows_the_change(perturbed):
    _, panel = perturbed
    before = pixels(panel.content["clean"]["images"], 0, "L").mean()
    panel.asked = {"shift": 1.0, "number": 3}
    assert pixels(panel.answered["images"], 0, "L").mean() > before + 20


def test_a_page_without_a_kernel_has_every_change_of_the_chapter(perturbed):
    _, panel = perturbed
    names = [each["name"] for each in panel.content["prepared"]]
    assert names[1:] == list(prepared_changes()) and {"scale, a = 0.5", "bias field 0.4 log SD", "no t1ce"} <= set(names)
    assert "Research only" in panel.content["label"]


# Ablation


@pytest.fixture(scope="module")
def ablated():
    store, model = small_store(), small_model()
    codes = encode_tumours(model, store, patients=["P00"])[0].codes
    present = torch.bincount(codes.flatten(), minlength=16).argsort(descending=True)[:3].tolist()
    background = next(k for k in range(16) if k not in present)
    panel = ablation_panel(model, store, ["P00", "P01"], {"LGG": [present[0]], "HGG": present[1:]}, background, "Phantom. Research only.")
    return model, store, present, background, panel


def test_ablation_shows_what_the_library_measures(ablated):
    model, store, present, background, panel = ablated
    panel.asked = {"patient": "P01", "codewords": present, "number": 4}
    tumour = encode_tumours(model, store, patients=["P01"])[0]
    maps = change_maps(model, tumour.codes, present, background)
    due = region_values(maps, tumour_labels(model, store, tumour)).set_index("region")
    rows = {row["region"]: row for row in panel.answered["regions"]}
    assert panel.answered["top"] == pytest.approx(float(maps.max())) and maps.max() > 0
    assert rows["NET"]["sum"] == pytest.approx(due.loc["NET", "sum"]) and rows["NET"]["mean"] == pytest.approx(due.loc["NET", "mean"])
    assert rows["ET"]["sum"] is None  # this patient has none
    assert panel.answered["tokens"] == int(np.isin(tumour.codes.numpy(), present).sum())


def test_no_codeword_taken_away_changes_nothing(ablated):
    *_, panel = ablated
    panel.asked = {"patient": "P00", "codewords": [], "base": True, "number": 5}
    assert panel.answered["tokens"] == 0 and panel.answered["top"] == 0
    shown = [pixels(panel.answered["after"], n) - pixels(panel.answered["base"]["before"], n) for n in range(2)]
    assert all((difference == 0).all() for difference in shown)


def test_a_page_without_a_kernel_has_codewords_together_and_alone(ablated):
    _, _, present, background, panel = ablated
    names = [name for name, _ in panel.content["sets"]]
    assert names == ["LGG together", "HGG together", f"{present[1]} alone (HGG)", f"{present[2]} alone (HGG)"]
    assert set(panel.content["prepared"]["P01"]) == set(names)
    offered = [each["codeword"] for each in panel.content["offered"]]
    assert set(present) <= set(offered) and background not in offered and len(set(offered)) == len(offered)


def test_a_patient_without_truth_shows_the_regions_of_the_prediction(ablated):
    *_, panel = ablated
    panel.asked = {"patient": "P03", "codewords": [], "base": True, "number": 6}
    assert panel.answered["base"]["labels"] == "prediction"


# All of them


def test_a_site_without_images_of_patients_has_no_widget_that_holds_any():
    shown, others = slice_browser(small_store(), ["P00"]), quantizer_widget()
    models = {panel.model_id: {"state": json.loads(json.dumps(panel.get_state(), default=str))} for panel in (shown, others)}
    outputs = [nbformat.v4.new_output("display_data", {VIEW: {"model_id": model}, "text/plain": ""}) for model in models]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("", outputs=outputs)], metadata={"widgets": {STATE: {"state": models}}}
    )
    left = leave_panels_out(notebook)
    assert LEFT_OUT in left.cells[0].outputs[0].data["text/html"] and VIEW not in left.cells[0].outputs[0].data
    assert left.cells[0].outputs[1].data[VIEW]["model_id"] == others.model_id
    assert list(left.metadata.widgets[STATE]["state"]) == [others.model_id]


def test_every_answer_is_numbered_as_the_question_and_a_greeting_is_answered():
    panel = Panel({})
    panel.asked = {"number": 12}
    assert panel.answered == {"number": 12}


def test_scripts_ask_for_nothing_outside_and_import_nothing():
    for path in STATIC.glob("*.js"):
        text = path.read_text(encoding="utf-8")
        assert "import(" not in text and "fetch(" not in text and "\nimport " not in text, path.name
        assert "http" not in text.replace("http://www.w3.org/2000/svg", ""), path.name


def test_widgets_answer_at_once_on_small_patients(ablated, perturbed):
    *_, present, _, panel = ablated
    start = time.process_time()
    panel.answer({"patient": "P00", "codewords": present})
    perturbed[1].answer({"scale": 0.3, "kind": "noise", "magnitude": 3.0})
    assert time.process_time() - start < 2


# Codewords


@pytest.fixture(scope="module")
def explorer(tmp_path_factory):
    store, model, folder = small_store(), small_model(), tmp_path_factory.mktemp("atlas")
    codes = {patient: encode_patient(model, store.images(patient)).numpy() for patient in store.patients}
    used = sorted(set(np.concatenate([each.ravel() for each in codes.values()]).tolist()))
    (folder / "patches").mkdir()
    for k in used:
        Picture.new("L", (8, 4), 10 * k).save(folder / "patches" / f"codeword-{k:03d}.png")
    columns = {name: 1.0 for name in ("tokens", "patients", "mean_LGG", "mean_HGG", "coefficient", "coefficient_low", "coefficient_high")}
    table = pd.DataFrame(columns | {"tissue": "brain", "responsible": False}, index=pd.Index(used, name="codeword"))
    table["auc"] = np.linspace(0.4, 0.9, len(used))
    table.loc[used[0], "responsible"], table.loc[used[1], "auc"] = True, np.nan
    return store, codes, used, codeword_explorer(Atlas(table, {}, folder), model, store, ["P00"], "Phantom. Research only.")


def test_the_explorer_knows_every_token_of_every_slice(explorer):
    _, codes, _, panel = explorer
    panel.asked = {"patient": "P02", "number": 3}
    shown = panel.answered["shown"]
    found = np.frombuffer(shown["codes"], np.uint16).reshape(-1, *shown["latent"])
    assert (found == codes["P02"][shown["slices"]]).all() and len(found) == 4


@with_node
def test_the_browser_counts_the_tokens_of_a_codeword_as_they_are(explorer, tmp_path):
    _, codes, used, panel = explorer
    shown = panel.content["patients"]["P00"]
    given = {"codes": np.frombuffer(shown["codes"], np.uint16).tolist(), "size": int(np.prod(shown["latent"])), "k": used[2]}
    line = "console.log(JSON.stringify(widget.tokensPerSlice(Uint16Array.from(given.codes), given.size, given.k)));"
    found = run_script("codewords.js", given, line, tmp_path)
    assert found == (codes["P00"][shown["slices"]] == used[2]).sum(axis=(1, 2)).tolist() and sum(found) > 0


def test_the_explorer_opens_at_a_responsible_codeword_and_says_where_there_is_no_auc(explorer):
    _, _, used, panel = explorer
    assert panel.content["first"] == used[0]
    second = panel.content["codewords"][1]
    assert second["auc"] is None and second["numbers"][4] == "–" and second["numbers"][5] == "1.00 [1.00, 1.00]"


def test_a_kernel_brings_the_patches_of_any_codeword(explorer):
    _, _, used, panel = explorer
    panel.asked = {"codeword": used[-1], "number": 4}
    sheet = panel.answered["patches"]
    assert np.abs(pixels(sheet, 0, "L").mean() - 10 * used[-1]) < 4
