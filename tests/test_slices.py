"""The slice store gives back what was put in, goes on after a fault, and refuses what is damaged or of other settings."""

import json
import pickle
import shutil

import numpy as np
import pytest
import zarr
from synthetic_patients import SHAPE, write_patient

from drlib.artifacts import ArtifactError
from drlib.cohort import slices as slices_module
from drlib.cohort.brats import find_patients, load_patient
from drlib.cohort.preprocessing import make_slices
from drlib.cohort.slices import SliceStore, build_slice_store
from drlib.profiles import PreprocessingSettings

SETTINGS = PreprocessingSettings(image_size=16)


@pytest.fixture
def cohort(tmp_path):
    for n, (patient, folder) in enumerate({"C": "LGG", "A": "HGG", "B": "."}.items()):
        write_patient(tmp_path / "cohort" / folder / patient, patient, seed=n)
    (tmp_path / "cohort" / "B" / "B_seg.nii.gz").unlink()
    return find_patients(tmp_path / "cohort")


def build(cohort, tmp_path, settings=SETTINGS, spacing_mm=2.0, n_jobs=1):
    return build_slice_store(cohort, tmp_path / "slices.zarr", settings, spacing_mm, n_jobs=n_jobs, progress=False)


def break_file(patient, role="t1"):
    path = patient.files[role]
    path.write_bytes(path.read_bytes()[:-20])


def test_the_store_holds_what_preprocessing_made(cohort, tmp_path):
    store = build(cohort[::-1], tmp_path)
    assert store.patients == ("A", "B", "C") and len(store) == 3
    for patient in cohort:
        due = make_slices(load_patient(patient), SETTINGS, 2.0)
        np.testing.assert_array_equal(store.images(patient.id), due.images)
        assert store.images(patient.id).dtype == np.float16
        assert store.geometry(patient.id) == due.geometry
        assert store.n_slices(patient.id) == len(due.images) == SHAPE[2] // 2
        assert store.grade(patient.id) == patient.grade
    np.testing.assert_array_equal(store.labels("A"), make_slices(load_patient(cohort[0]), SETTINGS, 2.0).labels)
    assert store.labels("B") is None
    assert (store.preprocessing, store.spacing_mm) == (SETTINGS, 2.0)


def test_single_slices_and_lists_of_slices_are_read(cohort, tmp_path):
    store = build(cohort, tmp_path)
    whole = store.images("A")
    np.testing.assert_array_equal(store.images("A", 3), whole[3])
    np.testing.assert_array_equal(store.images("A", [4, 1]), whole[[4, 1]])
    np.testing.assert_array_equal(store.labels("A", slice(1, 3)), store.labels("A")[1:3])


def test_workers_change_no_byte(cohort, tmp_path):
    one = build(cohort, tmp_path / "one")
    two = build(cohort, tmp_path / "two", n_jobs=2)
    names = sorted(path.relative_to(one.folder) for path in one.folder.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(two.folder) for path in two.folder.rglob("*") if path.is_file())
    assert all((one.folder / name).read_bytes() == (two.folder / name).read_bytes() for name in names)


def test_a_bad_patient_is_reported_with_all_problems_and_the_others_are_stored(cohort, tmp_path):
    break_file(cohort[1], "t1")
    break_file(cohort[1], "t2")
    store = build(cohort, tmp_path)
    assert store.patients == ("A", "C")
    assert {patient: [p.code for p in problems] for patient, problems in store.problems.items()} == {"B": ["truncated", "truncated"]}
    assert SliceStore(store.folder).problems == store.problems


def test_duplicates_are_left_out(cohort, tmp_path):
    write_patient(tmp_path / "cohort" / "LGG" / "again", "a", seed=9)
    store = build(find_patients(tmp_path / "cohort"), tmp_path)
    assert store.patients == ("B", "C")
    assert {patient: problems[0].code for patient, problems in store.problems.items()} == {
        "A": "duplicate_patient",
        "a": "duplicate_patient",
    }


def test_a_killed_build_goes_on_where_it_was(cohort, tmp_path, monkeypatch):
    made = []

    def make(volume, *others):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(volume.id)
        return make_slices(volume, *others)

    monkeypatch.setattr(slices_module, "make_slices", make)
    with pytest.raises(KeyboardInterrupt):
        build(cohort, tmp_path)
    with pytest.raises(ArtifactError, match="not finished"):
        SliceStore(tmp_path / "slices.zarr")
    (tmp_path / "slices.zarr" / ".C.partial" / "images").mkdir(parents=True)
    monkeypatch.setattr(slices_module, "make_slices", lambda volume, *others: made.append(volume.id) or make_slices(volume, *others))
    store = build(cohort, tmp_path)
    assert made == ["A", "B", "C"] and store.patients == ("A", "B", "C")
    assert not list(store.folder.glob(".*"))


def test_only_a_patient_whose_files_changed_is_made_again(cohort, tmp_path, monkeypatch):
    build(cohort, tmp_path)
    made = []
    monkeypatch.setattr(slices_module, "make_slices", lambda volume, *others: made.append(volume.id) or make_slices(volume, *others))
    write_patient(tmp_path / "cohort" / "LGG" / "C", "C", seed=77)
    store = build(cohort, tmp_path)
    assert made == ["C"]
    np.testing.assert_array_equal(store.images("C"), make_slices(load_patient(cohort[2]), SETTINGS, 2.0).images)


