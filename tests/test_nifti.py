"""Whatever happens to a file, the voxels read are those written, or there is a typed error."""

import gzip
import os

import nibabel
import numpy as np
import pytest
from synthetic_patients import LPS, REAL_SAMPLES, SHAPE, draw_images, needs_real_samples

from drlib.cohort.nifti import read_nifti, write_nifti
from drlib.cohort.problems import AffineMismatch, ChecksumMismatch, PatientError, ShapeMismatch, Truncated, Unreadable


@pytest.fixture
def voxels():
    return draw_images()[0]


@pytest.fixture
def path(tmp_path, voxels):
    return write_nifti(tmp_path / "x.nii.gz", voxels, LPS, "test")


def change_header(path, compressed=True, **fields):
    """Rewrite header fields of an intact file; the gzip stream stays valid."""
    content = bytearray(gzip.decompress(path.read_bytes()) if compressed else path.read_bytes())
    header = nibabel.Nifti1Header(bytes(content[:348]), check=False)
    for name, value in fields.items():
        header[name] = value
    content[:348] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(content)) if compressed else bytes(content))
    return path


# Writing


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_nibabel_reads_what_we_write(tmp_path, voxels, name, dtype):
    affine = LPS @ np.diag([2, 2, 3, 1])
    image = nibabel.load(write_nifti(tmp_path / name, voxels.astype(dtype), affine, "drlib"))
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), voxels.astype(dtype))
    np.testing.assert_allclose(image.get_sform(coded=True)[0], affine)
    np.testing.assert_allclose(image.get_qform(coded=True)[0], affine, atol=1e-5)
    assert (image.header["sform_code"], image.header["qform_code"], image.header.get_xyzt_units()[0]) == (1, 1, "mm")
    assert image.header["descrip"] == b"drlib"


def test_the_same_volume_gives_the_same_bytes_whatever_its_name(tmp_path, voxels):
    one, two = (write_nifti(tmp_path / name, voxels, LPS).read_bytes() for name in ("one.nii.gz", "two.nii.gz"))
    assert one == two


def test_a_boolean_map_is_stored_as_uint8(tmp_path, voxels):
    volume = read_nifti(write_nifti(tmp_path / "x.nii.gz", voxels > 400, LPS))
    assert volume.voxels.dtype == np.uint8
    np.testing.assert_array_equal(volume.voxels, voxels > 400)


def test_writing_refuses_other_names_and_types(tmp_path, voxels):
    with pytest.raises(ValueError, match="nii"):
        write_nifti(tmp_path / "x.img", voxels, LPS)
    with pytest.raises(ValueError, match="complex|object|hold"):
        write_nifti(tmp_path / "x.nii.gz", voxels.astype("datetime64[s]"), LPS)
    assert list(tmp_path.iterdir()) == []


# Reading


@needs_real_samples
def test_real_samples_read_as_nibabel_reads_them():
    for path in sorted(REAL_SAMPLES.rglob("*.nii.gz"))[:5]:
        image, volume = nibabel.load(path), read_nifti(path)
        np.testing.assert_array_equal(volume.voxels, np.asanyarray(image.dataobj))
        np.testing.assert_allclose(volume.affine, image.affine)


def test_scale_factors_are_applied(path, voxels):
    volume = read_nifti(change_header(path, scl_slope=0.5, scl_inter=-3))
    assert volume.voxels.dtype == np.float32
    np.testing.assert_allclose(volume.voxels, voxels * 0.5 - 3)


@pytest.mark.parametrize("slope", [0, np.nan])
def test_a_scale_factor_that_means_none_is_none(path, voxels, slope):
    volume = read_nifti(change_header(path, scl_slope=slope, scl_inter=0))
    np.testing.assert_array_equal(volume.voxels, voxels)
    assert volume.voxels.dtype == np.int16


