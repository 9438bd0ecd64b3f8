"""The model card, after Mitchell et al. 2019: what the trained model is, for what, how well, and what it must not be used for.

The same statements are a page of the book and ``MODEL_CARD.md`` in the model's folder, beside the card for machines (``model.json``).
"""

import html
from pathlib import Path

from drlib.artifacts import write_atomically
from drlib.series.notice import RESEARCH_ONLY
from drlib.series.reporting.checklists import Page, to_html
from drlib.series.reporting.facts import RATES, Facts, read_facts
from drlib.series.run import Run

CARD_FILE = "MODEL_CARD.md"
Card = dict[str, dict[str, str]]  # section -> name -> statement


def describe_model(facts: Facts) -> Card:
    """Return the card: section -> name -> statement, in the order of Mitchell et al., and last how to apply the model."""
    filled = {name: {key: facts.fill(text) for key, text in section.items()} for name, section in _CARD.items()}
    filled["Training data"] = {"cohort": facts.fill(_TRAINING["phantom" if "phantom" in facts.flags else "own"])} | filled["Training data"]
    filled["Caveats and recommendations"] = {
        name: facts.fill(text) for name, (condition, text) in _CAVEATS.items() if facts.holds(condition)
    } | filled["Caveats and recommendations"]
    return filled


def card_page(card: Card) -> Page:
    """Return the card as HTML: per section, to be folded, a table of names and statements."""
    sections = [
        f"<details open><summary><strong>{html.escape(name)}</strong></summary><table><tbody>"
        + "".join(f"<tr><th>{html.escape(key)}</th><td>{to_html(text)}</td></tr>" for key, text in rows.items())
        + "</tbody></table></details>"
        for name, rows in card.items()
    ]
    return Page(f'<div class="checklist model-card">{"".join(sections)}</div>')


def write_model_card(run: Run) -> Path:
    """Write the card of a run's model into its folder, as Markdown, and return the file.

    The folder is a stage whose files are checked; this file comes later and is none of them, as the classifier beside it.
    """
    text = card_markdown(describe_model(read_facts(run)))
    return write_atomically(run.folder / "model" / CARD_FILE, lambda path: path.write_text(text, encoding="utf-8"))


def card_markdown(card: Card) -> str:
    """Return the card as Markdown."""
    sections = [f"## {name}\n\n" + "\n".join(f"- **{key}**: {text}" for key, text in rows.items()) for name, rows in card.items()]
    return "# Model card\n\n" + "\n\n".join(sections) + "\n"


_CARD: Card = {
    "Model details": {
        "what": "A segmentation network with a vector-quantized bottleneck, and a logistic regression of the grade (LGG or HGG) on how "
        "often each codeword occurs in a patient. After Kobayashi et al. 2021, Sci Rep 11:10942.",
        "by": "the Deep Radiomics contributors; software drlib {drlib}, MIT licence",
        "made": "{written}, profile `{profile}` (hash {hash}), seed {seed}; network {origin}",
        "size": "filters {filters}, codebook {K} × {D} with {in_use} codewords in use, {parameters} parameters",
        "identity": "weights SHA-256 `{sha256}`, codebook {codebook}",
        "input": "T1, T1ce, T2 and FLAIR, co-registered and skull-stripped; axial slices of {image_size} × {image_size} pixels at "
        "{spacing} mm, {normalisation} inside the brain, background {background}",
        "output": "labels (NET, ED, ET), an index map of codewords, {K} counts per patient, and the probability of HGG",
    },
    "Intended use": {
        "for": "research on the method: counting, comparing and looking at codewords, on phantoms or on images "
        "that you may use for research",
        "users": "researchers in imaging and statistics",
        "not for": "diagnosis, treatment, triage or any decision about a patient; images that are not skull-stripped and co-registered; "
        "other tumours, children, images after treatment; the labelling of data sets without review",
    },
    "Factors": {
        "known to matter": "scanner and protocol (counts move when intensities do), quality of skull stripping, tumour size",
        "not examined": "age, sex, origin, histology, molecular markers, treatment: none of them is in the data",
    },
    "Metrics": {
        "segmentation": "Dice per patient and region, in three dimensions",
        "grading": "accuracy, balanced accuracy, AUC, Brier score, and both grades as the positive one",
        "uncertainty": "95 % bootstrap intervals over patients; they do not cover another training of the network",
        "threshold": "one half",
    },
    "Evaluation data": {
        "cohort": "{n_graded} patients of the cohort {cohort} ({n_lgg} LGG, {n_hgg} HGG), none of whom trained the network",
        "grades": "each patient graded by classifiers fitted to others: {folds} stratified folds × {repeats} repeats; the classifier in "
        "this folder is then fitted to all {n_graded}",
    },
    "Training data": {
        "training": "{n_training} patients, {epochs} epochs, {slices_seen} slices seen, {minutes} min on {devices}; started from {start}",
    },
    "Quantitative analyses": {
        "Dice": "{dice}",
        "accuracy": "{grading_accuracy} (always the commoner grade: {majority_accuracy}; tumour volumes alone: {volume_baseline_accuracy})",
        "AUC": "{grading_auc} (tumour volumes alone: {volume_baseline_auc}); p = {permutation_p} on shuffled grades",
        **{name: f"{{{column}}}" for column, name in RATES.items()},
        "responsible codewords": "for LGG: {responsible_LGG}; for HGG: {responsible_HGG}",
        "robustness": "difference ratio at the largest shift {ratio_shift}, at the largest scaling {ratio_scale} "
        "(0: same counts, 2: none in common)",
    },
    "Ethical considerations": {
        "harm": "a wrong grade, believed, harms a patient: so no use in care, and the notice on every report says so",
        "fairness": "cannot be examined on these data",
        "privacy": "the folder holds weights, codewords and coefficients; images of training patients are not in it, and that none can be "
        "guessed from it has not been tested",
    },
    "Caveats and recommendations": {
        "local maps": "maps of responsible regions are only partly local: every latent sees most of a slice",
        "before use": "grade a sample of your own whose truth you know, and compare with tumour volumes alone",
    },
    "How to apply it": {
        "features": "`drlib features PATIENTS --model FOLDER --out features.parquet`",
        "grade": "`drlib grade PATIENT --model FOLDER --out graded`",
        "check": "weights are compared with their SHA-256, and the classifier with the codebook, whenever they are loaded",
    },
}
_TRAINING = {
    "phantom": "phantoms only, {n_segmentation} synthetic patients (variant {variant}, seed {seed}); no person was scanned",
    "own": "{n_segmentation} patients of the cohort {cohort}, supplied by the user; network {origin}",
}
_CAVEATS = {  # name -> when, statement
    RESEARCH_ONLY.lower(): ("", "not a medical device, not evaluated in any clinic"),
    "phantom-trained": (
        "phantom-trained",
        "synthetic patients taught the network what gliomas look like; how well that carries over to real ones is not established",
    ),
    "one cohort": ("", "evaluated on {n_graded} patients of one cohort; there is no external test"),
    "other trainings": ("has chapter-stability", "several trainings are set side by side in the book's chapter on stability"),
    "no responsible codeword": ("not responsible", "no codeword passed the test: those in `responsible.json` are leading, not responsible"),
    "small": ("small", "made by the smallest profile, which shows that everything runs and is too small to learn anything"),
}
