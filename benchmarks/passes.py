"""The passes over a patient: from files to the histogram, ablation, and counts under perturbation. All networks have random weights."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from benchmarks.phantom import phantom_patient
from benchmarks.plain import PlainNetwork, plain_codes
from benchmarks.timing import apart, best_of, best_of_apart, row
from drlib.cohort.brats import find_patients
from drlib.cohort.loading import load_patient
from drlib.cohort.patient import Patient
from drlib.cohort.preprocessing import make_slices
from drlib.cohort.slices import SliceStore, build_slice_store
from drlib.profiles import Profile, load_profile
from drlib.radiomics.ablation import each_change
from drlib.radiomics.fidelity import Fidelity, counting_in, measure_fidelity
from drlib.radiomics.histogram import codeword_histogram, encode_patient
from drlib.radiomics.robustness import Perturbation, count_perturbed, perturbations
from drlib.segmentation.model import TrainedModel, load_model, shipped_model
from drlib.segmentation.network import Precision, SegmentationNetwork

PEER = "peer.safetensors"
N_RESPONSIBLE = 5  # codewords: two of HGG and three of LGG in the paper


def volume_to_histogram(quick: bool = False) -> list[dict]:
    """Return the seconds from the four .nii.gz of a patient to its histogram, in bfloat16 and in float32.

    ``equal``: counts of the float32 mode are those of the plain network on the same slices (up to ties, see ``_three_histograms``).
    ``difference_ratio``: Eq. 7 between these two, or between bfloat16 and float32. ``trained_passes``: whether bfloat16 passes the
    fidelity gate with the trained network that comes with the library, on this patient.
    """
    with tempfile.TemporaryDirectory() as folder:
        profile, patient = _prepare(Path(folder), quick)
        arguments = (Path(folder), profile)
        makers = {
            "peer": partial(_authors_way, *arguments),
            "fp32": partial(_our_way, *arguments, "fp32"),
            "bf16": partial(_our_way, *arguments, "bf16"),
        }
        seconds = _best(makers, quick, repeats=3)
        (plain, exact, reduced), ties = _results(_three_histograms, arguments, quick)
        gate = _results(_gate, (Path(folder), patient), quick)
    peer = "775 .npy files, one slice at a time, plain network (float32)"
    note = "files are read straight into their voxels, slices go from memory to the network in batches, blank ones once"
    rows = [
        row("volume_to_histogram", seconds["bf16"], seconds["peer"], peer, "s", f"{note}; bfloat16 behind the fidelity gate"),
        row(
            "volume_to_histogram_fp32",
            seconds["fp32"],
            seconds["peer"],
            peer,
            "s",
            f"{note}; the same counts, but for ties in the last bits",
        ),
    ]
    facts = {"trained_difference_ratio": gate.mean_difference_ratio, "trained_passes": gate.passes}
    rows[0] |= {"difference_ratio": _difference(exact, reduced)} | facts
    rows[1] |= {"difference_ratio": _difference(plain, exact), "equal": bool((plain == exact).all())} | ties
    return rows


def ablation_volume(quick: bool = False) -> list[dict]:
    """Return the seconds for the change maps of one patient: five codewords together and one by one, float32, every fifth slice."""
    note = "slices without the codewords are not decoded, equal index maps once, the original once for all codewords, in batches"
    with tempfile.TemporaryDirectory() as folder:
        profile, _ = _prepare(Path(folder), quick, sliced=True)
        makers = {"ours": partial(_ablate, Path(folder), profile), "peer": partial(_ablate_plainly, Path(folder), profile)}
        seconds = _best(makers, quick, repeats=2)
        ours, peer = (_results(_call, (maker,), quick) for maker in makers.values())
    equal = all(np.allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(b).max()) for a, b in zip(ours, peer, strict=True))
    peer_name = "one codeword and one slice at a time, plain network"
    return [row("ablation_volume", seconds["ours"], seconds["peer"], peer_name, "s", note, equal=equal)]


def robustness_sweep(quick: bool = False) -> list[dict]:
    """Return the seconds for the counts of one patient under every perturbation of the paper, every eighth slice, float32 and bfloat16.

    In float32 nearly all of it is convolutions, the same as the peer's; ``difference_ratio`` of the bfloat16 row: Eq. 7 against float32.
    """
    peer_name = "one pass per perturbation over a file per slice, plain network"
    note = "slices are read once, blank ones encoded once per perturbation, the unperturbed once, in batches that fit the cache"
    with tempfile.TemporaryDirectory() as folder:
        profile, _ = _prepare(Path(folder), quick, sliced=True)
        arguments = (Path(folder), profile)
        makers = {
            "peer": partial(_perturb_plainly, *arguments),
            "fp32": partial(_perturb, *arguments, "fp32"),
            "bf16": partial(_perturb, *arguments, "bf16"),
        }
        seconds = _best(makers, quick, repeats=2)
        plain, exact, reduced = (np.array(_results(_call, (maker,), quick)) for maker in makers.values())
    rows = [
        row(
            "robustness_sweep", seconds["fp32"], seconds["peer"], peer_name, "s", f"{note}; the same counts, but for ties in the last bits"
        ),
        row("robustness_sweep_bf16", seconds["bf16"], seconds["peer"], peer_name, "s", f"{note}; bfloat16 behind the fidelity gate"),
    ]
    rows[0] |= {"equal": bool((plain == exact).all()), "difference_ratio": _difference(plain, exact)}
    rows[1] |= {"difference_ratio": _difference(exact, reduced)}
    return rows


def _best(makers: dict[str, Callable[[], Callable]], quick: bool, repeats: int) -> dict[str, float]:
    """Time each in a process of its own; all in this one where it only matters that they run."""
    return best_of({name: maker() for name, maker in makers.items()}, 1) if quick else best_of_apart(makers, repeats)


def _results(function: Callable, arguments: tuple, quick: bool) -> Any:
    return function(*arguments) if quick else apart(partial(function, *arguments))


def _call(maker: Callable[[], Callable]) -> object:
    return maker()()


def _prepare(folder: Path, quick: bool, sliced: bool = False) -> tuple[Profile, Patient]:
    """Make the patient, its slices where asked for, and what the peer needs of our network: the peer's process never makes one."""
    profile, patient = load_profile("smoke" if quick else "paper"), phantom_patient(folder / "data", quick)
    if sliced:
        build_slice_store([patient], folder / "slices.zarr", profile.preprocessing, profile.cohort.spacing_mm, 1, progress=False)
    _results(_save_for_peer, (folder, profile), quick)
    return profile, patient


