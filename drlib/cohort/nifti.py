"""NIfTI volumes, read so that a damaged file is never mistaken for an image (Source: ours; DESIGN, "Bad input").

nibabel stops decompressing once it has enough voxels and so never meets the checksum at the end of a gzip stream. Here the whole
stream is decompressed and its CRC and length are verified on every read; nibabel parses the header and computes the affine.
"""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from isal import igzip_lib
from nibabel.spatialimages import HeaderDataError

from drlib.artifacts import write_atomically
from drlib.cohort.problems import AffineMismatch, ChecksumMismatch, PatientError, ShapeMismatch, Truncated, Unreadable

GZIP_MAGIC = b"\x1f\x8b\x08"
HEADERS = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
HEAD_BYTES = 540  # the longer of the two headers
SHORTEST_BYTES = 18  # an empty gzip stream; nothing shorter is anything
PIECE_BYTES = 2**24  # decompressed at a time
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


def _decode(stored: bytes) -> tuple[bytes | bytearray, _Promise]:
    """Return the decompressed content, checked to be exactly as long as its header promises."""
    if len(stored) < SHORTEST_BYTES:
        raise Truncated(f"the file has only {len(stored)} bytes", COPY_AGAIN)
    if stored.startswith(GZIP_MAGIC):
        return _inflate(stored)
    if sum(came == due for came, due in zip(stored, GZIP_MAGIC, strict=False)) == 2:
        raise ChecksumMismatch("the first bytes are a damaged gzip signature", COPY_AGAIN)
    promise = _promise(stored)
    if len(stored) < promise.n_bytes:
        raise Truncated(f"the file has {len(stored):,} bytes where its header promises {promise.n_bytes:,}", COPY_AGAIN)
    if len(stored) > promise.n_bytes:
        raise Unreadable(f"the file has {len(stored):,} bytes where its header promises {promise.n_bytes:,}", COPY_AGAIN)
    return stored, promise


def _inflate(stored: bytes) -> tuple[bytes | bytearray, _Promise]:
    """Decompress a gzip stream to its end, holding no more than its header promises. Damage is reported before anything it causes."""
    pieces, content, promise, complaint = _pieces(stored), bytearray(), None, None
    try:
        for piece in pieces:
            if complaint is None:
                content += piece
            if promise is None and complaint is None and len(content) >= HEAD_BYTES:
                promise, complaint = _try_promise(content)
            if promise is not None and len(content) > promise.n_bytes:
                complaint = Unreadable(f"more came than the {promise.n_bytes:,} bytes that the header promises", COPY_AGAIN)
    except EOFError:
        raise _ends_early(stored, content, promise) from None
    if complaint is not None:
        raise complaint
    promise = promise or _promise(content)
    if len(content) < promise.n_bytes:
        raise Truncated(f"{len(content):,} bytes came where the header promises {promise.n_bytes:,}", COPY_AGAIN)
    return content, promise


def _pieces(stored: bytes) -> Iterator[bytes]:
    """Yield what all members of a gzip stream contain, verifying CRC and length of each. Raises EOFError where the stream ends early."""
    rest = stored
    while rest:
        if not rest.startswith(GZIP_MAGIC):
            raise ChecksumMismatch(f"{len(rest):,} bytes of something else follow the gzip stream", COPY_AGAIN)
        member, given = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP), rest
        while not member.eof:
            try:
                piece = member.decompress(given, PIECE_BYTES)
            except igzip_lib.IsalError as error:
                raise ChecksumMismatch(f"the gzip stream is damaged ({error})", COPY_AGAIN) from error
            if not piece and not member.eof:
                raise EOFError
            given = b""
            yield piece
        rest = member.unused_data.lstrip(b"\0")  # zeros may pad a file to whole blocks


def _ends_early(stored: bytes, content: bytearray, promise: _Promise | None) -> PatientError:
    """Tell a file that was cut off from one whose damaged stream runs past its end: only the first has a sound beginning and no end."""
    damaged_header = promise is None and len(content) >= HEAD_BYTES
    if damaged_header or (promise is not None and int.from_bytes(stored[-4:], "little") == promise.n_bytes % 2**32):
        return ChecksumMismatch("the gzip stream is damaged: its end is there, but not the way to it", COPY_AGAIN)
    due = f"{promise.n_bytes:,}" if promise else f"at least {HEAD_BYTES}"
    return Truncated(f"the gzip stream ends after {len(content):,} decompressed bytes where {due} were due", COPY_AGAIN)


def _try_promise(content: bytearray) -> tuple[_Promise | None, PatientError | None]:
    try:
        return _promise(content), None
    except PatientError as error:
        return None, error


def _promise(content: bytes | bytearray) -> _Promise:
    """Parse the header with nibabel."""
    sizes = {int.from_bytes(content[:4], order): order for order in ("little", "big")}
    size = next((size for size in sizes if size in HEADERS), None)
    remedy = "Convert the image to NIfTI (.nii or .nii.gz, one file)"
    if size is None:
        raise Unreadable("this is not a NIfTI image (its first four bytes are not the size of a NIfTI header)", remedy)
    if len(content) < size:
        raise Truncated(f"the file ends inside its header, after {len(content)} of {size} bytes", COPY_AGAIN)
    try:
        header = HEADERS[size](bytes(content[:size]), endianness="<" if sizes[size] == "little" else ">", check=False)
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


def _voxels(content: bytes | bytearray, promise: _Promise, dtype: np.dtype | type | None) -> np.ndarray:
    stored = np.frombuffer(content, promise.header.get_data_dtype(), count=int(np.prod(promise.shape)), offset=promise.offset)
    stored = stored.reshape(promise.shape, order="F")
    try:
        slope, intercept = promise.header.get_slope_inter()
    except HeaderDataError as error:
        raise Unreadable(f"the scale factors of the header are not valid ({error})", COPY_AGAIN) from error
    if slope is None or (slope, intercept) == (1, 0):
        return stored.astype(dtype or stored.dtype.newbyteorder("="))
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
