"""From tissue to MR signal: sequence equations, relaxation times and the protocols of the sites.

All times are in ms. Source: spin-echo, spoiled gradient-echo and inversion-recovery equations as in Haacke et al. 1999, *Magnetic
Resonance Imaging: Physical Principles and Sequence Design* (ch. 8, 14, 18); which tissue has which numbers is said at ``RELAXATION``.
"""

from dataclasses import dataclass, replace

import numpy as np

from drlib.cohort.regions import MODALITIES

CLASSES = ("WM", "GM", "CSF", "ED", "SOLID", "NECROSIS", "ET", "VESSEL", "PLEXUS", "BLOOD", "DURA")


@dataclass(frozen=True)
class Relaxation:
    """What a tissue brings to the signal: T1 at 1.5 T (ms), its growth T1 ~ B0**exponent, T2 (ms), proton density (CSF = 1)."""

    t1: float
    exponent: float
    t2: float
    density: float
    gadolinium_mmol: float = 0.0  # per litre, after the usual dose


# WM, GM, CSF: T1 and its growth with the field after Rooney et al. 2007 (Magn Reson Med 57:308), T2 after Stanisz et al. 2005 (Magn Reson
# Med 54:507), densities after BrainWeb (Collins et al. 1998, IEEE TMI 17:463); T2 of CSF shortened for its pulsation. Oedema, solid tumour
# and necrosis are longer in both than grey matter, within the spread of relaxometry in gliomas (Badve et al. 2017, AJNR 38:492; Blystad
# et al. 2017, PLoS ONE 12:e0177135); concentrations of gadolinium are ours, so that ET is as bright on T1ce as in patients.
RELAXATION: dict[str, Relaxation] = {
    "WM": Relaxation(656, 0.38, 72, 0.71, 0.01),
    "GM": Relaxation(1100, 0.36, 95, 0.82, 0.03),
    "CSF": Relaxation(4000, 0.0, 700, 1.0),
    "ED": Relaxation(1020, 0.30, 130, 0.85, 0.02),
    "SOLID": Relaxation(1300, 0.28, 155, 0.90, 0.03),
    "NECROSIS": Relaxation(1750, 0.15, 190, 0.94, 0.03),
    "ET": Relaxation(1150, 0.28, 108, 0.85, 0.28),
    "VESSEL": Relaxation(1440, 0.20, 40, 0.80, 1.2),
    "PLEXUS": Relaxation(1500, 0.20, 180, 0.92, 0.6),
    "BLOOD": Relaxation(500, 0.10, 75, 0.85, 0.02),
    "DURA": Relaxation(900, 0.30, 25, 0.45, 0.25),
}
RELAXIVITY_R1, RELAXIVITY_R2 = 4.3, 5.2  # per mmol/l and second: gadopentetate in plasma (Rohrer et al. 2005, Invest Radiol 40:715)


@dataclass(frozen=True)
class Sequence:
    """One acquisition: ``kind`` spin-echo, gradient-echo or inversion-recovery; times in ms, flip angle in degrees."""

    kind: str
    tr: float
    te: float
    ti: float = 0.0
    flip: float = 90.0


@dataclass(frozen=True)
class Protocol:
    """A site: its scanner and its four sequences."""

    name: str
    field_tesla: float
    sequences: dict[str, Sequence]
    noise: float  # deviation of the noise relative to white matter in t1 of a thick-voxel scan
    bias: float  # deviation of the log of the receive field


def draw_protocol(name: str, rng: np.random.Generator, shifted: bool = False) -> Protocol:
    """Draw a site. ``shifted``: a 0.55 T scanner with long echoes and little signal, unlike any of the standard sites."""
    field = 0.55 if shifted else float(rng.choice([1.5, 3.0]))
    longer = 1.25 if shifted else 1.0
    kind = rng.choice(["spin-echo", "gradient-echo", "inversion-recovery"], p=[0.5, 0.25, 0.25])
    t1 = _draw_t1(kind, field, rng)
    t1ce = t1 if rng.random() < 0.65 else _draw_t1(rng.choice(["spin-echo", "gradient-echo", "inversion-recovery"]), field, rng)
    t2 = Sequence("spin-echo", rng.uniform(3000, 6500), longer * rng.uniform(80, 110))
    ti = {0.55: 1950, 1.5: 2150, 3.0: 2400}[field] + rng.uniform(-120, 120)
    flair = Sequence("inversion-recovery", rng.uniform(7500, 10500), longer * rng.uniform(95, 135), ti)
    noise = float(rng.uniform(0.05, 0.08) if shifted else rng.uniform(0.007, 0.028))
    bias = float(rng.uniform(0.1, 0.16) if shifted else rng.uniform(0.03, 0.12))
    return Protocol(name, field, dict(zip(MODALITIES, (t1, t1ce, t2, flair), strict=True)), noise, bias)


