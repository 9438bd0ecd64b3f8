"""CLAIM, the Checklist for Artificial Intelligence in Medical Imaging, 2024 update: 44 items. Topics in our words."""

from drlib.series.reporting.item import Checklist, item, met, not_applicable, partly, unmet

YOURS = "Not known to the software; yours to state."

CLAIM = Checklist(
    name="CLAIM (2024 update)",
    key="claim",
    source="Tejani et al. 2024, Radiology: Artificial Intelligence 6(4):e240300, doi:10.1148/ryai.240300",
    checked="numbers, order and topics compared with the checklist on the explanation-and-elaboration pages of CLAIM 2024",
    sections={
        "Title and abstract": (
            item(
                1,
                "Title names the method as AI, and its kind",
                partly(
                    "The title says “deep radiomics”; that this is a vector-quantized network and a logistic regression is said in "
                    "the chapters.",
                    "quantizer, grading",
                ),
            ),
            item(
                2,
                "Summary of design, methods, results, conclusions",
                met("First page: what is asked, what was done, {n_claims} claims with the main ones in a table.", "first page"),
            ),
        ),
        "Introduction": (
            item(
                3,
                "Background; intended use and role of the AI",
                met("A re-examination of a published method. The intended use is research, no clinical role.", "first page, model card"),
            ),
            item(
                4,
                "Aims, objectives, hypotheses",
                met("The claims of the paper, each put as a question with a rule for its verdict.", "first page, verdict"),
            ),
        ),
        "Methods: study design": (
            item(
                5,
                "Prospective or retrospective",
                not_applicable("Neither: no patient was studied, all are simulated.", "datasheet", when="phantom"),
                unmet(YOURS),
            ),
            item(
                6,
                "Goal of the study",
                met(
                    "To test whether published claims hold when the method is made well defined; no model for use is proposed.",
                    "first page",
                ),
            ),
        ),
        "Methods: data": (
            item(
                7,
                "Where the data come from",
                met(
                    "{n_checked} synthetic patients, made by the generator (variant {variant}, seed {seed}).",
                    "datasheet, cohort",
                    when="phantom",
                ),
                partly("{n_checked} patients of the cohort {cohort}, read from a folder; its origin is yours to state.", "cohort"),
            ),
            item(
                8,
                "Inclusion and exclusion criteria",
                met(
                    "All {n_checked} patients are generated and checked; {n_left_out} left out for errors in their files{reasons}.",
                    "cohort",
                    when="phantom",
                ),
                partly(
                    "On files only: {n_left_out} of {n_checked} patients left out for errors{reasons}. Clinical criteria are yours to "
                    "state.",
                    "cohort, own data",
                ),
            ),
            item(
                9,
                "Preprocessing of the images",
                met(
                    "Intensities: {normalisation} inside the brain, background {background}, axial slices of {image_size} × "
                    "{image_size} pixels at "
                    "{spacing} mm.",
                    "cohort, deviations",
                ),
            ),
            item(
                10,
                "Selection of parts of the data",
                met("None is selected: all {n_slices} slices of every sound patient enter the counts.", "cohort, histograms"),
            ),
            item(
                11,
                "How identities were removed",
                not_applicable("There is no person behind a phantom.", "datasheet", when="phantom"),
                unmet("Nothing is removed by the software: results name patients as the files do. " + YOURS),
            ),
            item(
                12,
                "Handling of missing data",
                met(
                    "A patient who lacks an image is refused by name; one without a grade trains the network at most; a region absent "
                    "from truth and prediction has no Dice.",
                    "cohort, own data",
                ),
            ),
            item(
                13,
                "Image acquisition protocol",
                partly(
                    "{n_scanners} simulated scanners, each with its sequence parameters and field strength; the equations are "
                    "described, the parameters are in the source code.",
                    "datasheet",
                    when="phantom",
                ),
                unmet(YOURS),
            ),
        ),
        "Methods: reference standard": (
            item(
                14,
                "How the reference standard was obtained",
                met("Grade and regions are drawn before the image and known to the voxel.", "datasheet", when="phantom"),
                partly("Grades and segmentations as your files give them; how they were obtained is yours to state.", "own data"),
            ),
            item(
                15,
                "Why this reference standard",
                met("A known truth tests the method itself; a reader's judgement could not.", "datasheet, known truth", when="phantom"),
                unmet(YOURS),
            ),
            item(
                16,
                "Who annotated",
                met(
                    "Nobody: the generator wrote the labels; one error of annotators is imitated on purpose (a core called oedema).",
                    "datasheet",
                    when="phantom",
                ),
                unmet(YOURS),
            ),
            item(
                17,
                "Annotation of the test data",
                met("As for the training data, by the same generator, from independent draws.", "datasheet", when="phantom"),
                unmet(YOURS),
            ),
            item(
                18,
                "Variability between and within raters",
                not_applicable("There are no raters.", "datasheet", when="phantom"),
                unmet(YOURS),
            ),
        ),
        "Methods: data partitions": (
            item(
                19,
                "How data were assigned to partitions",
                met(
                    "{n_segmentation} patients for the network ({n_training} train, the others watch its Dice), {n_graded} to be "
                    "graded, in {folds} stratified folds × {repeats} repeats.",
                    "cohort, grading",
                ),
            ),
            item(
                20,
                "Level at which partitions are disjoint",
                met("The patient; duplicates are searched for and refused.", "cohort, own data"),
            ),
        ),
        "Methods: testing data": (
            item(
                21,
                "Intended sample size",
                unmet(
                    "{n_graded} patients are what the profile “{profile}” asks for. No calculation of the sample size was made.",
                    when="phantom",
                ),
                unmet("All {n_graded} graded patients of your folder; no calculation was made."),
            ),
        ),
        "Methods: model": (
            item(
                22,
                "Detailed description of the model",
                met(
                    "Filters {filters}, index map {latent} × {latent}, codebook {K} × {D}, {parameters} parameters; inputs, outputs "
                    "and equations.",
                    "quantizer, segmentation, model card",
                ),
            ),
            item(23, "Software and versions", met("{versions}.", "status")),
            item(24, "Initialisation of the parameters", met("{start}; seed {seed}.", "segmentation")),
        ),
        "Methods: training": (
            item(
                25,
                "Training in detail",
                met(
                    "{epochs} epochs, {slices_seen} slices seen, batches of {batch}, largest learning rate {rate}, {precision}, on "
                    "{devices}, {minutes} min; losses and augmentation.",
                    "segmentation, deviations",
                ),
            ),
            item(
                26,
                "How the final model was selected",
                met(
                    "It is not: the network after the last epoch. Codewords and penalty of the classifier are chosen inside the "
                    "training folds.",
                    "segmentation, grading",
                ),
            ),
            item(27, "Ensembling", not_applicable("There is no ensemble.")),
        ),
        "Methods: evaluation": (
            item(
                28,
                "Metrics of performance",
                met(
                    "Dice per region; accuracy, balanced accuracy, AUC, Brier score, sensitivity, specificity and predictive values "
                    "under both conventions.",
                    "segmentation, grading",
                ),
            ),
            item(
                29,
                "Measures of significance and uncertainty",
                met(
                    "95 % bootstrap intervals over patients; {permutations} permutations of the grades; false-discovery rate over "
                    "codewords.",
                    "models, differences, verdict",
                ),
            ),
            item(
                30,
                "Robustness or sensitivity analysis",
                met(
                    "Intensities scaled and shifted by {magnitudes}, and scans changed as scanners do it: classifier frozen and refitted.",
                    "robustness, scanners, stability",
                    when="has robustness-scanners",
                ),
                met("Intensities scaled and shifted by {magnitudes}: classifier frozen and refitted.", "robustness"),
            ),
            item(
                31,
                "Explainability",
                met("Codewords replaced and decoded again; how far such a map is local is measured.", "ablation, locality"),
            ),
            item(
                32,
                "Evaluation on internal data",
                met(
                    "{n_graded} patients that the network never saw, each graded by classifiers fitted to others.", "segmentation, grading"
                ),
            ),
            item(
                33,
                "Testing on external data",
                unmet("One synthetic cohort. Whether anything carries over to patients is not tested here.", "unlike life", when="phantom"),
                unmet("One cohort, {cohort}, split in two; there is no second one."),
            ),
            item(
                34,
                "Clinical trial registration",
                not_applicable("No trial.", when="phantom"),
                not_applicable("The software runs no trial; where your cohort comes from one, state it."),
            ),
        ),
        "Results: data": (
            item(
                35,
                "Numbers included and excluded",
                met(
                    "{n_checked} checked, {n_left_out} left out, {n_segmentation} for the network, {n_graded} graded ({n_lgg} LGG, "
                    "{n_hgg} HGG).",
                    "cohort",
                ),
            ),
            item(
                36,
                "Demographic and clinical characteristics per partition",
                partly("Grade and tumour volumes. Phantoms have no age, sex or history.", "cohort", when="phantom"),
                partly("Grade and tumour volumes. Age, sex and history are not read from your files.", "cohort"),
            ),
        ),
        "Results: performance": (
            item(
                37,
                "Performance with uncertainty",
                met("Accuracy {grading_accuracy}; AUC {grading_auc}; Dice {dice}.", "grading, segmentation, verdict"),
            ),
            item(
                38,
                "Diagnostic performance and its precision",
                met("Sensitivity for LGG {sensitivity_LGG}, for HGG {specificity_LGG} (n = {n_graded}).", "models, positive class"),
            ),
            item(
                39,
                "Analysis of failures",
                partly(
                    "The probability of every patient and segmentations chosen by rule are shown; wrong answers are not gone through "
                    "one by one.",
                    "grading, segmentation",
                ),
            ),
        ),
        "Discussion": (
            item(
                40,
                "Limitations",
                met(
                    "What phantoms cannot show, what the statistics leave open, and the caveats of the model.",
                    "unlike life, verdict, model card",
                    when="phantom",
                ),
                partly(
                    "Those of method, statistics and model. Those of the cohort {cohort} are yours to state.",
                    "verdict, model card",
                ),
            ),
            item(41, "Implications for practice, clinical role", met("None for practice: research only.", "first page, model card")),
        ),
        "Other information": (
            item(
                42,
                "Study protocol or further technical detail",
                partly(
                    "No protocol was written or registered in advance. Code, settings (profile hash {hash}) and manifests are the "
                    "technical detail.",
                    "status, deviations",
                ),
            ),
            item(
                43,
                "Availability of software, model and data",
                met(
                    "Code under MIT; the model is a folder (SHA-256 {sha256:.12}…); the cohort is made again by one command.",
                    "model card, datasheet",
                    when="phantom",
                ),
                partly(
                    "Code under MIT; the model is a folder (SHA-256 {sha256:.12}…). Whether your images can be had is yours to state.",
                    "model card",
                ),
            ),
            item(44, "Funding and the role of funders", unmet("The book does not state any.")),
        ),
    },
)