def _save_for_peer(folder: Path, profile: Profile) -> None:
    model = _network(folder, profile)
    plain = PlainNetwork(profile.network, profile.quantizer.codeword_dim).load_from(model.network)
    tensors = {f"plain.{name}": value for name, value in plain.state_dict().items()} | {"codebook": model.network.quantizer.codebook}
    if (folder / "slices.zarr").exists():
        tensors |= _codes(folder, profile, model)
    save_file({name: value.detach().contiguous() for name, value in tensors.items()}, folder / PEER)


def _peer(folder: Path, profile: Profile) -> tuple[PlainNetwork, dict[str, torch.Tensor]]:
    tensors, plain = load_file(folder / PEER), PlainNetwork(profile.network, profile.quantizer.codeword_dim)
    plain.load_state_dict({name.removeprefix("plain."): value for name, value in tensors.items() if name.startswith("plain.")})
    return plain.eval(), tensors


def _network(folder: Path, profile: Profile) -> TrainedModel:
    """Return a network of random weights whose codewords are latents of the patient, so that many are in use."""
    network = SegmentationNetwork(profile.network, profile.quantizer, seed=0).eval()
    images = make_slices(load_patient(_patient(folder)), profile.preprocessing, profile.cohort.spacing_mm).images
    with torch.inference_mode():
        latents = torch.cat([network.encode(torch.from_numpy(image[None]).float()) for image in images[::10]])
        rows = latents.permute(0, 2, 3, 1).flatten(0, 2)
        chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[: profile.quantizer.codebook_size]
        network.quantizer.codebook[: len(chosen)] = rows[chosen]
    return TrainedModel(network, profile, {})


