"""Which patients and slices a figure shows: chosen by rule, never by hand, so that no example is picked for its looks.

The rule: patients of each grade in the order of their tumour volume, taken at equal steps from small to large; of each the slice with the
most tumour.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from drlib.cohort.brats import PatientVolume, find_patients, load_patient
from drlib.cohort.regions import GRADES, MODALITIES
from drlib.cohort.slices import SliceStore
from drlib.figures.ablation import AblationCase, FrozenCase
from drlib.figures.images import MODALITY_NAMES, Panel, largest_slice, short_id
from drlib.figures.segmentation import codeword_colours
from drlib.radiomics.ablation import encode_patient, encode_tumours, predict_labels, responsible_regions, token_change
from drlib.radiomics.classifier import fit_classifier
from drlib.radiomics.scanners import SCANNER_CHANGES, MissingModality, change_slices
from drlib.series.notice import RESEARCH_ONLY, prediction_notice
from drlib.series.run import Run
from drlib.series.stages import (
    Ablation,
    Cohort,
    Segmentation,
    choose_patients,
    make_phantoms,
    open_atlas,
    open_cohort,
    open_grading,
    open_histograms,
    open_model,
    open_segmentation,
    tumour_token,
)
from drlib.viewer.ablation import AblationPanel, ablation_panel
from drlib.viewer.codewords import CodewordsPanel, codeword_explorer
from drlib.viewer.grading import GradingPanel, grading_panel
from drlib.viewer.page import OVERLAYS, StillPicture, VolumeViewer, draw_still
from drlib.viewer.perturbation import PerturbationPanel, PerturbedPatient, perturbation_panel
from drlib.viewer.volumes import STORED_WORDS, find_grid, spread_codes, tumour_weight

ATLAS = "12_atlas.html"  # beside the chapters: a card for each codeword


def patient_panels(cohort: Cohort, patients: Sequence[str], segmentation: Segmentation | None = None) -> list[Panel]:
    """Return the slice with the most tumour of each patient; with the prediction where ``segmentation`` is given."""
    return [_panel(cohort.grading, patient, segmentation) for patient in patients]


def example_patients(cohort: Cohort, per_grade: int = 3) -> list[Panel]:
    """Return panels of patients of both grades."""
    return patient_panels(cohort, choose_patients(cohort, per_grade))


def segmentation_examples(cohort: Cohort, segmentation: Segmentation, per_grade: int = 2) -> tuple[list[Panel], list[float]]:
    """Return panels with predictions, and each patient's whole-tumour Dice in three dimensions."""
    patients = choose_patients(cohort, per_grade)
    return patient_panels(cohort, patients, segmentation), [float(segmentation.dice.loc[patient, "WT"]) for patient in patients]


def index_map_examples(cohort: Cohort, segmentation: Segmentation) -> tuple[list[Panel], list[np.ndarray], np.ndarray]:
    """Return panels of one patient per grade, their index maps (h, w), and the codebook (K, D)."""
    panels = patient_panels(cohort, choose_patients(cohort, 1))
    network = segmentation.model.network.eval()
    with torch.inference_mode():
        codes = [network.encode_to_codes(_batch(panel.images[None]))[0].numpy() for panel in panels]
    return panels, codes, network.quantizer.codebook.detach().numpy()


def ablation_examples(run: Run, grade: str, n: int = 4) -> list[AblationCase]:
    """Return ``n`` patients of ``grade`` with the maps of both grades' responsible codewords.

    Of each, among the slices with at least half as much tumour as the largest, the one that holds most of the grade's responsible
    codewords; the one with the most tumour where none of them holds any.
    """
    cohort, segmentation, background = open_cohort(run), open_segmentation(run), open_histograms(run).background
    model, by_grade, cases = segmentation.model, open_grading(run).by_grade, []
    for patient in choose_patients(cohort, n, (grade,)):
        codes = encode_patient(model, cohort.grading.images(patient))
        area = (cohort.grading.labels(patient) > 0).sum(axis=(1, 2))
        held = np.isin(codes.numpy(), by_grade[grade]).sum(axis=(1, 2)) * (area >= area.max() / 2)
        panel = _panel(cohort.grading, patient, segmentation, int(held.argmax()) if held.any() else None)
        images = panel.images[None]
        maps = {name: responsible_regions(model, images, codewords, background)[0] for name, codewords in by_grade.items()}
        cases.append(AblationCase(panel, maps))
    return cases


