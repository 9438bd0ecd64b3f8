"""TRIPOD+AI: 27 items with their parts, 52 in all, for development with internal evaluation. Topics in our words."""

from drlib.series.reporting.item import Checklist, item, met, not_applicable, partly, unmet

YOURS = "Not known to the software; yours to state."
NOBODY = "There is no person behind a phantom."

TRIPOD_AI = Checklist(
    name="TRIPOD+AI",
    key="tripod-ai",
    source="Collins et al. 2024, BMJ 385:e078378, doi:10.1136/bmj-2023-078378",
    checked="numbers, order and topics compared with two transcripts of the published table",
    sections={
        "Title and abstract": (
            item(
                "1",
                "Title: development or evaluation, population, outcome",
                partly("The title names the field; gliomas, grades and what was done are on the first page.", "first page"),
            ),
            item(
                "2",
                "Abstract by the checklist for abstracts",
                partly(
                    "The first page has aims, data, patients, main results with intervals and their reading; no registration.", "first page"
                ),
            ),
        ),
        "Introduction": (
            item(
                "3a",
                "Health context, rationale, existing models",
                partly("The paper that is re-examined, and why. Clinical need and other models are not reviewed.", "first page"),
            ),
            item(
                "3b", "Target population, purpose, users", met("For researchers, on no population of patients; not for care.", "model card")
            ),
            item("3c", "Known inequalities between groups", unmet("Not described.")),
            item(
                "4",
                "Objectives: development, validation or both",
                met("Development with internal evaluation, to test published claims.", "first page"),
            ),
        ),
        "Methods: data and participants": (
            item(
                "5a",
                "Sources of development and evaluation data",
                met(
                    "{n_checked} synthetic patients of one generator (seed {seed}); not representative of patients.",
                    "datasheet",
                    when="phantom",
                ),
                partly(
                    "The cohort {cohort}, {n_checked} patients, split in two; origin and representativeness are yours to state.", "cohort"
                ),
            ),
            item("5b", "Dates of accrual and follow-up", not_applicable("No patient was recruited.", when="phantom"), unmet(YOURS)),
            item(
                "6a",
                "Setting and centres",
                not_applicable(NOBODY + " {n_scanners} scanners are simulated.", "datasheet", when="phantom"),
                unmet(YOURS),
            ),
            item(
                "6b",
                "Eligibility criteria",
                met("Every generated patient whose files are sound: {n_sound} of {n_checked}.", "cohort", when="phantom"),
                partly("Sound files: {n_sound} of {n_checked}. Clinical criteria are yours to state.", "cohort, own data"),
            ),
            item("6c", "Treatments", not_applicable("None is simulated.", "unlike life", when="phantom"), unmet(YOURS)),
        ),
        "Methods: preparation and outcome": (
            item(
                "7",
                "Preparation and quality checks",
                met("Checks of every file, {normalisation}, slices; the same for every patient.", "cohort, own data"),
            ),
            item(
                "8a",
                "Outcome and time horizon",
                met("LGG or HGG, drawn before the image; a diagnosis, without a horizon.", "datasheet, grading", when="phantom"),
                partly("LGG or HGG as your files say; how and when it was assessed is yours to state.", "own data"),
            ),
            item("8b", "Who assessed the outcome", not_applicable("Nobody: it is drawn.", "datasheet", when="phantom"), unmet(YOURS)),
            item("8c", "Blinding of the assessment", not_applicable("Nobody assessed it.", when="phantom"), unmet(YOURS)),
        ),
        "Methods: predictors": (
            item(
                "9a",
                "Choice of initial predictors",
                met("The counts of all {K} codewords, none selected beforehand.", "histograms, grading"),
            ),
            item(
                "9b",
                "Definition of the predictors",
                met("How often each codeword occurs in a patient; the network sees no grade.", "histograms"),
            ),
            item("9c", "Who measured them, if subjective", not_applicable("They are computed.")),
        ),
        "Methods: sample size and missing data": (
            item(
                "10",
                "Sample size",
                unmet(
                    "{n_segmentation} and {n_graded} patients, as the profile “{profile}” asks for; no calculation was made.",
                    when="phantom",
                ),
                unmet("All patients of your folder: {n_segmentation} and {n_graded}; no calculation was made."),
            ),
            item(
                "11",
                "Missing data",
                met("Patients with a missing image are refused ({n_left_out} left out{reasons}); nothing is imputed.", "cohort, own data"),
            ),
        ),
        "Methods: analysis": (
            item(
                "12a",
                "How the data were used and partitioned",
                met(
                    "{n_segmentation} train the network, {n_graded} others are graded in {folds} folds × {repeats} repeats.",
                    "cohort, grading",
                ),
            ),
            item("12b", "Handling of predictors", met("log(1 + count), standardised inside the training folds.", "grading")),
            item(
                "12c",
                "Model, building steps, tuning, internal validation",
                met(
                    "L2 logistic regression; number of codewords and penalty by inner folds; the published protocol beside it.",
                    "grading, deviations",
                ),
            ),
            item(
                "12d",
                "Heterogeneity between clusters",
                unmet("Simulated scanners are not looked at one by one.", when="phantom"),
                unmet("Centres are not read from your files."),
            ),
            item(
                "12e",
                "Measures and plots of performance, comparison of models",
                met(
                    "Discrimination, calibration, decision curve; {models} models on the same folds.",
                    "models, calibration, decision curve",
                    when="decided",
                ),
                partly(
                    "Discrimination, calibration; {models} models on the same folds. Clinical utility is not measured.",
                    "models, calibration",
                ),
            ),
            item("12f", "Model updating", not_applicable("No model is updated.")),
            item(
                "12g",
                "How predictions were calculated",
                met("Out of fold; for new patients `drlib grade` with the coefficients in `classifier.json`.", "grading, model card"),
            ),
        ),
        "Methods: imbalance, fairness, output, ethics": (
            item(
                "13",
                "Class imbalance",
                not_applicable("No method against it is used: {n_lgg} LGG, {n_hgg} HGG; folds are stratified.", "grading"),
            ),
            item(
                "14",
                "Fairness",
                not_applicable(NOBODY + " There are no groups.", when="phantom"),
                unmet("Not addressed: age, sex and origin are not read from your files."),
            ),
            item(
                "15",
                "Output and thresholds",
                met("Probability of HGG; one half where an answer is needed; both grades as the positive one.", "grading, positive class"),
            ),
            item("16", "Differences between development and evaluation", met("None: both parts are drawn alike.", "cohort")),
            item("17", "Ethical approval and consent", not_applicable(NOBODY, "datasheet", when="phantom"), unmet(YOURS)),
        ),
        "Open science and involvement": (
            item("18a", "Funding", unmet("The book does not state any.")),
            item("18b", "Conflicts of interest", unmet("The book does not state any.")),
            item("18c", "Protocol", unmet("None was written in advance.")),
            item("18d", "Registration", unmet("The study was not registered.")),
            item("18e", "Data sharing", met("Made again, byte for byte, by `drlib phantom`.", "datasheet", when="phantom"), unmet(YOURS)),
            item("18f", "Code sharing", met("All code, MIT licence, drlib {drlib}.", "status")),
            item("19", "Involvement of patients and the public", unmet("None.")),
        ),
        "Results: participants": (
            item(
                "20a",
                "Flow of participants",
                met(
                    "{n_checked} checked, {n_left_out} left out, {n_segmentation} for the network, {n_graded} graded: {n_lgg} LGG, "
                    "{n_hgg} HGG.",
                    "cohort",
                ),
            ),
            item(
                "20b",
                "Characteristics",
                partly("Grade and tumour volumes beside Table 1 of the paper; phantoms have no demographics.", "cohort", when="phantom"),
                partly("Grade and tumour volumes; demographics are not read from your files.", "cohort"),
            ),
            item("20c", "Evaluation beside development data", unmet("Volumes are shown of the graded patients alone.", "cohort")),
        ),
        "Results: model": (
            item(
                "21",
                "Participants and outcomes per analysis",
                met(
                    "Network: {n_training}; Dice: {n_segmented}; grading: {n_graded} with {n_hgg} HGG; every claim names its n.",
                    "segmentation, grading, verdict",
                ),
            ),
            item(
                "22",
                "Full model for new patients",
                met("Weights, codebook and coefficients in one folder, codebook {codebook}; free to use.", "model card, own data"),
            ),
            item(
                "23a",
                "Performance with intervals, and in subgroups",
                partly("Accuracy {grading_accuracy}; AUC {grading_auc}. No subgroups.", "grading"),
            ),
            item("23b", "Heterogeneity of performance", not_applicable("Not examined (12d).")),
            item("24", "Results of updating", not_applicable("No model is updated.")),
        ),
        "Discussion": (
            item(
                "25",
                "Interpretation, with fairness",
                partly("Every claim has a verdict: {n_hold} hold, {n_fail} do not, of {n_claims}. Fairness is not discussed.", "verdict"),
            ),
            item(
                "26",
                "Limitations",
                met(
                    "What phantoms cannot show, the size of the cohort, what an interval covers.",
                    "unlike life, verdict, model card",
                    when="phantom",
                ),
                partly(
                    "The size of the cohort, what an interval covers. Those of the cohort {cohort} are yours to state.",
                    "verdict, model card",
                ),
            ),
            item(
                "27a",
                "Poor or missing input in use",
                met("Damaged, missing, blank or misaligned images are refused by name; the others go on.", "own data"),
            ),
            item(
                "27b",
                "What users must do and know",
                met("One command, no interaction; images must be co-registered and skull-stripped.", "own data, model card"),
            ),
            item(
                "27c",
                "Next steps",
                partly(
                    "The same series on BraTS, by one argument. Other cohorts and sites are named, not planned in detail.",
                    "verdict, own data",
                ),
            ),
        ),
    },
)
