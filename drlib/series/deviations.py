"""Every place where this book differs from the paper's text or from the published code: why, how to switch it off, and what it changes.

The list is data; what each difference changes is read from the studies or computed here, never typed. One that cannot be measured says why.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pandas as pd
from IPython.display import Markdown

from drlib.profiles import load_profile
from drlib.radiomics.null_models import compare_region_tests, count_false_discoveries
from drlib.radiomics.statistics import seed_interval
from drlib.seeds import generator
from drlib.series import errata
from drlib.series.run import Run
from drlib.series.studies.changes import JUDGED, judge_changes
from drlib.series.studies.corrections import Corrections, open_corrections
from drlib.series.studies.likelihood_ratio import LikelihoodRatio, open_likelihood_ratio

SHOWN = ("codewords_used", "dice_WT", "dice_ET", "auc_ours")  # of a correction, on the page
TOPICS = ("patients", "quantizer", "training", "network", "dice", "grading", "interpretation")


@dataclass(frozen=True)
class Measured:
    """What the effects are read from: the shipped studies, and small computations, each made when it is first asked for."""

    run: Run

    @cached_property
    def corrections(self) -> Corrections:
        """The ladder of corrections (chapter 03b)."""
        return open_corrections()

    @cached_property
    def changes(self) -> pd.DataFrame:
        """What each correction changed, in pairs over seeds."""
        return judge_changes(self.corrections).set_index(["rung", "measure"])

    @cached_property
    def likelihood_ratio(self) -> LikelihoodRatio:
        """The simulation of the effect likelihood-ratio test (chapter 09)."""
        return open_likelihood_ratio()

    @cached_property
    def examples(self) -> list[errata.Example]:
        """An HGG and an LGG phantom, made on the fly."""
        return errata.make_examples(self.run.seed)

    @property
    def last(self) -> pd.DataFrame:
        """The rows of the highest rung: everything corrected, one per seed."""
        rows = self.corrections.rows
        return rows[rows["rung"] == rows["rung"].max()]


@dataclass(frozen=True)
class Deviation:
    """One difference.

    Attributes:
        topic: one of TOPICS.
        place: where theirs stands: a section of the paper, or ``code``.
        theirs, ours, why: in Markdown.
        switch: what goes behind a profile's name to have theirs; empty where ``call`` has it.
        call: the dotted name of the function that does theirs, or shows both; empty where there is a switch.
        effect: from what is measured to words (ours against theirs); a plain text says why it cannot be measured here.
    """

    topic: str
    place: str
    theirs: str
    ours: str
    why: str
    effect: Callable[[Measured], str] | str
    switch: str = ""
    call: str = ""

    def tell_effect(self, measured: Measured) -> str:
        """Return the measured effect, or why there is none."""
        return f"not measurable here: {self.effect}" if isinstance(self.effect, str) else self.effect(measured)

    def check(self) -> None:
        """Raise ProfileError, ImportError or AttributeError where the switch or the call does not exist."""
        if self.switch:
            load_profile(f"demo+{self.switch}")
        else:
            module, _, name = self.call.rpartition(".")
            getattr(importlib.import_module(module), name)


def _of_rung(measured: Measured, rung: int, note: str = "") -> str:
    """Return what a correction changed, measure by measure, against the rung below it."""
    parts = []
    for measure in SHOWN:
        found = measured.changes.loc[(rung, measure)]
        digits = 1 if measure == "codewords_used" else 2
        numbers = f"{found['difference']:+.{digits}f} [{found['low']:+.{digits}f}, {found['high']:+.{digits}f}]"
        parts.append(f"{JUDGED[measure]} {numbers}{'' if found['change'] == 'not clear' else ' **clear**'}")
    return f"{'; '.join(parts)}{note}. Rung {rung} of {{ref}}`the ladder <chapter-corrections>`"


def _rung(number: int, note: str = "") -> Callable[[Measured], str]:
    return partial(_of_rung, rung=number, note=note)


def _interval(values: pd.Series) -> str:
    found = seed_interval(values)
    return f"{found.estimate:+.3f} [{found.low:+.3f}, {found.high:+.3f}] (mean over {len(values)} seeds)"


def _patients(measured: Measured) -> str:
    stated, counted = errata.N_STATED, errata.N_LGG + errata.N_HGG
    return f"{stated - counted} patients fewer; always answering the commoner grade scores {errata.N_HGG / counted:.3f}"


def _blank(measured: Measured) -> str:
    image = errata.blank_modality(measured.examples[0]).images[3]
    return f"{np.isnan(errata.plain_z_score(image[image > 0])).mean():.0%} of the values in the brain would not be numbers"


def _transposed(measured: Measured) -> str:
    shares = [errata.transposition_errors(example) for example in measured.examples]
    return f"counts: none. Positions that get another code in the transposed map: {min(shares):.0%} and {max(shares):.0%} of two slices"


def _whole_tumour(measured: Measured) -> str:
    return f"Dice of WT, same predictions: {_interval(measured.last['dice_WT'] - measured.last['dice_WT_without_ET'])}"


def _positive_class(measured: Measured) -> str:
    table = errata.positive_class_table()["accuracy"]
    return f"accuracy that follows from the published rates: {table.iloc[1]:.3f} if LGG is positive, {table.iloc[2]:.3f} if HGG is"


def _protocol(measured: Measured) -> str:
    rows = measured.last
    accuracy, auc = (_interval(rows[f"{metric}_ours"] - rows[f"{metric}_paper"]) for metric in ("accuracy", "auc"))
    return f"accuracy {accuracy}; AUC {auc}"


def _baseline(measured: Measured) -> str:
    row, (_, grades, whose) = errata.nested_volumes(measured.run).summary.loc["accuracy"], errata.open_volumes(measured.run)
    common = grades.value_counts(normalize=True).max()
    volumes = "{estimate:.3f} [{low:.3f}, {high:.3f}]".format(**row)
    return f"accuracy of three volumes {volumes}, of always the commoner grade {common:.3f}: {whose}"


def _effect_test(measured: Measured) -> str:
    table = errata.effect_test_table(measured.likelihood_ratio)
    at = table.loc[100]
    level = f"{at['false_positive']:.2f} [{at['false_positive_low']:.2f}, {at['false_positive_high']:.2f}]"
    exists = "{tested:.0f} of {data_sets:.0f} data sets".format(**table.loc[160])
    return f"level of the nominal .05 test: {level} with 100 covariates; with 160 it exists in {exists}"


def _multiplicity(measured: Measured) -> str:
    random = generator(measured.run.seed, "deviations", "discoveries")
    found = count_false_discoveries(errata.N_LGG, errata.N_HGG, errata.N_CODEWORDS, 10, random).mean()
    means = "{plain:.1f} without adjustment, {adjusted:.1f} with it".format(**found)
    return f"codewords that pass where none tells anything: {means} (mean of 10 simulated cohorts)"


def _rank_test(measured: Measured) -> str:
    signed = errata.compare_rank_tests(errata.draw_counts(measured.run.seed), seed=measured.run.seed).iloc[1]
    return f"p of the signed-rank test between {signed['lowest']:.2g} and {signed['highest']:.2g}, as the patients happen to be paired"


def _paired_regions(measured: Measured) -> str:
    found = compare_region_tests(100, (0.5,), (0.0, 0.3), 1000, generator(measured.run.seed, "deviations", "regions"))
    share = found.pivot(index="effect", columns="test", values="share")
    false, power = ("{Kruskal-Wallis:.3f} and {Friedman:.3f}".format(**share.loc[effect]) for effect in (0.0, 0.3))
    tests = "Kruskal-Wallis and Friedman, where half of the variance is the patient's own"
    return f"{tests}: false finds {false}, power {power} (1000 simulated cohorts of 100)"


def _sums(measured: Measured) -> str:
    tables = [errata.uniform_change_table(example)["sum"] for example in measured.examples]
    ratios = " and ".join(f"{table.max() / table.min():.1f}" for table in tables)
    return f"of a change that is the same everywhere, the largest sum is {ratios} times the smallest (two phantoms); the means are equal"


def _refitted(measured: Measured) -> str:
    gains = errata.refitting_gains(measured.corrections).iloc[-2:]
    words = [f"{kind} {row['difference']:+.2f} [{row['95 % low']:+.2f}, {row['95 % high']:+.2f}]" for (_, kind), row in gains.iterrows()]
    return f"accuracy, refitted minus frozen, at magnitude 1: {'; '.join(words)}"


def _locality(measured: Measured) -> str:
    shares = errata.measure_locality(measured.examples).groupby("variant")["share_outside"].median()
    frozen = f"with the statistics of the normalisation frozen {shares['statistics frozen']:.0%}"
    return f"median share of the change outside the position's cell: {shares['as it is']:.0%}, {frozen}"


TOGETHER = " (the five settings of the optimizer together)"
SHORT = " (both settings together)"
DEVIATIONS = (
    Deviation(
        "patients",
        "Methods, Dataset",
        "BraTS 2019 {cite:p}`menze2015,bakas2017`",
        "phantoms, or your own folder",
        "BraTS may not be redistributed; the authors' own training labels were never released: no one can replicate the numbers exactly",
        "BraTS is not here; run the book with `DATA=folder` and compare the two verdicts",
        call="drlib.series.run.open_run",
    ),
    Deviation(
        "patients",
        "Methods, Dataset",
        "355 patients",
        "335: 76 LGG and 259 HGG",
        "the two numbers of the same sentence ({ref}`errata-patients`)",
        _patients,
        call="drlib.series.errata.count_patients",
    ),
    Deviation(
        "patients",
        "Methods, Preprocessing",
        "z-score over all voxels of the brain",
        "mean and deviation over the 0.5th to 99.5th percentile",
        "one saturated voxel ruins a plain z-score",
        _rung(8),
        switch="preprocessing.normalisation=z-score",
    ),
    Deviation(
        "patients",
        "code",
        "the background stays at minus mean over deviation",
        "a constant, the same for all patients",
        "it differed from patient to patient, while rotation fills in 0, the mean of the brain ({ref}`errata-background`)",
        _rung(9),
        switch="preprocessing.background=null",
    ),
    Deviation(
        "patients",
        "code",
        "a blank modality becomes NaN",
        "refused, by name",
        "nothing wrong may pass silently",
        _blank,
        call="drlib.series.errata.plain_z_score",
    ),
    Deviation(
        "quantizer",
        "code",
        "moving averages start with counts at 0 and sums at the codewords",
        "counts and sums start together",
        "the first update divides by almost nothing: the codebook explodes in step 1, and most codewords are lost for long "
        "({ref}`errata-codebook`)",
        _rung(2),
        switch="quantizer.bias_correction=false",
    ),
    Deviation(
        "quantizer",
        "code",
        "random first codewords",
        "k-means centres of the first latents",
        "more codewords find latents",
        _rung(3),
        switch="quantizer.kmeans_start=false",
    ),
    Deviation(
        "quantizer",
        "code",
        "dead codewords stay dead",
        "after 20 batches without a latent they restart at one",
        "a codebook does not follow an encoder that still moves fast",
        _rung(4),
        switch="quantizer.revive_dead=false",
    ),
    Deviation(
        "quantizer",
        "code",
        "$\\beta = 1$",
        "0.25, as in {cite:t}`oord2017`",
        "weaker pull while the codebook is young",
        _rung(5),
        switch="quantizer.commitment=1.0",
    ),
    Deviation(
        "quantizer",
        "Methods and code",
        "quantization from the first step",
        "the encoder trains some epochs before",
        "latents have a meaning before they are grouped",
        _rung(6),
        switch="quantizer.start_epoch=0",
    ),
    Deviation(
        "training",
        "code",
        "soft Dice pooled over all classes of a batch",
        "averaged over the classes",
        "pooled, the rarest class (ET) is given up",
        _rung(7),
        switch="training.dice=pooled",
    ),
    Deviation(
        "training",
        "Methods and code",
        "learning rate 10⁻⁴ throughout",
        "a higher rate that rises and falls once, in `smoke` and `demo`",
        "a laptop's budget of steps",
        _rung(1, TOGETHER),
        switch="training.learning_rate=0.0001+training.schedule=constant",
    ),
    Deviation(
        "training",
        "code",
        "decay 0.9999 of Adam's squares, weight decay 10⁻⁵, no clipping",
        "Adam's usual decay, no weight decay, gradients clipped, in `smoke` and `demo`",
        "the same budget",
        _rung(1, TOGETHER),
        switch="training.betas=[0.9,0.9999]+training.weight_decay=0.00001+training.gradient_clip=null",
    ),
    Deviation(
        "training",
        "Methods and code",
        "blank slices train too",
        "one per patient",
        "they are all alike",
        _rung(10, SHORT),
        switch="training.blank_slices=true",
    ),
    Deviation(
        "training",
        "Methods and code",
        "every slice once per epoch",
        "tumour slices drawn more often, in `smoke` and `demo`",
        "a laptop's budget",
        _rung(10, SHORT),
        switch="training.tumour_share=null+training.slices_per_epoch=null",
    ),
    Deviation(
        "training",
        "Methods",
        "training from random weights",
        "`demo` continues from a model that comes with the library, trained on other phantoms",
        "a laptop's budget",
        "a training of `demo` from random weights takes longer than the whole book; `+from-scratch` makes the comparison",
        switch="from-scratch",
    ),
    Deviation(
        "network",
        "code",
        "index maps are transposed",
        "as in the image",
        "harmless for counts, wrong for overlays, fails where a slice is not square ({ref}`errata-transposed`)",
        _transposed,
        call="drlib.radiomics.receptive_field.transposed_index_map",
    ),
    Deviation(
        "network",
        "code",
        "pre-activation blocks, no residual block at 32 filters",
        "as the text says",
        "text and code differ ({ref}`errata-text-code`)",
        "it is another network, not a setting of this one",
        call="drlib.series.errata.text_and_code",
    ),
    Deviation(
        "network",
        "code",
        "the published encoder cannot run",
        "runs",
        "an attribute shadows one of the framework's ({ref}`errata-encoder`)",
        "a network that does not run has no result",
        call="drlib.series.errata.ShadowedByModules",
    ),
    Deviation(
        "network",
        "Methods",
        "index map of 8 × 8 cells, of 30 mm",
        "16 × 16 in `demo`, cells of 16 mm; 8 × 8 in `smoke` and `paper`",
        "at equal, short training on a laptop the finer map segments much better",
        "it takes two trainings of `demo` from random weights; the switch makes one of them",
        switch="network.filters=[16,32,64,64,64]+training.start_from=null",
    ),
    Deviation(
        "dice",
        "code",
        "whole tumour without ET (`logical_or` with three arguments)",
        "WT is NET, ED and ET",
        "this is how WT could be published below TC ({ref}`errata-whole-tumour`)",
        _whole_tumour,
        call="drlib.series.errata.whole_tumour_as_published",
    ),
    Deviation(
        "grading",
        "Methods, Classification models",
        "HGG is positive",
        "both conventions, always",
        "only LGG as the positive class gives the published numbers ({ref}`errata-positive`)",
        _positive_class,
        call="drlib.series.errata.positive_class_table",
    ),
    Deviation(
        "grading",
        "Results",
        "raw counts, one unstratified five-fold split",
        "log counts; stratified, repeated, nested. Theirs is a row of the same table ({ref}`chapter-grading`)",
        "one split is one draw",
        _protocol,
        call="drlib.radiomics.grading.cross_validate",
    ),
    Deviation(
        "grading",
        "Results",
        "no baseline",
        "volumes, true and predicted, ET/TC, an intensity histogram, always the commoner grade; paired differences to each",
        "259 of 335 are HGG, so that never looking scores .773 ({ref}`errata-volumes`)",
        _baseline,
        call="drlib.radiomics.grading.volume_features",
    ),
    Deviation(
        "grading",
        "Methods, Identification of responsible vectors",
        "effect likelihood-ratio test, with up to 512 covariates and 335 patients",
        "$K^*$ is chosen on one half and tested on the other, repeatedly {cite:p}`meinshausen2009,meinshausen2010`; Firth's likelihood "
        'under separation {cite:p}`firth1993,heinze2002`. Theirs, as far as it is defined: `ResponsibleSettings(procedure="paper")`',
        "the grades are separable in 512 counts, both likelihoods are 1, the test is undefined ({ref}`errata-likelihood-ratio`)",
        _effect_test,
        call="drlib.radiomics.responsible.find_responsible",
    ),
    Deviation(
        "grading",
        "Results",
        "mean and standard deviation over five folds",
        "intervals over patients, and over training sets {cite:p}`nadeau2003`; calibration and decision curves "
        "{cite:p}`vancalster2016,vickers2006`",
        "five folds share their training patients, and a grade is acted on by its probability",
        "both stand beside the paper's way in {ref}`grading-folds` and {ref}`grading-calibration`",
        call="drlib.radiomics.statistics.corrected_resampled_interval",
    ),
    Deviation(
        "grading",
        "Results",
        "no look for leaks",
        "twins, mirrored or not, are left out; a control grades from slices without tumour",
        "either would let a classifier grade without looking at the tumour ({ref}`grading-leaks`)",
        "none where there is none; in cohorts made to leak, see {ref}`known-truth-leaks`",
        call="drlib.radiomics.leaks.find_twins",
    ),
    Deviation(
        "grading",
        "Methods",
        "no correction for up to 512 tests",
        "Benjamini-Hochberg beside the plain p {cite:p}`benjamini1995`",
        "512 tests at .05 find about 26 codewords in noise ({ref}`errata-multiplicity`)",
        _multiplicity,
        call="drlib.radiomics.statistics.benjamini_hochberg",
    ),
    Deviation(
        "grading",
        "Methods and Results",
        "Wilcoxon signed-rank",
        "rank-sum {cite:p}`mann1947`",
        "patients of two grades are not pairs ({ref}`errata-signed-rank`)",
        _rank_test,
        call="drlib.radiomics.statistics.rank_sum",
    ),
    Deviation(
        "interpretation",
        "code",
        "the classifier is fitted again to perturbed images; the text tests the one that was fitted before",
        "both, as *frozen* and *refitted*",
        "they answer different questions ({ref}`errata-refit`, {ref}`chapter-robustness`)",
        _refitted,
        call="drlib.radiomics.robustness.sweep",
    ),
    Deviation(
        "interpretation",
        "Methods, Robustness",
        "magnitudes in steps of 0.1, every slice",
        "steps of 0.2 and every fourth slice in `demo`",
        "a laptop's budget",
        "on every slice the sweep takes four times as long; the switch makes the comparison",
        switch="robustness.every=1+robustness.magnitudes=[0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1]",
    ),
    Deviation(
        "interpretation",
        "Methods, Robustness",
        "z-scored pixels are scaled and shifted, background included",
        "beside it, what scanners do before z-scoring: bias field, noise, gain, contrast, slice thickness, blur, a missing scan",
        "z-scoring undoes a gain, and no scanner shifts a z-score",
        "measured on the patients of the run, in {ref}`chapter-robustness`",
        call="drlib.radiomics.scanners.scan_again",
    ),
    Deviation(
        "interpretation",
        "Discussion, Limitations",
        "that quantization suppresses perturbations is conjectured",
        "the steps of codewords are measured against those of the latents",
        "a latent that does not keep its code leaps to another",
        "measured on the patients of the run, in {ref}`chapter-robustness`",
        call="drlib.radiomics.absorption.measure_movement",
    ),
    Deviation(
        "interpretation",
        "Methods, Feature ablation study",
        "Kruskal-Wallis and Dunn over regions",
        "the same, and Friedman with paired Wilcoxon and Holm beside it",
        "three regions of one patient are not three patients ({ref}`errata-multiplicity`)",
        _paired_regions,
        call="drlib.radiomics.statistics.compare_regions",
    ),
    Deviation(
        "interpretation",
        "Results",
        "sums over a region",
        "means per voxel, sums beside them",
        "sums grow with the region ({ref}`errata-multiplicity`)",
        _sums,
        call="drlib.radiomics.ablation.region_values",
    ),
    Deviation(
        "interpretation",
        "Methods, Feature ablation study",
        "the responsible region is what a codeword encodes",
        "the share of the change outside the codeword's own cells is reported, with the normalisation live and frozen",
        "a latent position sees much of the slice, and group normalisation carries a change to every pixel ({ref}`errata-locality`)",
        _locality,
        call="drlib.radiomics.ablation.share_outside",
    ),
    Deviation(
        "interpretation",
        "Results",
        "the region of the greatest change is that of the responsible codewords",
        "random codewords as frequent are ablated beside them",
        "the region says something of these codewords only if others do otherwise",
        "measured on the patients of the run, in {ref}`ablation-control`",
        call="drlib.radiomics.ablation_control.matched_sets",
    ),
)


def show_topic(topic: str, measured: Measured) -> Markdown:
    """Return the deviations of a topic as a definition list in MyST Markdown, each with its switch and its measured effect."""
    chosen = [deviation for deviation in DEVIATIONS if deviation.topic == topic]
    return Markdown("\n\n".join(_entry(deviation, measured) for deviation in chosen))


def count_deviations() -> pd.DataFrame:
    """Return, per topic, how many deviations there are, and how many have a measured effect and a profile switch."""
    rows = {}
    for topic in TOPICS:
        chosen = [deviation for deviation in DEVIATIONS if deviation.topic == topic]
        measured = sum(not isinstance(deviation.effect, str) for deviation in chosen)
        switches = sum(bool(deviation.switch) for deviation in chosen)
        rows[topic] = {
            "deviations": len(chosen),
            "with a measured effect": measured,
            "by a switch": switches,
            "by a call": len(chosen) - switches,
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    return pd.concat([table, table.sum().to_frame("all").T]).rename_axis("topic")


def _entry(deviation: Deviation, measured: Measured) -> str:
    how = f"**Switch:** `+{deviation.switch}`" if deviation.switch else f"**Call:** `{deviation.call}`"
    return "\n".join(
        [
            f"{deviation.theirs} ({deviation.place})",
            f": **Here:** {deviation.ours}. **Why:** {deviation.why}. {how}.",
            "",
            f"  **Effect:** {deviation.tell_effect(measured)}.",
        ]
    )
