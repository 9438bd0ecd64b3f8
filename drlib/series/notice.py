"""The notice on everything that shows predictions: research only, and whether phantoms trained the network."""

from drlib.profiles import Profile

RESEARCH_ONLY = "Research only"
PHANTOM_TRAINED = "phantom-trained"


def phantom_trained(profile: Profile, cohort: str) -> bool:
    """Return whether phantoms trained a network, wholly or before it went on with ``cohort``: every shipped model is of phantoms alone."""
    return cohort == "phantom" or profile.training.start_from is not None


def network_origin(profile: Profile, cohort: str) -> str:
    """Return in a few words what trained the network of a profile: ``phantom-trained``, alone or before a user's cohort."""
    if cohort == "phantom":
        return PHANTOM_TRAINED
    if phantom_trained(profile, cohort):
        return f"{PHANTOM_TRAINED}, then trained on the cohort {cohort}"
    return f"trained on the cohort {cohort}"


def prediction_notice(profile: Profile, cohort: str) -> str:
    """Return the sentence that stands wherever a prediction is shown, in plain text."""
    return f"{RESEARCH_ONLY}: no medical device, no basis for a decision about a patient. Network: {network_origin(profile, cohort)}."