def test_big_endian_files_are_read(tmp_path, voxels):
    image = nibabel.Nifti1Image(voxels.astype(">i2"), LPS, nibabel.Nifti1Header(endianness=">"))
    image.to_filename(tmp_path / "big.nii.gz")
    assert gzip.decompress((tmp_path / "big.nii.gz").read_bytes())[:4] == (348).to_bytes(4, "big")
    volume = read_nifti(tmp_path / "big.nii.gz")
    np.testing.assert_array_equal(volume.voxels, voxels)
    assert volume.voxels.dtype.isnative


def test_nifti_2_is_read(tmp_path, voxels):
    nibabel.Nifti2Image(voxels, LPS).to_filename(tmp_path / "two.nii.gz")
    np.testing.assert_array_equal(read_nifti(tmp_path / "two.nii.gz").voxels, voxels)


def test_header_extensions_are_skipped(tmp_path, voxels):
    image = nibabel.Nifti1Image(voxels, LPS)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"x" * 600))
    image.to_filename(tmp_path / "extended.nii.gz")
    np.testing.assert_array_equal(read_nifti(tmp_path / "extended.nii.gz").voxels, voxels)


def test_a_fourth_dimension_of_one_is_dropped(tmp_path, voxels):
    nibabel.Nifti1Image(voxels[..., None], LPS).to_filename(tmp_path / "four.nii.gz")
    np.testing.assert_array_equal(read_nifti(tmp_path / "four.nii.gz").voxels, voxels)


def test_a_stream_of_several_gzip_members_is_read(path, voxels):
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:100]) + gzip.compress(content[100:5000]) + gzip.compress(content[5000:]) + bytes(512))
    np.testing.assert_array_equal(read_nifti(path).voxels, voxels)


def test_the_voxels_may_be_changed_by_the_caller(path):
    read_nifti(path).voxels[0, 0, 0] = 7


def test_a_volume_shorter_than_a_header_is_read(tmp_path):
    voxels = np.arange(8, dtype=np.int16).reshape(2, 2, 2)
    for name in ("small.nii", "small.nii.gz"):
        np.testing.assert_array_equal(read_nifti(write_nifti(tmp_path / name, voxels, LPS)).voxels, voxels)


