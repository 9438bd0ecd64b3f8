"""What ``import drlib`` offers: the shipped codebook in three lines of Python (drlib.series.library)."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import drlib
from drlib.cohort.phantom.cohort import draw_cohort, write_patient
from drlib.profiles import load_profile
from drlib.segmentation.model import shipped_model
from drlib.series.library import PatientWarning

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> Path:
    """Three patients of the smoke phantom, one of whose FLAIR images is cut."""
    root = tmp_path_factory.mktemp("phantoms")
    settings = load_profile("smoke").cohort
    for draw in draw_cohort(settings, seed=0)[:3]:
        write_patient(draw, root, settings.spacing_mm)
    broken = sorted(root.rglob("*_flair.nii.gz"))[0]
    broken.write_bytes(broken.read_bytes()[:-2000])
    return root


def test_three_lines_count_the_codewords_of_the_shipped_codebook(phantoms):
    model = drlib.open_model()
    with pytest.warns(PatientWarning, match=r"_flair.nii.gz: .*Copy the file again"):
        table = drlib.extract_features(phantoms, model)
    counts = table.filter(regex=r"^codeword_\d{3}$")
    assert counts.shape == (2, 512) and table["patient"].is_unique
    assert (counts.sum(axis=1) == table["n_slices"] * table["latent_positions"]).all()
    assert (counts > 0).sum(axis=1).min() > 50, "patients are described by many codewords"


@pytest.mark.parametrize("document", ["README.md", "book/own_data.md"])
def test_lines_that_documents_print_run_as_they_stand(document, phantoms):
    lines = re.search(r"```python\n(.+?)```", (ROOT / document).read_text(), re.DOTALL)[1]
    assert len([line for line in lines.splitlines() if line]) == 3
    names: dict = {}
    with pytest.warns(PatientWarning):
        exec(lines.replace("/folder/of/patients", str(phantoms)), names)
    assert len(names["table"]) == 2


def test_every_row_says_what_made_it(phantoms):
    model = drlib.open_model(precision="fp32")
    with pytest.warns(PatientWarning):
        table = drlib.extract_features(str(phantoms), model)
    assert set(table["network"]) == {"phantom-trained, comes with drlib"} and set(table["precision"]) == {"fp32"}
    assert set(table["model"]) == {model.hash} and set(table["drlib"]) == {drlib.__version__}
    assert set(table["profile"]) == {model.model.card["profile"]["name"]}


def test_command_and_library_count_alike(phantoms, tmp_path):
    command = [sys.executable, "-m", "drlib.series.cli", "features", str(phantoms), "--model", "shipped", "--out", str(tmp_path / "t.csv")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, "one patient cannot be read"
    with pytest.warns(PatientWarning):
        table = drlib.extract_features(phantoms)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "t.csv"), table, check_dtype=False)


def test_a_folder_of_a_model_is_opened_as_the_shipped_one(phantoms):
    named, shipped = drlib.open_model(shipped_model("demo")), drlib.open_model()
    assert named.hash == shipped.hash and named.origin == shipped.origin
    np.testing.assert_array_equal(*(model.model.network.quantizer.codebook.detach() for model in (named, shipped)))


def test_import_is_quick_and_names_what_there_is():
    code = "import sys, drlib; print(sorted(drlib.__all__), [m for m in ('torch', 'pandas', 'numpy', 'typer') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "['extract_features', 'open_model'] []"
    )
    assert set(drlib.__all__) <= set(dir(drlib))
    with pytest.raises(AttributeError, match="extract_features, open_model"):
        drlib.extract_feature  # noqa: B018