def _patient(folder: Path) -> Patient:
    return find_patients(folder / "data")[0]


def _difference(counts: np.ndarray, others: np.ndarray) -> float:
    return float(np.abs(counts - others).sum() / counts.sum())


# From files to the histogram


def _our_way(folder: Path, profile: Profile, precision: Precision) -> Callable[[], np.ndarray]:
    model, patient = _network(folder, profile), _patient(folder)
    model.network.precision = precision

    def count() -> np.ndarray:
        slices = make_slices(load_patient(patient), profile.preprocessing, profile.cohort.spacing_mm)
        return codeword_histogram(encode_patient(model, slices.images), profile.quantizer.codebook_size)

    return count


def _authors_way(folder: Path, profile: Profile) -> Callable[[], np.ndarray]:
    (plain, tensors), patient = _peer(folder, profile), _patient(folder)
    files, size, stored = [*patient.files.values(), patient.segmentation], profile.preprocessing.image_size, folder / "npy"
    stored.mkdir(exist_ok=True)

    def count() -> np.ndarray:
        *images, labels = (nibabel.load(file).get_fdata() for file in files)
        for channel, image in enumerate(images):
            brain = image[image != 0]
            image = (image - brain.mean()) / brain.std()
            for number in range(image.shape[2]):
                plane = torch.from_numpy(image[:, :, number]).float()[None, None]
                np.save(stored / f"{number}_{channel}.npy", F.interpolate(plane, (size, size), mode="bilinear")[0, 0].numpy())
        for number in range(labels.shape[2]):
            plane = torch.from_numpy(labels[:, :, number]).float()[None, None]
            np.save(stored / f"{number}_label.npy", F.interpolate(plane, (size, size))[0, 0].numpy().astype(np.uint8))
        counts = np.zeros(profile.quantizer.codebook_size, int)
        for number in range(labels.shape[2]):
            channels = [np.load(stored / f"{number}_{channel}.npy") for channel in range(4)]
            np.load(stored / f"{number}_label.npy")  # their loader gives the labels too
            counts += _plain_counts(plain, tensors["codebook"], torch.from_numpy(np.stack(channels))[None])
        return counts

    return count


@torch.inference_mode()
def _plain_counts(plain: PlainNetwork, codebook: torch.Tensor, images: torch.Tensor) -> np.ndarray:
    return np.bincount(plain_codes(plain.encoder(images), codebook).flatten().numpy(), minlength=len(codebook))


def _three_histograms(folder: Path, profile: Profile) -> tuple[list[np.ndarray], dict[str, int]]:
    """Return the counts of the same slices by the plain network, ours in float32 and in bfloat16; and what float64 says of float32's ties.

    Two float32 networks that add in another order differ in the last bits of a latent, and so, where two codewords are equally near up to
    these bits, in its code: ``moved`` tokens, of which ours is the one of the plain network in float64 in ``moved_to_that_of_float64``.
    """
    model = _network(folder, profile)
    plain, tensors = _peer(folder, profile)
    images = torch.from_numpy(make_slices(load_patient(_patient(folder)), profile.preprocessing, profile.cohort.spacing_mm).images)
    with torch.inference_mode():
        codes = [torch.cat([plain_codes(plain.encoder(image[None].float()), tensors["codebook"]) for image in images])]
        for precision in ("fp32", "bf16"):
            with counting_in(model, precision):
                codes.append(encode_patient(model, images.numpy()))
        moved = codes[0] != codes[1]
        slices = moved.flatten(1).any(1)
        exact = (
            plain_codes(plain.double().encoder(images[slices].double()), tensors["codebook"].double()) if slices.any() else codes[1][slices]
        )
    right = int((exact == codes[1][slices])[moved[slices]].sum())
    facts = {"tokens": moved.numel(), "moved": int(moved.sum()), "moved_to_that_of_float64": right}
    return [codeword_histogram(found, profile.quantizer.codebook_size) for found in codes], facts


