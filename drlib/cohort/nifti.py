"""NIfTI volumes, read so that a damaged file is never mistaken for an image (Source: ours; DESIGN, "Bad input").

nibabel stops decompressing once it has enough voxels and so never meets the checksum at the end of a gzip stream. Here the whole
stream is decompressed and its CRC and length are verified on every read; nibabel parses the header and computes the affine.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from isal import isal_zlib
from isal.isal_zlib import _GzipReader  # the one reader of the package that fills an array it is given
from nibabel.spatialimages import HeaderDataError

from drlib.artifacts import write_atomically
from drlib.cohort.problems import AffineMismatch, ChecksumMismatch, PatientError, ShapeMismatch, Truncated, Unreadable

GZIP_MAGIC = b"\x1f\x8b\x08"
HEADERS = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
HEAD_BYTES = 540  # the longer of the two headers
SHORTEST_BYTES = 18  # an empty gzip stream; nothing shorter is anything
MOST_INFLATED = 1032  # bytes that one byte of a deflate stream can become (258 from 2 bits)
COPY_AGAIN = "Copy the file again from its source"
STORED_AS = {"b": np.uint8, "e": np.float32}  # kinds that NIfTI cannot hold


@dataclass(frozen=True)
class Volume:
    """Voxels (i, j, k) in the order of the file, and the affine (4, 4) from voxel indices to millimetres (RAS+, as nibabel)."""

    voxels: np.ndarray
    affine: np.ndarray


@dataclass(frozen=True)
class _Promise:
    """What a header says about the data behind it."""

    header: nibabel.Nifti1Header
    shape: tuple[int, ...]
    offset: int

    @property
    def n_bytes(self) -> int:
        return self.offset + int(np.prod(self.shape, dtype=object)) * self.header.get_data_dtype().itemsize


def read_nifti(path: Path, dtype: np.dtype | type | None = None) -> Volume:
    """Read one 3-D ``.nii`` or ``.nii.gz`` file, whatever its byte order; scale factors are applied.

    ``dtype`` is the type of the voxels returned; None keeps the file's own (float32 where scale factors apply). The array is
    writable and in the file's (Fortran) order. Orientation is left as it is.

    Raises Unreadable (no such file, no permission, not NIfTI), Truncated (the data end early), ChecksumMismatch (the bytes are
    not those that were written), ShapeMismatch (not one 3-D volume) or AffineMismatch (no usable affine).
    """
    path = Path(path)
    try:
        content, promise = _decode(_read_bytes(path))
        volume = Volume(_voxels(content, promise, dtype), _affine(promise.header))
    except PatientError as error:
        error.file = path
        raise
    return volume


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unreadable(f"the file cannot be read ({error.strerror})", "Check that it exists and that you may read it") from error


def _decode(stored: bytes) -> tuple[np.ndarray, _Promise]:
    """Return the decompressed content (bytes), checked to be exactly as long as its header promises."""
    if len(stored) < SHORTEST_BYTES:
        raise Truncated(f"the file has only {len(stored)} bytes", COPY_AGAIN)
    if stored.startswith(GZIP_MAGIC):
        return _inflate(stored)
    if sum(came == due for came, due in zip(stored, GZIP_MAGIC, strict=False)) == 2:
        raise ChecksumMismatch("the first bytes are a damaged gzip signature", COPY_AGAIN)
    promise = _promise(stored)
    _check_length(len(stored), promise)
    return np.frombuffer(stored, np.uint8), promise


def _inflate(stored: bytes) -> tuple[np.ndarray, _Promise]:
    """Decompress a gzip stream to its end, straight into an array of the size that its header promises.

    CRC and length of every member are verified. Damage is reported before anything it causes.
    """
    stream, content, promise, complaint = _GzipReader(stored), np.empty(HEAD_BYTES, np.uint8), None, None
    try:
        came = _fill(content, stream)
        try:
            promise = _promise(content[:came].tobytes())
        except PatientError as error:
            complaint = error
        else:
            head, content = content, np.empty(max(min(promise.n_bytes, MOST_INFLATED * len(stored)), came), np.uint8)
            content[:came] = head[:came]
            came += _fill(content[came:], stream)
        beyond = np.empty(2**16, np.uint8)
        while surplus := stream.readinto(beyond):
            came += surplus
    except EOFError:
        raise _ends_early(stored, stream.tell(), promise) from None
    except (gzip.BadGzipFile, isal_zlib.error) as error:
        raise ChecksumMismatch(f"the gzip stream is damaged ({error})", COPY_AGAIN) from error
    if complaint is not None:
        raise complaint
    _check_length(came, promise)
    return content, promise


def _fill(target: np.ndarray, stream: _GzipReader) -> int:
    """Read until ``target`` (bytes) is full or the stream ends; return how many bytes came."""
    came = 0
    while came < len(target) and (more := stream.readinto(target[came:])):
        came += more
    return came


def _check_length(came: int, promise: _Promise) -> None:
    if came < promise.n_bytes:
        raise Truncated(f"{came:,} bytes came where the header promises {promise.n_bytes:,}", COPY_AGAIN)
    if came > promise.n_bytes:
        raise Unreadable(f"more came than the {promise.n_bytes:,} bytes that the header promises", COPY_AGAIN)


def _ends_early(stored: bytes, came: int, promise: _Promise | None) -> PatientError:
    """Tell a file that was cut off from one whose damaged stream runs past its end: only the first has a sound beginning and no end."""
    damaged_header = promise is None and came >= HEAD_BYTES
    if damaged_header or (promise is not None and int.from_bytes(stored[-4:], "little") == promise.n_bytes % 2**32):
        return ChecksumMismatch("the gzip stream is damaged: its end is there, but not the way to it", COPY_AGAIN)
    due = f"{promise.n_bytes:,}" if promise else f"at least {HEAD_BYTES}"
    return Truncated(f"the gzip stream ends after {came:,} decompressed bytes where {due} were due", COPY_AGAIN)


def _promise(content: bytes) -> _Promise:
    """Parse the header with nibabel."""
    sizes = {int.from_bytes(content[:4], order): order for order in ("little", "big")}
    size = next((size for size in sizes if size in HEADERS), None)
    remedy = "Convert the image to NIfTI (.nii or .nii.gz, one file)"
    if size is None:
        raise Unreadable("this is not a NIfTI image (its first four bytes are not the size of a NIfTI header)", remedy)
    if len(content) < size:
        raise Truncated(f"the file ends inside its header, after {len(content)} of {size} bytes", COPY_AGAIN)
    try:
        header = HEADERS[size](content[:size], endianness="<" if sizes[size] == "little" else ">", check=False)
        shape, dtype, offset = header.get_data_shape(), header.get_data_dtype(), int(header["vox_offset"])
    except (HeaderDataError, ValueError, KeyError, OverflowError) as error:
        raise Unreadable(f"the NIfTI header is not valid ({error})", remedy) from error
    if not bytes(header["magic"]).startswith(b"n+"):
        raise Unreadable("the header says that the voxels are in another file (.hdr and .img)", remedy)
    if dtype.kind not in "iuf":
        raise Unreadable(f"the voxels are of type {dtype}, where one number per voxel was due", remedy)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < 1:
        raise ShapeMismatch(
            f"the header promises the shape {shape}, where one 3-D volume was due", "Store each modality in a file of its own"
        )
    return _Promise(header, tuple(map(int, shape)), max(offset, size + 4))


def _affine(header: nibabel.Nifti1Header) -> np.ndarray:
    remedy = "Repair the sform or qform of the file"
    try:
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        raise AffineMismatch(f"the header holds no usable affine ({error})", remedy) from error
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise AffineMismatch("the affine of the header is not finite or not invertible", remedy)
    return affine


def _voxels(content: np.ndarray, promise: _Promise, dtype: np.dtype | type | None) -> np.ndarray:
    stored = np.ndarray(promise.shape, promise.header.get_data_dtype(), content, promise.offset, order="F")
    try:
        slope, intercept = promise.header.get_slope_inter()
    except HeaderDataError as error:
        raise Unreadable(f"the scale factors of the header are not valid ({error})", COPY_AGAIN) from error
    if slope is None or (slope, intercept) == (1, 0):
        return np.require(stored, dtype or stored.dtype.newbyteorder("="), ["ALIGNED", "WRITEABLE"])  # a copy only where one is needed
    return (stored * np.float64(slope) + intercept).astype(dtype or np.float32)


def write_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray, descrip: str = "") -> Path:
    """Write voxels (i, j, k) with their ``affine`` (4, 4, mm) as ``.nii`` or ``.nii.gz``: all of the file or nothing of it.

    Same arguments, same bytes (no time and no name in the gzip header). sform and qform get code 1 (scanner), the unit is mm.
    Booleans are stored as uint8, float16 as float32. Raises ValueError for another suffix or a type NIfTI does not have.
    """
    path = Path(path)
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise ValueError(f"{path}: the name of a NIfTI file ends in .nii or .nii.gz")
    voxels = np.asarray(voxels)
    voxels = voxels.astype(STORED_AS.get(voxels.dtype.char if voxels.dtype.kind == "f" else voxels.dtype.kind, voxels.dtype), copy=False)
    content = _header(voxels, affine, descrip) + voxels.tobytes(order="F")
    if path.suffix.lower() == ".gz":
        content = gzip.compress(content, compresslevel=1, mtime=0)
    return write_atomically(path, lambda temporary: temporary.write_bytes(content))


def _header(voxels: np.ndarray, affine: np.ndarray, descrip: str) -> bytes:
    header = nibabel.Nifti1Header(endianness="<")
    try:
        header.set_data_dtype(voxels.dtype)
    except HeaderDataError as error:
        raise ValueError(f"NIfTI cannot hold voxels of type {voxels.dtype}") from error
    header.set_data_shape(voxels.shape)
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1)
    header.set_xyzt_units("mm")
    header.set_slope_inter(1, 0)
    header["descrip"] = descrip.encode()[:79]
    header["magic"], header["vox_offset"] = b"n+1", 352
    return header.binaryblock + bytes(4)  # four zeros: no extensions
