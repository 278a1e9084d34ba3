"""A study: one data set, one profile, some variants and seeds; its folders, its training, its figures and tables."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from IPython.display import Image
from matplotlib.figure import Figure

from dyga.config import (
    DEFAULT_VARIANTS,
    VARIANTS,
    Config,
    absolute_dataset,
    check_name,
    check_variants,
    make_config,
    parse_numbers,
    parse_variants,
    study_name,
)
from dyga.data import Dataset, load_dataset
from dyga.kept import CLASSIFIER, FIRST_STAGE, check_made_of, claim, classifier_settings, digest, first_stage_settings
from dyga.provenance import describe
from dyga.study import report
from dyga.study.workers import run_workers

if TYPE_CHECKING:
    from dyga.explore.run import Run

# Variants, by how well one unit follows one factor.
BEST_FIRST = ("pruned", "two_scalars", "decorrelated_without_skip_dropout", "decorrelated", "full")


class NotTrained(FileNotFoundError):
    """Says which notebook to run first. A notebook shows this sentence alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


@dataclass(frozen=True)
class Study:
    """One data set, one profile, some variants and seeds, and where their runs and figures live: runs/ and figures/ in `root`.

    `settings` changes settings of all runs, as "steps=3000, units=16". `name` is the folder's name; the default says data set,
    profile and changes. ValueError for anything unknown or impossible.
    """

    dataset: str = "rooms3d"
    profile: str = "quick"
    variants: str = ",".join(DEFAULT_VARIANTS)
    seeds: str = "0"
    root: str = ".."
    data_dir: str = ""
    settings: str = ""
    name: str = ""

    def __post_init__(self):
        object.__setattr__(self, "dataset", absolute_dataset(self.dataset))
        if not self.name:
            object.__setattr__(self, "name", study_name(self.profile, self.dataset, self.settings))
        check_name(self.name)
        check_variants(self.configs())

    @cached_property
    def data(self) -> Dataset:
        """The data set. ValueError if it cannot be opened."""
        return load_dataset(self.dataset, self.data_dir or None, self.configs()[0].image_size)

    @property
    def runs(self) -> Path:
        """The folder of runs, executed notebooks and report.html."""
        return Path(self.root).expanduser().resolve() / "runs" / self.name

    @property
    def figures(self) -> Path:
        """The folder of figures and tables."""
        return Path(self.root).expanduser().resolve() / "figures" / self.name

    def configs(self) -> list[Config]:
        """One configuration per variant and seed, in the order of training: the slowest variants first."""
        order = sorted(parse_variants(self.variants), key=list(VARIANTS).index, reverse=True)
        seeds = parse_numbers(self.seeds, "seeds", 0, 10_000)
        return [make_config(self.profile, self.dataset, v, s, self.settings) for s in seeds for v in order]

    def folder(self, config: Config) -> Path:
        """<runs>/<variant>-seed<k>."""
        return self.runs / f"{config.variant}-seed{config.seed}"

    def finished(self) -> dict[tuple[str, int], Path]:
        """(variant, seed) -> folder, variants in the table's order. NotTrained names the notebook to run first, ValueError what
        was made of other data or settings."""
        wanted = sorted(self.configs(), key=lambda c: (list(VARIANTS).index(c.variant), c.seed))
        folders = {(c.variant, c.seed): self.folder(c) for c in wanted}
        missing = [f.name for f in folders.values() if not (f / "metrics.json").exists()]
        if missing:
            raise NotTrained(f"{self.name} is not trained yet ({', '.join(missing)}). Run notebook 02_training first.")
        self.check()
        return folders

    def shown(self) -> tuple["Study", "Run"]:
        """The run whose units are shown: that of the project's best variant in this study. Before training: the model of this
        data set that comes with the project, and a study that keeps its figures apart. NotTrained if there is neither."""
        from dyga.explore.run import PRETRAINED, load_run  # here, since it loads torch; training runs in other processes

        try:
            folders = self.finished()
        except NotTrained as missing:
            try:
                run = load_run(PRETRAINED + self.dataset, self.data_dir or None)
            except ValueError:
                raise missing from None
            print(f"{missing} Until then, this is the model that comes with the project.")
            return replace(self, name=f"{self.dataset}-pretrained"), run
        ranked = sorted(folders, key=lambda key: BEST_FIRST.index(key[0]) if key[0] in BEST_FIRST else len(BEST_FIRST))
        return self, load_run(folders[ranked[0]], self.data_dir or None)

    def baseline_folders(self) -> dict[int, Path]:
        """seed -> the folder of that seed's baselines."""
        return {seed: self.runs / f"baselines-seed{seed}" for seed in parse_numbers(self.seeds, "seeds", 0, 10_000)}

    def baselines(self) -> dict[tuple[str, int], dict]:
        """(method, seed) -> what was measured of it, with its `seconds`. NotTrained as in `finished`."""
        found = {}
        self.check()
        for seed, folder in self.baseline_folders().items():
            if not _is_finished(folder):
                raise NotTrained(f"{self.name} is not trained yet ({folder.name}). Run notebook 02_training first.")
            measured = json.loads((folder / "metrics.json").read_text())
            found |= {(method, seed): values for method, values in measured.items()}
        return found

    def train(self) -> None:
        """Trains and evaluates what is not finished, in several processes, and prints the progress every few seconds.
        ValueError if the study's folder, or one in it, was made of other data or settings."""
        self.claim()
        given = {"dataset": self.dataset, "profile": self.profile, "data-dir": self.data_dir, "set": self.settings}
        where = [word for name, value in given.items() if value for word in (f"--{name}", value)]
        first_stage = ["first-stage", *where, "--folder", str(self.runs / FIRST_STAGE)]
        commands = []
        for config in self.configs():
            which = ["--variant", config.variant, "--seed", str(config.seed), "--folder", str(self.folder(config))]
            commands.append(["train", *where, *which])
        if self.data.factors is not None:
            for seed, folder in self.baseline_folders().items():
                commands.append(["baselines", *where, "--seed", str(seed), "--folder", str(folder)])
            commands.append(["factor-classifier", *where, "--folder", str(self.runs / CLASSIFIER)])
        # The longest first, so that the workers end together. Only decoded images need the patches first stage.
        if self.configs()[0].first_stage == "patches":
            commands.append(first_stage)
        else:
            run_workers(self._pending([first_stage]))
            self.check()  # runs that were trained on the latents of another first stage
        run_workers(self._pending(commands))

    def claim(self) -> None:
        """`check`, then writes down what a new folder is made of."""
        self.check()
        claim(self.runs / "study.json", self._made_of())

    def check(self) -> None:
        """ValueError unless all that the study's folder keeps was made of this study's data and settings."""
        check_made_of(self.runs / "study.json", self._made_of())
        for folder, made_of in self._kept().items():
            check_made_of(folder / "config.json", made_of)

    def _made_of(self) -> dict:
        settings = {"dataset": self.dataset, "profile": self.profile, "settings": self.configs()[0].changes}
        return {"data": self.data.identity, **settings}

    def _kept(self) -> dict[Path, Mapping]:
        """Each folder of the study, and what its contents must be made of."""
        configs = [replace(config, data=self.data.identity) for config in self.configs()]
        kept: dict[Path, Mapping] = {self.runs / FIRST_STAGE: first_stage_settings(configs[0])}
        kept[self.runs / CLASSIFIER] = classifier_settings(configs[0])
        for seed, folder in self.baseline_folders().items():
            own = make_config(self.profile, self.dataset, "encdiff", seed, self.settings)
            kept[folder] = asdict(replace(own, data=self.data.identity))
        for config in configs:
            folder = self.folder(config)
            stages = [each / FIRST_STAGE / "model.safetensors" for each in (self.runs, folder)]
            there = [stage for stage in stages if config.first_stage == "vq" and stage.exists()]
            kept[folder] = asdict(replace(config, first_stage_digest=digest(there[0].read_bytes()) if there else ""))
        return kept

    def _pending(self, commands: list[list[str]]) -> list[list[str]]:
        return [[sys.executable, "-m", "dyga", *command] for command in commands if not _is_finished(Path(command[-1]))]

    def save_figure(self, figure: Figure, name: str) -> Figure:
        """Writes figures/<name>.png, .svg and .json (where it comes from); returns the figure, for the notebook to show."""
        report.write_figure(figure, self.figures / name, self.origin())
        return figure

    def save_table(self, table: pd.DataFrame, name: str, caption: str) -> pd.DataFrame:
        """Writes figures/<name>.csv, .tex, .html and .json; returns the table, for the notebook to show."""
        report.write_table(table, self.figures / name, caption, self.origin())
        return table

    def saved_figure(self, name: str, notebook: str) -> Image:
        """A figure that `notebook` has saved, to show it again. NotTrained names the notebook if it has not, or has on other
        data."""
        origin = self._saved(name, notebook)
        return Image((self.figures / f"{name}.png").read_bytes(), width=860, alt=origin["label"])

    def saved_table(self, name: str, notebook: str) -> pd.DataFrame:
        """A table that `notebook` has saved. NotTrained as in `saved_figure`."""
        self._saved(name, notebook)
        return pd.read_csv(self.figures / f"{name}.csv")

    def _saved(self, name: str, notebook: str) -> dict:
        path = self.figures / f"{name}.json"
        if not path.exists():
            raise NotTrained(f"{self.name} has no {name} yet. Run notebook {notebook} first.")
        origin = json.loads(path.read_text())
        if origin.get("data") != self.data.identity:
            raise NotTrained(f"{path} was made of other data ({origin.get('data')}). Run notebook {notebook} first.")
        return origin

    def origin(self, **extra) -> dict:
        """Where the study's results come from: data, variants, seeds, changed settings, seconds, commit, versions, hardware."""
        logs = [self.folder(c) / "log.jsonl" for c in self.configs()]
        last = {p.parent.name: p.read_text().splitlines()[-1:] for p in logs if p.exists()}
        seconds = {name: json.loads(lines[0])["seconds"] for name, lines in last.items() if lines}
        own = {"run": self.name, "data": self.data.identity, "variants": self.variants, "seeds": self.seeds}
        return describe(**own, settings=self.settings, training_seconds=seconds, **extra)

    def first_stage_note(self) -> str:
        """A sentence if the paper's first stage was trained without the losses that make it a VQ-GAN, else ''."""
        path = self.runs / FIRST_STAGE / "provenance.json"
        return json.loads(path.read_text()).get("note", "") if path.exists() else ""


def _is_finished(folder: Path) -> bool:
    last = "model.safetensors" if folder.name in (FIRST_STAGE, CLASSIFIER) else "metrics.json"
    return (folder / last).exists()
