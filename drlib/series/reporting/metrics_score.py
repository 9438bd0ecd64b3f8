"""METRICS, the METhodological RadiomICs Score: 30 items in nine categories, five conditions, weights. Topics in our words.

The five conditions of this work: it includes segmentation (1: yes), fully automated (2: yes); no hand-crafted features (3: no: features
are learned, tumour volumes are a comparison); its features are a table, a row of counts per patient (4: yes); and it is therefore no
end-to-end deep learning (5: no). So items 12 and 17 do not count.
"""

from drlib.series.reporting.item import Checklist, item, met, not_applicable, partly, unmet

YOURS = "Not known to the software; yours to state."

METRICS = Checklist(
    name="METRICS",
    key="metrics",
    source="Kocak et al. 2024, Insights into Imaging 15:8, doi:10.1186/s13244-023-01572-w",
    checked="items, order, conditions and weights (three decimals, sum 0.998) compared with the authors' online tool, version 1.0",
    sections={
        "Study design": (
            item(
                1,
                "Follows a checklist for radiomics or machine learning",
                met("CLAIM, TRIPOD+AI and METRICS, filled in on this page.", "checklists"),
                weight=0.037,
            ),
            item(
                2,
                "Eligibility criteria for a representative population",
                unmet("The patients are synthetic: they represent their generator.", "unlike life", when="phantom"),
                unmet(YOURS),
                weight=0.074,
            ),
            item(
                3,
                "High-quality reference standard, clearly defined",
                partly("Clearly defined and exact, but drawn: no histology stands behind it.", "datasheet", when="phantom"),
                partly("Grades as your files give them; what stands behind them is yours to state.", "own data"),
                weight=0.092,
            ),
        ),
        "Imaging data": (
            item(
                4,
                "More than one centre",
                unmet("{n_scanners} simulated scanners are not centres.", "datasheet", when="phantom"),
                unmet(YOURS),
                weight=0.044,
            ),
            item(
                5,
                "Source of the images can be had in clinical practice",
                partly("The four sequences are routine, but these images are simulated.", "datasheet", when="phantom"),
                partly("The four sequences are routine; whether yours follow a guideline is yours to state.", "own data"),
                weight=0.029,
            ),
            item(
                6,
                "Imaging protocol with acquisition parameters",
                partly("Simulated sequences are described; their parameters are in the source code.", "datasheet", when="phantom"),
                unmet(YOURS),
                weight=0.044,
            ),
            item(
                7,
                "Interval between imaging and reference standard",
                met("None: image and truth are one draw.", "datasheet", when="phantom"),
                unmet(YOURS),
                weight=0.029,
            ),
        ),
        "Segmentation": (
            item(8, "Segmentation method described", met("Network, losses and training; {origin}.", "segmentation"), weight=0.034),
            item(
                9,
                "Automated segmentation formally evaluated",
                met("Dice against the truth, on patients not seen in training: {dice}.", "segmentation", when="segmented"),
                unmet("No graded patient of your cohort has a segmentation to compare with.", "segmentation"),
                weight=0.022,
            ),
            item(
                10,
                "Test masks from one reader or an automated tool",
                met("By the network alone, nobody corrects it.", "segmentation"),
                weight=0.011,
            ),
        ),
        "Image processing and feature extraction": (
            item(
                11,
                "Suitable preprocessing, described",
                met("Intensities: {normalisation} per volume and sequence, {spacing} mm, {image_size} × {image_size} pixels.", "cohort"),
                weight=0.062,
            ),
            item(
                12, "Standardised software for feature extraction", not_applicable("Condition 3: no hand-crafted features."), weight=0.031
            ),
            item(
                13,
                "Parameters of feature extraction reported",
                met(
                    "Every setting is in the profile (hash {hash}), the network in the model folder; counts are checked to sum to "
                    "slices × positions.",
                    "histograms, model card",
                ),
                weight=0.041,
            ),
        ),
        "Feature processing": (
            item(
                14,
                "Non-robust features removed",
                unmet("How much counts change under perturbation is measured; none is removed for it.", "robustness, scanners, stability"),
                weight=0.02,
            ),
            item(
                15,
                "Redundant features removed",
                met("The classifier keeps {chosen}, chosen inside the training folds.", "grading", when="selected"),
                partly(
                    "The classifier may keep a few codewords or all, chosen inside the training folds; here it kept {chosen}.", "grading"
                ),
                weight=0.02,
            ),
            item(
                16,
                "Number of features suits the number of patients",
                partly(
                    "{K} counts, {n_used} of them in use, for {n_graded} patients: held by a penalty chosen inside the folds, and "
                    "judged by permutation (p = {permutation_p}). Not shown to be enough patients.",
                    "grading, stability",
                ),
                weight=0.03,
            ),
            item(17, "Robustness of end-to-end deep learning", not_applicable("Condition 5: the network does not grade."), weight=0.02),
        ),
        "Preparation for modelling": (
            item(
                18,
                "Proper partitioning of the data",
                met(
                    "By patient, before anything is fitted; scaling and every choice inside the training folds; seed {seed}.",
                    "cohort, grading",
                ),
                weight=0.06,
            ),
            item(
                19,
                "Confounders handled",
                unmet("Grade and scanner are tied to each other on purpose in this variant.", "variants", when="confounded"),
                met(
                    "By design: scanner and faults are drawn without regard to grade; the variant `confounded` shows what happens "
                    "otherwise.",
                    "variants, known truth",
                    when="phantom",
                ),
                unmet("Age, sex, site and scanner are not read from your files, so that they cannot be looked at.", "own data"),
                weight=0.03,
            ),
        ),
        "Metrics and comparison": (
            item(
                20,
                "Suitable metrics",
                met("AUC and ROC curve, confusion matrices under both conventions, curves of the losses.", "grading, segmentation"),
                weight=0.035,
            ),
            item(21, "Uncertainty", met("95 % bootstrap intervals over patients.", "models, verdict"), weight=0.023),
            item(
                22,
                "Calibration",
                met("Observed against predicted, Brier score {brier}, slope and intercept.", "calibration", when="recalibrated"),
                met("Curve of observed against predicted, Brier score {brier}.", "calibration"),
                weight=0.018,
            ),
            item(
                23,
                "One sequence alone, or proof that it is not enough",
                unmet(
                    "No model of one sequence alone is made; what is lost where one scan was not made is measured.",
                    "scanners",
                    when="has robustness-scanners",
                ),
                unmet("The four sequences are always used together.", "segmentation"),
                weight=0.012,
            ),
            item(
                24,
                "Comparison with a non-radiomic approach",
                met(
                    "Tumour volumes on the same folds; AUC of codewords less that of volumes, on the same patients: {difference}.",
                    "differences",
                    when="compared",
                ),
                partly(
                    "Tumour volumes on the same folds (AUC {volume_baseline_auc}, codewords {grading_auc}); the difference is not tested.",
                    "models",
                ),
                weight=0.029,
            ),
            item(
                25,
                "Comparison with simple models",
                met(
                    "Always the commoner grade: accuracy {majority_accuracy}; shuffled grades: p = {permutation_p}; logistic "
                    "regression of volumes.",
                    "grading",
                    when="permuted",
                ),
                partly("Always the commoner grade: accuracy {majority_accuracy}. No permutation was asked for.", "grading"),
                weight=0.018,
            ),
        ),
        "Testing": (
            item(
                26,
                "Internal testing",
                partly(
                    "The network is tested on patients it never saw; the classifier by repeated cross-validation, without a set kept "
                    "aside.",
                    "segmentation, grading",
                ),
                weight=0.037,
            ),
            item(27, "External testing", unmet("No second cohort."), weight=0.075),
        ),
        "Open science": (
            item(
                28,
                "Data can be had",
                met("The cohort is made again, byte for byte, by one command.", "datasheet", when="phantom"),
                unmet(YOURS),
                weight=0.007,
            ),
            item(29, "Code can be had", met("All of it, MIT licence.", "status"), weight=0.007),
            item(
                30,
                "Model can be had",
                met("One folder with weights, classifier and this card; the commands that apply it.", "model card, own data"),
                weight=0.007,
            ),
        ),
    },
)
