"""The checklists, the model card and the notices on predictions (drlib.series.reporting, drlib.series.notice)."""

import re
from pathlib import Path

import pytest

from drlib.figures import plot_tally
from drlib.profiles import load_profile
from drlib.series.book import cohort_banner
from drlib.series.notice import network_origin, prediction_notice
from drlib.series.reporting import CHECKLISTS, Facts, answer_checklist, describe_model, heaviest_gaps, metrics_score, tally_checklists
from drlib.series.reporting.facts import with_interval
from drlib.series.reporting.model_card import card_markdown
from drlib.series.reporting.places import PLACES, find_labels, link_to
from drlib.series.workflow import Series

ROOT = Path(__file__).parents[1]
METRICS_WEIGHTS = (  # of the authors' online tool
    *(0.037, 0.074, 0.092, 0.044, 0.029, 0.044, 0.029, 0.034, 0.022, 0.011, 0.062, 0.031, 0.041, 0.02, 0.02, 0.03, 0.02, 0.06, 0.03),
    *(0.035, 0.023, 0.018, 0.012, 0.029, 0.018, 0.037, 0.075, 0.007, 0.007, 0.007),
)
TRIPOD_AI_PARTS = {"3": "c", "5": "b", "6": "c", "8": "c", "9": "c", "12": "g", "18": "f", "20": "c", "23": "b", "27": "c"}  # the last


class Anything(dict):
    """A run that knows an answer to every question, the same one."""

    def __missing__(self, name: str) -> str:
        return "7"


def facts(*flags: str) -> Facts:
    return Facts(Anything(), frozenset(flags), find_labels(ROOT))


PHANTOM, OWN = facts("phantom", "phantom-trained", "segmented", "permuted"), facts("own")
each_checklist = pytest.mark.parametrize("checklist", CHECKLISTS.values(), ids=lambda checklist: checklist.key)


def test_checklists_have_the_published_items_in_the_published_order():
    assert [item.number for item in CHECKLISTS["claim"].items] == [str(number) for number in range(1, 45)]
    parts = {number: "abcdefg"[: "abcdefg".index(last) + 1] for number, last in TRIPOD_AI_PARTS.items()}
    due = [f"{number}{part}" for number in map(str, range(1, 28)) for part in parts.get(number, [""])]
    assert [item.number for item in CHECKLISTS["tripod-ai"].items] == due and len(due) == 52
    assert [item.number for item in CHECKLISTS["metrics"].items] == [str(number) for number in range(1, 31)]
    assert tuple(item.weight for item in CHECKLISTS["metrics"].items) == METRICS_WEIGHTS
    assert len(CHECKLISTS["metrics"].sections) == 9


@each_checklist
def test_every_answer_gives_evidence_or_a_reason_and_what_is_met_has_a_place(checklist):
    for item in checklist.items:
        for answer in item.answers:
            assert len(answer.says) > 4, item.number
            assert answer.status != "met" or answer.at, f"{checklist.name} {item.number} is met, but nowhere to be seen"
            assert {place.strip() for place in answer.at.split(",") if place.strip()} <= set(PLACES), item.number


@each_checklist
def test_numbers_in_answers_come_from_the_run(checklist):
    """No digit is typed that a run could know: only names of things (Eq. 5, Table 1, T1, 95 %) and parts of checklists have digits."""
    for item in checklist.items:
        for answer in item.answers:
            typed = re.sub(r"\{[^}]*\}|SHA-256|Table 1|T1(ce)?|T2|95 %|[Cc]ondition \d|\(12d\)|L2|log\(1 \+ count\)", "", answer.says)
            assert not re.search(r"\d", typed), f"{checklist.name} {item.number}: {answer.says}"


@pytest.mark.parametrize("place", PLACES)
def test_every_place_of_the_checklists_is_a_label_of_the_book(place):
    assert link_to(place, find_labels(ROOT)) is not None


def test_a_place_that_moved_is_found_and_one_that_is_gone_gives_way_to_the_next():
    assert link_to("stability", {"chapter-stability": "notebooks/08b_stability"}) == "08b_stability.html#chapter-stability"
    assert link_to("stability", {"chapter-grading": "notebooks/05_grading"}) == "05_grading.html#chapter-grading"
    assert link_to("datasheet", {"datasheet": "book/datasheet"}) == "../book/datasheet.html#datasheet"
    assert link_to("datasheet", {}) is None


def test_external_validation_protocol_and_funding_are_not_claimed():
    for those in (PHANTOM, OWN):
        status = {key: answer_checklist(checklist, those).set_index("number")["status"] for key, checklist in CHECKLISTS.items()}
        assert set(status["claim"][["21", "33", "44"]]) == {"not met"}
        assert set(status["tripod-ai"][["3c", "10", "18a", "18b", "18c", "18d", "19"]]) == {"not met"}
        assert set(status["metrics"][["2", "4", "27"]]) == {"not met"}