def patient_viewer(
    run: Run, overlay: str = "none", overlays: Sequence[str] = OVERLAYS, grade: str = "HGG", modality: str = "flair", compare: str = ""
) -> VolumeViewer:
    """Return the MRI viewer, opened at the ``grade``'s middle patient; its still picture is drawn from what the chapters so far have left.

    ``overlay`` is shown first and ``compare``, where given, in a second picture beside it; ``overlays`` can be chosen.
    """
    cohort = open_cohort(run)
    patient = choose_patients(cohort, 1, (grade,))[0]
    pictures = [StillPicture(*_still(run, cohort.grading, patient, modality, kind)) for kind in (overlay, compare) if kind]
    predicted = set(overlays) - {"none", "truth"}
    notice = prediction_notice(run.profile, run.cohort_name) if predicted else f"{RESEARCH_ONLY}."
    caption = f"{run.label[0].upper()}{run.label[1:]}; patient {patient} first. Volumes are cropped to the brain; {STORED_WORDS}. {notice}"
    atlas = ATLAS if "codewords" in overlays else ""
    return VolumeViewer(patient, pictures, caption, modality, overlay, compare, tuple(overlays), atlas)


def scanner_examples(run: Run) -> dict[str, Panel]:
    """Return one HGG patient's slice as it is and under the strongest change of each kind, by the words for the change."""
    store, profile = open_cohort(run).grading, run.profile
    panel = patient_panels(open_cohort(run), choose_patients(open_cohort(run), 1, ("HGG",)))[0]
    index = largest_slice(store.labels(panel.patient))
    volume = _volume(run, panel.patient)
    strongest = {change.kind: change for change in SCANNER_CHANGES if not isinstance(change, MissingModality)}
    settings = (profile.preprocessing, profile.cohort.spacing_mm, run.seed)
    changed = {f"{change.kind}\n{change.level}": change_slices(volume, change, *settings)[index] for change in strongest.values()}
    return {"as it is": panel} | {words: replace(panel, images=images) for words, images in changed.items()}


def grading_sliders(run: Run) -> GradingPanel:
    """Return the main models' probabilities with sliders of threshold and prevalence."""
    grading = open_grading(run)
    return grading_panel(grading.main, grading.grades, _label(run))


def perturbation_sliders(run: Run) -> PerturbationPanel:
    """Return one HGG patient to be scaled, shifted and scanned again, graded by a classifier that is fitted to all other patients."""
    cohort, histograms, grades = open_cohort(run), open_histograms(run), open_grading(run).grades
    patient = choose_patients(cohort, 1, ("HGG",))[0]
    others = grades.index.drop(patient, errors="ignore")
    counts = histograms.counts
    classifier = fit_classifier(counts.table.loc[others], grades.loc[others], seed=run.seed, codebook=counts.codebook)
    index = largest_slice(cohort.grading.labels(patient))
    settings = (run.profile.preprocessing, run.profile.cohort.spacing_mm, run.seed)
    case = PerturbedPatient(f"HGG {short_id(patient)}", _volume(run, patient), index, open_model(run), classifier, *settings)
    return perturbation_panel(case, f"P(HGG): classifier fitted to the {len(others)} other patients. {_label(run)}")


def ablation_sliders(run: Run) -> AblationPanel:
    """Return one patient of each grade whose codewords can be taken away."""
    cohort, patients = open_cohort(run), choose_patients(open_cohort(run), 1)
    by_grade, background = open_grading(run).by_grade, open_histograms(run).background
    return ablation_panel(open_model(run), cohort.grading, patients, by_grade, background, _label(run))


def codeword_slices(run: Run) -> CodewordsPanel:
    """Return every codeword of the atlas in one patient of each grade."""
    cohort = open_cohort(run)
    return codeword_explorer(open_atlas(run), open_model(run), cohort.grading, choose_patients(cohort, 1), _label(run))


def _label(run: Run) -> str:
    label = run.label[0].upper() + run.label[1:]
    return f"{label}. {prediction_notice(run.profile, run.cohort_name)}"


def _volume(run: Run, patient: str) -> PatientVolume:
    source = make_phantoms(run) if run.is_phantom else run.data_dir
    return load_patient(next(found for found in find_patients(source) if found.id == patient))


def overview_example(run: Run) -> tuple[Panel, np.ndarray, np.ndarray, pd.Series, float, np.ndarray, int]:
    """Return one HGG patient on the way through the method, as :func:`drlib.figures.plot_overview` takes it."""
    case = ablation_examples(run, "HGG", n=1)[0]
    patient, network, histograms = case.panel.patient, open_model(run).network.eval(), open_histograms(run)
    with torch.inference_mode():
        codes = network.encode_to_codes(_batch(case.panel.images[None]))[0].numpy()
    codebook, counts = network.quantizer.codebook.detach().numpy(), histograms.counts.table.loc[patient]
    p_hgg = float(open_grading(run).probability[patient])
    return case.panel, codes, codebook, counts, p_hgg, case.maps["HGG"], histograms.background