def test_voxels_may_begin_anywhere(tmp_path, voxels):
    content = write_nifti(tmp_path / "x.nii", voxels, LPS).read_bytes()
    header = nibabel.Nifti1Header(content[:348], check=False)
    header["vox_offset"] = 355
    (tmp_path / "odd.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(7) + content[352:]))
    volume = read_nifti(tmp_path / "odd.nii.gz")
    np.testing.assert_array_equal(volume.voxels, voxels)
    assert volume.voxels.flags.aligned


# Damage


def test_no_flipped_bit_ever_becomes_a_voxel(path, voxels):
    stored = path.read_bytes()
    n_refused, positions = 0, [*range(32), *range(32, len(stored) - 16, 37), *range(len(stored) - 16, len(stored))]
    for position in positions:
        damaged = bytearray(stored)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            volume = read_nifti(path)
        except PatientError as error:
            assert error.code == "checksum", (position, error)
            n_refused += 1
        else:  # a few bits carry nothing: the time in the gzip header, the padding of a deflate block
            np.testing.assert_array_equal(volume.voxels, voxels)
    assert n_refused > 0.9 * len(positions)


@pytest.mark.parametrize("place", ["crc", "length"])
def test_the_trailer_is_checked(path, place):
    damaged = bytearray(path.read_bytes())
    damaged[-8 if place == "crc" else -1] ^= 0x10
    path.write_bytes(damaged)
    with pytest.raises(ChecksumMismatch):
        read_nifti(path)


@pytest.mark.parametrize("kept", [0, 1, 2, 17, 40, 0.1, 0.5, 0.99, -9, -8, -5, -1])
def test_a_file_cut_off_anywhere_is_truncated(path, kept):
    stored = path.read_bytes()
    path.write_bytes(stored[: int(kept * len(stored)) if isinstance(kept, float) else kept])
    with pytest.raises(Truncated) as caught:
        read_nifti(path)
    assert str(path) in str(caught.value)


def test_damage_that_runs_past_the_end_of_a_complete_file_is_no_truncation(tmp_path, voxels):
    """A stored block that claims to be longer than it is makes the decoder want more input than there is."""
    path = write_nifti(tmp_path / "x.nii.gz", voxels, LPS)
    content = gzip.decompress(path.read_bytes())
    stored = bytearray(gzip.compress(content, compresslevel=0))
    assert stored[10] & 0b110 == 0  # a stored block: length and its complement follow
    last = len(stored) - 8 - len(content) % 65535 - 5 if len(content) > 65535 else 10
    length = int.from_bytes(stored[last + 1 : last + 3], "little") + 500
    stored[last + 1 : last + 5] = length.to_bytes(2, "little") + (length ^ 0xFFFF).to_bytes(2, "little")
    path.write_bytes(stored)
    with pytest.raises(ChecksumMismatch):
        read_nifti(path)


def test_something_behind_the_stream_is_refused(path):
    path.write_bytes(path.read_bytes() + b"something else")
    with pytest.raises(ChecksumMismatch):
        read_nifti(path)


def test_an_uncompressed_file_has_the_length_that_its_header_promises(tmp_path, voxels):
    path = write_nifti(tmp_path / "x.nii", voxels, LPS)
    stored = path.read_bytes()
    path.write_bytes(stored[:-1])
    with pytest.raises(Truncated):
        read_nifti(path)
    path.write_bytes(stored + b"\0")
    with pytest.raises(Unreadable):
        read_nifti(path)


def test_a_header_that_promises_more_or_less_than_came_is_refused(path):
    with pytest.raises(Truncated):
        read_nifti(change_header(path, dim=[3, *SHAPE[:2], SHAPE[2] + 1, 1, 1, 1, 1]))
    with pytest.raises(Unreadable, match="more came"):
        read_nifti(change_header(path, dim=[3, *SHAPE[:2], SHAPE[2] - 1, 1, 1, 1, 1]))


def test_a_promise_of_terabytes_is_refused_without_memory(path):
    with pytest.raises(Truncated, match="promises"):
        read_nifti(change_header(path, dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]))


def test_several_volumes_in_one_file_are_refused(tmp_path, voxels):
    write_nifti(tmp_path / "x.nii.gz", np.stack([voxels, voxels], axis=-1), LPS)
    with pytest.raises(ShapeMismatch, match="one 3-D volume"):
        read_nifti(tmp_path / "x.nii.gz")


@pytest.mark.parametrize("content", [b"this is a text, not an image" * 40, gzip.compress(b"and so is this" * 60)])
def test_what_is_no_nifti_is_unreadable(path, content):
    path.write_bytes(content)
    with pytest.raises(Unreadable, match="not a NIfTI"):
        read_nifti(path)


@pytest.mark.parametrize("fields", [{"magic": b"ni1"}, {"datatype": 128}, {"datatype": 32}, {"datatype": 9999}])
def test_headers_we_cannot_use_are_unreadable(path, fields):
    with pytest.raises(Unreadable):
        read_nifti(change_header(path, **fields))


def test_an_affine_that_leads_nowhere_is_refused(path):
    with pytest.raises(AffineMismatch):
        read_nifti(change_header(path, srow_x=[np.nan, 0, 0, 0]))
    with pytest.raises(AffineMismatch):
        read_nifti(change_header(path, srow_x=[0, 0, 0, 0]))


def test_a_file_that_is_not_there_is_unreadable(tmp_path):
    with pytest.raises(Unreadable, match="nowhere.nii.gz"):
        read_nifti(tmp_path / "nowhere.nii.gz")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_unreadable(path):
    path.chmod(0)
    with pytest.raises(Unreadable, match="may read it"):
        read_nifti(path)