def test_another_cohort_gives_other_answers():
    phantom, own = (answer_checklist(CHECKLISTS["tripod-ai"], those).set_index("number") for those in (PHANTOM, OWN))
    assert phantom.loc["17", "status"] == "not applicable" and "no person" in phantom.loc["17", "says"]
    assert own.loc["17", "status"] == "not met" and "yours to state" in own.loc["17", "says"]
    assert phantom.loc["5a", "status"] == "met" and own.loc["5a", "status"] == "partly"
    text = " ".join(" ".join(answer_checklist(checklist, OWN)["says"]) for checklist in CHECKLISTS.values())
    assert "simulated" not in text and "phantom" not in text


def test_metrics_score_is_that_of_the_online_tool():
    """Yes to items 1 to 11 without 9, conditions 3 and 5 no: by hand, (0.478 - 0.022) / (0.998 - 0.031 - 0.020)."""
    table = answer_checklist(CHECKLISTS["metrics"], PHANTOM)
    number = table["number"].astype(int)
    table["status"] = ["not applicable" if n in (12, 17) else "met" if n <= 11 and n != 9 else "partly" for n in number]
    assert metrics_score(table) == pytest.approx(100 * 0.456 / 0.947)
    assert metrics_score(table.assign(status="met")) == 100
    assert metrics_score(table.assign(status="partly")) == 0
    assert heaviest_gaps(table, 1) == "external testing (partly)"


def test_an_item_counts_once_in_the_tally():
    tally = tally_checklists(PHANTOM)
    assert tally.sum(axis=1).tolist() == [44, 52, 30]


def test_conditions_are_all_of_their_parts():
    those = facts("phantom", "has datasheet")
    assert those.holds("") and those.holds("phantom, has datasheet") and those.holds("phantom, not own")
    assert not those.holds("phantom, own") and not those.holds("not phantom")


def test_values_are_written_with_interval_and_number_of_patients():
    assert with_interval({"ours": 0.625, "interval": [0.5, 0.75], "n": 32}) == "0.62 [0.50, 0.75], n = 32"
    assert with_interval({"ours": "ET", "interval": None, "n": 9}) == "ET, n = 9"
    assert with_interval({"ours": None, "interval": None, "n": 0}) == "not computed"


def test_model_card_has_the_sections_of_mitchell_and_knows_whether_phantoms_trained_it():
    card = describe_model(PHANTOM)
    nine = ["Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data", "Quantitative analyses"]
    assert [*card] == [*nine, "Ethical considerations", "Caveats and recommendations", "How to apply it"]
    assert "phantom-trained" in card["Caveats and recommendations"] and "phantoms only" in card["Training data"]["cohort"]
    own = describe_model(OWN)
    assert "phantom-trained" not in own["Caveats and recommendations"] and "supplied by the user" in own["Training data"]["cohort"]
    assert "diagnosis" in card_markdown(own) and "no responsible codeword" in own["Caveats and recommendations"]


@pytest.mark.parametrize(
    ("profile", "cohort", "origin"),
    [
        ("smoke", "phantom", "phantom-trained"),
        ("demo", "phantom", "phantom-trained"),
        ("demo", "hospital", "phantom-trained, then trained on the cohort hospital"),
        ("demo+from-scratch", "hospital", "trained on the cohort hospital"),
        ("paper", "hospital", "trained on the cohort hospital"),
    ],
)
def test_notice_says_phantom_trained_also_where_a_users_cohort_continues_a_shipped_model(profile, cohort, origin):
    assert network_origin(load_profile(profile), cohort) == origin
    assert prediction_notice(load_profile(profile), cohort).startswith("Research only") and origin in prediction_notice(
        load_profile(profile), cohort
    )


def test_banner_of_a_users_cohort_names_it_and_what_trained_the_network(tmp_path):
    folder = tmp_path / "<b>clinic"
    folder.mkdir()
    continued = cohort_banner(Series(tmp_path, "demo", str(folder)))
    assert "Research only, phantom-trained" in continued and "&lt;b&gt;clinic" in continued and "<b>clinic" not in continued
    scratch = cohort_banner(Series(tmp_path, "smoke", str(folder)))
    assert "Research only." in scratch and "phantom" not in scratch


def test_bars_of_the_tally_are_as_long_as_the_shares_they_stand_for():
    tally = tally_checklists(PHANTOM)
    bars = {container.get_label(): [bar.get_width() for bar in container] for container in plot_tally(tally).axes[0].containers}
    expected = tally.div(tally.sum(axis=1), axis="index")
    assert {status: pytest.approx(expected[status].tolist()) for status in tally} == bars
