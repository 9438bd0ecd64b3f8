"""A run: one profile, one cohort, one seed, and the folder that everything made from them goes to.

Every notebook opens the run from its four parameters; everything else (paths, fingerprints, the words in which results are
labelled) follows from it.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from drlib.artifacts import ArtifactError, build_stage, open_stage, source_hash
from drlib.errors import DeepRadiomicsError
from drlib.profiles import Profile, load_profile

DEVICE, DEVICES = "DRLIB_DEVICE", "DRLIB_DEVICES"  # where the network is: cpu or cuda, and how many of this machine train it


class RunError(DeepRadiomicsError):
    """A parameter of a run has a value that cannot be used."""


def project_root() -> Path:
    """Return the folder that holds ``notebooks`` and ``_toc.yml``; the current folder where there is none above it."""
    here = Path.cwd().resolve()
    return next((folder for folder in (here, *here.parents) if (folder / "_toc.yml").is_file()), here)


@dataclass(frozen=True)
class Run:
    """The parameters of a run and what follows from them.

    Attributes:
        profile: every setting.
        data_dir: the user's cohort (folder or manifest), or None for the phantom cohort.
        folder: where the run's stages are written, one folder each.
        seed: the seed of every random draw.
    """

    profile: Profile
    data_dir: Path | None
    folder: Path
    seed: int

    @property
    def is_phantom(self) -> bool:
        """Whether the patients are synthetic."""
        return self.data_dir is None

    @property
    def cohort_name(self) -> str:
        """``phantom``, or the name of the user's folder: the word that stands beside every number."""
        return "phantom" if self.is_phantom else self.data_dir.stem

    @property
    def label(self) -> str:
        """The words under a figure or table that say where its numbers come from."""
        cohort = (
            "phantom cohort (synthetic patients, not clinical)" if self.is_phantom else f"cohort {self.cohort_name} (supplied by the user)"
        )
        return f"{cohort}, profile {self.profile.name}, seed {self.seed}"

    def build(self, stage: str, sources: tuple[str, ...], upstream: tuple[str, ...], make: Callable[[Path], None], **settings) -> Path:
        """Return the folder of ``stage``, made by ``make`` unless it is there for the same inputs.

        The key holds: the seed, the fingerprint of the data, ``settings``, the ``drlib`` sources in ``sources``, the keys of the
        ``upstream`` stages. A stage is therefore made again exactly when one of these changed.
        """
        key_parts = {
            "seed": self.seed,
            "data": data_fingerprint(self.data_dir),
            "settings": settings,
            "sources": source_hash(*sources),
            "upstream": {name: self.manifest(name)["key"] for name in upstream},
        }
        return build_stage(self.folder / stage, key_parts, make)

    def manifest(self, stage: str) -> dict:
        """Return the checked manifest of a finished stage; ArtifactError names the chapter to run first."""
        return open_stage(self.folder / stage, repair=self.command(STAGE_CHAPTERS[stage]))

    def command(self, *chapters: str) -> str:
        """Return the command line that executes ``chapters`` of this run."""
        data = ("" if self.is_phantom else f" --data {self.data_dir}") + (f" --seed {self.seed}" if self.seed else "")
        return f"drlib run --profile {self.profile.name}{data} --chapters {','.join(chapters)}"


STAGE_CHAPTERS = {
    "phantom": "01",
    "cohort": "01",
    "model": "03",
    "segmentation": "03",
    "histograms": "04",
    "grading": "05",
    "robustness": "06",
    "ablation": "07",
    "atlas": "12",
    "explorer": "13",
}


def open_run(profile: str = "demo", data_dir: str | None = None, results_dir: str = "results", seed: int = 0) -> Run:
    """Return the run that a notebook's four parameters describe; relative folders count from the project's root.

    Raises ProfileError or RunError naming the parameter and the values it can have.
    """
    settings = load_profile(profile)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise RunError(f"seed must be a whole number from 0 on, not {seed!r}")
    folder = settings.slug if seed == 0 else f"{settings.slug}-seed{seed}"
    data = None
    if data_dir is not None:
        data = project_root() / data_dir
        if not data.exists():
            raise RunError(
                f"data_dir {str(data_dir)!r} does not exist; give a folder of BraTS patients or a CSV manifest, or None for phantoms"
            )
        folder += f"-data{hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:6]}"
    return Run(settings, data, project_root() / results_dir / folder, seed)


def data_fingerprint(data_dir: Path | None) -> str:
    """Return a hash of names, sizes and modification times of every file below ``data_dir``; ``phantom`` for None."""
    if data_dir is None:
        return "phantom"
    files = [data_dir] if data_dir.is_file() else sorted(path for path in data_dir.rglob("*") if path.is_file())
    digest = hashlib.sha256()
    for path in files:
        status = path.stat()
        digest.update(f"{path.relative_to(data_dir.parent)}\x1f{status.st_size}\x1f{status.st_mtime_ns}\x1e".encode())
    return digest.hexdigest()


__all__ = ["ArtifactError", "Run", "RunError", "data_fingerprint", "open_run", "project_root"]