def front_example(run: Run) -> tuple[Panel, np.ndarray, np.ndarray, np.ndarray, float, int]:
    """Return the patient of :func:`overview_example` as :func:`drlib.figures.plot_front` takes it."""
    panel, codes, codebook, _, p_hgg, region, background = overview_example(run)
    return panel, codes, codebook, region, p_hgg, background


def locality_example(run: Run, ablation: Ablation) -> tuple[np.ndarray, tuple[int, int], int, pd.DataFrame, Panel]:
    """Return the map of one replaced token, its cell, the stride, the shares outside of all measured tokens, and the slice."""
    cohort, model = open_cohort(run), open_model(run)
    panel = patient_panels(cohort, choose_patients(cohort, 1, ("HGG",)))[0]
    code_map, cell = tumour_token(model, cohort.grading, *encode_tumours(model, cohort.grading, patients=[panel.patient]))
    change = token_change(model, code_map, cell, open_histograms(run).background)
    return change, cell, model.profile.stride, ablation.locality, panel


def frozen_examples(run: Run, n: int = 3) -> list[FrozenCase]:
    """Return ``n`` HGG patients with the map of the HGG codewords, normalisation live and frozen; slices as in the other figures."""
    background, codewords, model = open_histograms(run).background, open_grading(run).by_grade["HGG"], open_model(run)
    cases = []
    for case in ablation_examples(run, "HGG", n):
        frozen = responsible_regions(model, case.panel.images[None], codewords, background, frozen_normalisation=True)[0]
        tokens = np.isin(encode_patient(model, case.panel.images[None]).numpy()[0], codewords)
        cases.append(FrozenCase(case.panel, tokens, case.maps["HGG"], frozen))
    return cases


def _panel(store: SliceStore, patient: str, segmentation: Segmentation | None, index: int | None = None) -> Panel:
    """Return slice ``index`` of a patient, or the one with the most tumour."""
    images, labels, geometry = store.images(patient), store.labels(patient), store.geometry(patient)
    index = largest_slice(labels) if index is None else index
    prediction = None if segmentation is None else _segment(segmentation, images[index])
    pixel_mm = float(np.sqrt(geometry.pixel_volume_mm3 / geometry.spacing_mm))
    return Panel(patient, images[index], labels[index], prediction, store.grade(patient), pixel_mm)


def _still(run: Run, store: SliceStore, patient: str, modality: str, kind: str) -> tuple[bytes, str]:
    """Return the picture with which a viewer opens, and what it shows in words."""
    images, labels, colours = store.images(patient), store.labels(patient), None
    index = int(tumour_weight(labels).sum(axis=(1, 2)).argmax())
    _, rows, columns = find_grid(images, store.geometry(patient)).where
    if kind in GRADES:
        maps = responsible_regions(open_model(run), images, open_grading(run).by_grade[kind], open_histograms(run).background)
        index = int(maps.sum(axis=(1, 2)).argmax()) if maps.any() else index
        overlay = maps[index]
    else:
        overlay, colours = _overlay(run, images[index], labels[index], kind)
    shown = None if overlay is None else overlay[rows, columns]
    image = images[index, MODALITIES.index(modality), rows, columns]
    over = f", with the {OVERLAYS[kind]} in colour" if OVERLAYS[kind] else ""
    return draw_still(image, shown, kind, colours), f"Axial slice of patient {patient}, {MODALITY_NAMES[modality]}{over}"


def _overlay(run: Run, image: np.ndarray, labels: np.ndarray, kind: str) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return labels or code indices over one slice (H, W), and the colours (K, 3) of the codewords where they are shown."""
    if kind in ("none", "truth"):
        return (labels if kind == "truth" else None), None
    model = open_model(run)
    codes = encode_patient(model, image[None])
    if kind == "prediction":
        return predict_labels(model, codes)[0], None
    colours = codeword_colours(model.network.quantizer.codebook.detach().cpu().numpy())
    colours[np.bincount(codes.numpy().ravel()).argmax()] = 0  # the commonest code of a slice is that of what lies around the head
    return spread_codes(codes.numpy(), image.shape[-2:])[0], colours


def _segment(segmentation: Segmentation, image: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return segmentation.model.network.eval()(_batch(image[None])).logits.argmax(1)[0].numpy().astype(np.uint8)


def _batch(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images)).float()