def test_a_grade_that_is_learnt_later_needs_no_new_slices(cohort, tmp_path, monkeypatch):
    build(cohort, tmp_path)
    monkeypatch.setattr(slices_module, "make_slices", None)
    (tmp_path / "cohort" / "name_mapping.csv").write_text("Grade,BraTS_2019_subject_ID\nLGG,B\n")
    assert build(find_patients(tmp_path / "cohort"), tmp_path).grade("B") == "LGG"


def test_a_store_of_other_settings_is_refused(cohort, tmp_path):
    build(cohort, tmp_path)
    with pytest.raises(ArtifactError, match="another spacing_mm"):
        build(cohort, tmp_path, spacing_mm=3.0)
    with pytest.raises(ArtifactError, match="another preprocessing"):
        build(cohort, tmp_path, settings=PreprocessingSettings(image_size=32))


def test_a_folder_that_is_something_else_is_left_alone(cohort, tmp_path):
    (tmp_path / "slices.zarr").mkdir()
    (tmp_path / "slices.zarr" / "thesis.txt").write_text("years of work")
    with pytest.raises(ArtifactError, match="no slice store"):
        build(cohort, tmp_path)
    with pytest.raises(ArtifactError, match="no slice store"):
        SliceStore(tmp_path / "slices.zarr")
    with pytest.raises(ValueError, match=r"ends in \.zarr"):
        build_slice_store(cohort, tmp_path / "slices", SETTINGS, 2.0)
    assert [path.name for path in (tmp_path / "slices.zarr").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9, 1.0])
def test_a_flipped_bit_is_never_read_as_a_slice(cohort, tmp_path, place):
    store = build(cohort, tmp_path)
    (shard,) = (path for path in (store.folder / "A" / "images" / "c").rglob("*") if path.is_file())
    content = bytearray(shard.read_bytes())
    content[min(int(place * len(content)), len(content) - 1)] ^= 4
    shard.write_bytes(content)
    with pytest.raises(ArtifactError, match="patient A: the images in .* are damaged"):
        store.images("A")
    assert np.isfinite(store.images("C")).all()


def test_a_shard_that_is_gone_is_not_read_as_zeros_and_is_made_again(cohort, tmp_path):
    store = build(cohort, tmp_path)
    before = store.labels("A")
    shutil.rmtree(store.folder / "A" / "labels" / "c")
    with pytest.raises(ArtifactError, match="labels"):
        store.labels("A")
    np.testing.assert_array_equal(build(cohort, tmp_path).labels("A"), before)


def test_changed_metadata_is_noticed(cohort, tmp_path):
    store = build(cohort, tmp_path)
    path = store.folder / "A" / "zarr.json"
    path.write_text(path.read_text().replace('"n_slices": 6', '"n_slices": 5'))
    with pytest.raises(ArtifactError, match="checksum"):
        store.geometry("A")


def test_a_changed_shape_is_not_filled_with_zeros(cohort, tmp_path):
    store = build(cohort, tmp_path)
    path = store.folder / "A" / "labels" / "zarr.json"
    content = json.loads(path.read_text())
    content["shape"][0] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match="labels"):
        store.labels("A")


def test_every_chunk_is_one_slice_with_a_crc(cohort, tmp_path):
    array = zarr.open_array(build(cohort, tmp_path).folder / "A" / "images", mode="r")
    assert array.chunks == (1, 4, 16, 16) and array.shards == array.shape
    assert "crc32c" in [codec.to_dict()["name"] for codec in array.compressors]


def test_a_full_disk_is_a_typed_error_and_leaves_nothing_half_done(cohort, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(slices_module, "_write_array", full)
        with pytest.raises(ArtifactError, match="cannot be written .No space left on device"):
            build(cohort, tmp_path)
    assert build(cohort, tmp_path).patients == ("A", "B", "C")


def test_a_subset_holds_its_patients_only(cohort, tmp_path):
    store = build(cohort, tmp_path)
    part = store.subset(["C", "A"])
    assert part.patients == ("A", "C")
    with pytest.raises(KeyError):
        part.images("B")
    with pytest.raises(KeyError, match="nobody"):
        store.subset(["nobody"])


def test_a_store_travels_to_worker_processes(cohort, tmp_path):
    store = build(cohort, tmp_path)
    copy = pickle.loads(pickle.dumps(store.subset(["C"])))
    np.testing.assert_array_equal(copy.images("C"), store.images("C"))
    assert copy.patients == ("C",)


def test_ids_that_are_no_folder_names_are_kept(tmp_path):
    write_patient(tmp_path / "files", "A")
    row = ",".join(f"files/A_{name}.nii.gz" for name in ("t1", "t1ce", "t2", "flair"))
    (tmp_path / "cohort.csv").write_text(f"patient,t1,t1ce,t2,flair\nsite 1/../№ 7,{row}\n.hidden,{row}\n", encoding="utf-8")
    store = build(find_patients(tmp_path / "cohort.csv"), tmp_path)
    assert store.patients == (".hidden", "site 1/../№ 7")
    np.testing.assert_array_equal(store.images(".hidden"), store.images("site 1/../№ 7"))
    assert len(list(store.folder.glob("*/images"))) == 2


def test_a_cohort_without_a_sound_patient_makes_an_empty_store(cohort, tmp_path):
    for patient in cohort:
        break_file(patient)
    store = build(cohort, tmp_path)
    assert len(store) == 0 and set(store.problems) == {"A", "B", "C"}
    assert json.loads((store.folder / "zarr.json").read_text())["node_type"] == "group"
