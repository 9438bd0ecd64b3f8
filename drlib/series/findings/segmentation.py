"""Chapter 03 in numbers: the network, its training, and Dice beside the paper's."""

import pandas as pd

from drlib.cohort.regions import REGIONS
from drlib.figures.segmentation import PAPER_DICE
from drlib.profiles import load_profile
from drlib.segmentation.model import load_model, shipped_model
from drlib.segmentation.network import SegmentationNetwork
from drlib.series.claims import Claim, judge
from drlib.series.findings.intervals import mean_interval
from drlib.series.run import Run
from drlib.series.stages import Segmentation, open_model


def describe_network(run: Run) -> pd.DataFrame:
    """Return the network in numbers, of this profile and of the paper."""
    paper, rows = load_profile("paper"), {}
    for name, profile in (("this profile", run.profile), ("paper", paper)):
        network = SegmentationNetwork(profile.network, profile.quantizer)
        rows[name] = {
            "slice (pixels)": f"{profile.preprocessing.image_size} x {profile.preprocessing.image_size}",
            "filters": "-".join(map(str, profile.network.filters)),
            "index map": f"{profile.latent_size} x {profile.latent_size}",
            "codebook (K x D)": f"{profile.quantizer.codebook_size} x {profile.quantizer.codeword_dim}",
            "parameters": f"{sum(weights.numel() for weights in network.parameters()):,}",
        }
    return pd.DataFrame(rows)


def describe_training(run: Run) -> pd.DataFrame:
    """Return how the model was trained, and, where it continued from a model that comes with the library, how that one was."""
    cards = {"this run": open_model(run).card}
    if run.profile.training.start_from:
        cards["continued from"] = load_model(shipped_model(run.profile.training.start_from)).card
    rows = {name: card["provenance"] | {"profile": card["profile"]["name"]} for name, card in cards.items()}
    shown = ["profile", "seed", "patients", "epochs", "slices_seen", "training_minutes"]
    return pd.DataFrame(rows).reindex(shown).rename_axis("training")


def summarise_dice(run: Run, segmentation: Segmentation) -> pd.DataFrame:
    """Return Dice per region: mean, SD, interval of the mean and number of patients, beside the paper's mean and SD."""
    rows = {}
    for region in REGIONS:
        values = segmentation.dice[region].dropna()
        interval = mean_interval(run, values, "dice", region)
        rows[region] = {
            "mean": interval.estimate,
            "SD": values.std(),
            "95 % low": interval.low,
            "95 % high": interval.high,
            "patients": len(values),
            "paper mean": PAPER_DICE[region][0],
            "paper SD": PAPER_DICE[region][1],
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("region")


def segmentation_claims(run: Run, segmentation: Segmentation) -> list[Claim]:
    """Return one claim per region: the mean Dice over unseen patients."""
    table = summarise_dice(run, segmentation)
    claims = []
    for region, row in table.iterrows():
        interval = (row["95 % low"], row["95 % high"])
        verdict = judge(row["paper mean"], row["mean"], interval)
        statement, label = f"Dice of {region}", "segmentation-dice"
        claims.append(Claim(f"dice_{region}", statement, row["paper mean"], row["mean"], interval, row["patients"], verdict, label))
    return claims