def _gate(folder: Path, patient: Patient) -> Fidelity:
    model = load_model(shipped_model("demo"))
    preprocessing, spacing = model.profile.preprocessing, model.profile.cohort.spacing_mm
    return measure_fidelity(model, build_slice_store([patient], folder / "demo.zarr", preprocessing, spacing, 1, progress=False))


# Ablation


def _codes(folder: Path, profile: Profile, model: TrainedModel) -> dict[str, torch.Tensor]:
    """Return ``codes``, ``codewords`` (the most common in the tumour) and ``background`` (the most common of all)."""
    store = SliceStore(folder / "slices.zarr")
    patient = store.patients[0]
    codes = encode_patient(model, store.images(patient)[::5])
    tumour = F.max_pool2d(torch.from_numpy(store.labels(patient)[::5] > 0).float()[:, None], profile.stride)[:, 0] > 0
    background = torch.bincount(codes.flatten()).argmax()
    common = torch.bincount(codes[tumour], minlength=profile.quantizer.codebook_size)
    common[background] = 0
    return {"codes": codes, "codewords": common.topk(N_RESPONSIBLE).indices, "background": background}


def _ablate(folder: Path, profile: Profile) -> Callable[[], list[np.ndarray]]:
    model, found = _network(folder, profile), load_file(folder / PEER)
    return partial(each_change, model, found["codes"], found["codewords"].tolist(), int(found["background"]))


def _ablate_plainly(folder: Path, profile: Profile) -> Callable[[], list[np.ndarray]]:
    plain, found = _peer(folder, profile)
    codebook, codewords, background = found["codebook"], found["codewords"].tolist(), int(found["background"])

    @torch.inference_mode()
    def ablate() -> list[np.ndarray]:
        maps = []
        for chosen in (codewords, *([k] for k in codewords)):
            rows = []
            for code_map in found["codes"]:
                ablated = code_map.masked_fill(torch.isin(code_map, torch.tensor(chosen)), background)
                before, after = (plain.decoder(codebook[index].permute(2, 0, 1)[None]) for index in (code_map, ablated))
                rows.append((before - after).abs().sum(dim=1)[0].numpy())
            maps.append(np.stack(rows))
        return maps

    return ablate


# Perturbations


def _applied() -> tuple[Perturbation, ...]:
    return perturbations(load_profile("paper").robustness)


def _perturb(folder: Path, profile: Profile, precision: Precision) -> Callable[[], list[np.ndarray]]:
    model, store, applied = _network(folder, profile), SliceStore(folder / "slices.zarr"), _applied()
    model.network.precision = precision

    def count() -> list[np.ndarray]:
        counts = count_perturbed(model, store, applied, every=8)
        return [counts[perturbation].to_numpy()[0] for perturbation in applied]

    return count


def _perturb_plainly(folder: Path, profile: Profile) -> Callable[[], list[np.ndarray]]:
    (plain, tensors), store, applied = _peer(folder, profile), SliceStore(folder / "slices.zarr"), _applied()
    files = []
    for number, image in enumerate(store.images(store.patients[0])[::8]):
        files.append(folder / f"slice_{number}.npy")
        np.save(files[-1], image.astype(np.float32))

    def count() -> list[np.ndarray]:
        return [
            sum(_plain_counts(plain, tensors["codebook"], perturbation(torch.from_numpy(np.load(file))[None])) for file in files)
            for perturbation in applied
        ]

    return count