def vary_protocol(protocol: Protocol, rng: np.random.Generator) -> Protocol:
    """Return the protocol as it was used on one day: every time a few per cent off."""
    varied = {
        modality: replace(s, tr=s.tr * _near_one(rng, 0.06), te=s.te * _near_one(rng, 0.05), ti=s.ti * _near_one(rng, 0.02))
        for modality, s in protocol.sequences.items()
    }
    return replace(protocol, sequences=varied, noise=protocol.noise * _near_one(rng, 0.2), bias=protocol.bias * _near_one(rng, 0.2))


def vary_relaxation(rng: np.random.Generator, spread: float = 1.0) -> dict[str, Relaxation]:
    """Return the relaxation times of one patient: 5 % around the literature for healthy tissue, 16 % for tumour, times ``spread``."""
    varied = {}
    for name, tissue in RELAXATION.items():
        width = spread * (0.05 if name in ("WM", "GM", "CSF") else 0.16)
        varied[name] = replace(
            tissue,
            t1=tissue.t1 * _near_one(rng, width),
            t2=tissue.t2 * _near_one(rng, width),
            density=tissue.density * _near_one(rng, 0.3 * width),
            gadolinium_mmol=tissue.gadolinium_mmol * _near_one(rng, 2.0 * width),
        )
    return varied


def class_signals(relaxation: dict[str, Relaxation], protocol: Protocol) -> np.ndarray:
    """Return the signal of each class in each modality, (11, 4), in units where fully relaxed CSF at TE 0 is 1."""
    signals = np.empty((len(CLASSES), len(MODALITIES)))
    for row, name in enumerate(CLASSES):
        tissue = relaxation[name]
        t1 = tissue.t1 * (protocol.field_tesla / 1.5) ** tissue.exponent
        for column, modality in enumerate(MODALITIES):
            dose = tissue.gadolinium_mmol if modality == "t1ce" else 0.0
            rate_1 = 1 / t1 + RELAXIVITY_R1 * dose / 1000
            rate_2 = 1 / tissue.t2 + RELAXIVITY_R2 * dose / 1000
            signals[row, column] = tissue.density * sequence_signal(protocol.sequences[modality], 1 / rate_1, 1 / rate_2)
    return signals


def sequence_signal(sequence: Sequence, t1: float, t2: float) -> float:
    """Return the magnitude of the signal of unit proton density.

    Source: Haacke et al. 1999. Spin echo: (1 - exp(-TR/T1)) exp(-TE/T2). Spoiled gradient echo (Ernst): sin a (1 - E1) / (1 - cos a E1)
    exp(-TE/T2), T2* taken as T2 because TE is a few ms. Inversion recovery: \\|1 - 2 exp(-TI/T1) + exp(-TR/T1)\\| exp(-TE/T2).
    """
    decay = np.exp(-sequence.te / t2)
    e1 = np.exp(-sequence.tr / t1)
    if sequence.kind == "spin-echo":
        return float((1 - e1) * decay)
    if sequence.kind == "gradient-echo":
        angle = np.deg2rad(sequence.flip)
        return float(np.sin(angle) * (1 - e1) / (1 - np.cos(angle) * e1) * decay)
    return float(abs(1 - 2 * np.exp(-sequence.ti / t1) + e1) * decay)


def _draw_t1(kind: str, field: float, rng: np.random.Generator) -> Sequence:
    if kind == "spin-echo":
        return Sequence("spin-echo", rng.uniform(450, 700), rng.uniform(8, 15))
    if kind == "gradient-echo":
        return Sequence("gradient-echo", rng.uniform(9, 25), rng.uniform(3, 6), flip=rng.uniform(18, 30))
    ti = rng.uniform(800, 950) * (field / 3) ** 0.15
    return Sequence("inversion-recovery", rng.uniform(1800, 2300), rng.uniform(2.5, 4.5), ti)


def _near_one(rng: np.random.Generator, width: float) -> float:
    """Return exp of a normal number of deviation ``width``, cut at two deviations."""
    return float(np.exp(width * np.clip(rng.standard_normal(), -2, 2)))
