"""A study: one data set, one profile, some variants and seeds; its folders, its training, its figures and tables."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from IPython.display import Image
from matplotlib.figure import Figure

from dyga.config import (
    DEFAULT_VARIANTS,
    VARIANTS,
    Config,
    check_name,
    check_variants,
    make_config,
    parse_numbers,
    parse_variants,
    study_name,
)
from dyga.data import load_dataset
from dyga.provenance import describe, write_json
from dyga.study import report
from dyga.study.workers import run_workers


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
        if not self.name:
            object.__setattr__(self, "name", study_name(self.profile, self.dataset, self.settings))
        check_name(self.name)
        check_variants(self.configs())

    @property
    def runs(self) -> Path:
        """The folder of runs, executed notebooks and report.html."""
        return Path(self.root).resolve() / "runs" / self.name

    @property
    def figures(self) -> Path:
        """The folder of figures and tables."""
        return Path(self.root).resolve() / "figures" / self.name

    def configs(self) -> list[Config]:
        """One configuration per variant and seed, in the order of training: the slowest variants first."""
        order = sorted(parse_variants(self.variants), key=list(VARIANTS).index, reverse=True)
        seeds = parse_numbers(self.seeds, "seeds", 0, 10_000)
        return [make_config(self.profile, self.dataset, v, s, self.settings) for s in seeds for v in order]

    def folder(self, config: Config) -> Path:
        """<runs>/<variant>-seed<k>."""
        return self.runs / f"{config.variant}-seed{config.seed}"

    def finished(self) -> dict[tuple[str, int], Path]:
        """(variant, seed) -> folder, variants in the table's order. NotTrained names the notebook to run first."""
        wanted = sorted(self.configs(), key=lambda c: (list(VARIANTS).index(c.variant), c.seed))
        folders = {(c.variant, c.seed): self.folder(c) for c in wanted}
        missing = [f.name for f in folders.values() if not (f / "metrics.json").exists()]
        if missing:
            raise NotTrained(f"{self.name} is not trained yet ({', '.join(missing)}). Run notebook 02_training first.")
        return folders

    def baseline_folders(self) -> dict[int, Path]:
        """seed -> the folder of that seed's baselines."""
        return {seed: self.runs / f"baselines-seed{seed}" for seed in parse_numbers(self.seeds, "seeds", 0, 10_000)}

    def baselines(self) -> dict[tuple[str, int], dict]:
        """(method, seed) -> what was measured of it, with its `seconds`. NotTrained as in `finished`."""
        found = {}
        for seed, folder in self.baseline_folders().items():
            if not _is_finished(folder):
                raise NotTrained(f"{self.name} is not trained yet ({folder.name}). Run notebook 02_training first.")
            measured = json.loads((folder / "metrics.json").read_text())
            found |= {(method, seed): values for method, values in measured.items()}
        return found

    def train(self) -> None:
        """Trains and evaluates what is not finished, in several processes, and prints the progress every few seconds.
        ValueError if the study's folder was made with other settings."""
        self._claim()
        where = ["--dataset", self.dataset, "--profile", self.profile, *(["--set", self.settings] if self.settings else [])]
        first_stage = ["first-stage", *where, "--folder", str(self.runs / "first_stage")]
        commands = []
        for config in self.configs():
            which = ["--variant", config.variant, "--seed", str(config.seed), "--folder", str(self.folder(config))]
            commands.append(["train", *where, *which])
        if load_dataset(self.dataset, self.data_dir or None).factors is not None:
            for seed, folder in self.baseline_folders().items():
                commands.append(["baselines", *where, "--seed", str(seed), "--folder", str(folder)])
            commands.append(["factor-classifier", *where, "--folder", str(self.runs / "factor_classifier")])
        # The longest first, so that the workers end together. Only decoded images need the pooled first stage.
        if self.configs()[0].first_stage == "pooled":
            commands.append(first_stage)
        else:
            run_workers(self._pending([first_stage]))
        run_workers(self._pending(commands))

    def _claim(self) -> None:
        """Writes study.json, which says what the folder's runs were made of."""
        own = {"dataset": self.dataset, "profile": self.profile, "settings": self.configs()[0].changes}
        path = self.runs / "study.json"
        if path.exists() and json.loads(path.read_text()) != own:
            raise ValueError(f"{self.runs} belongs to another study ({path.read_text()}): choose another --name")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, own)

    def _pending(self, commands: list[list[str]]) -> list[list[str]]:
        return [self._command(command) for command in commands if not _is_finished(Path(command[-1]))]

    def _command(self, arguments: list[str]) -> list[str]:
        data = ["--data-dir", self.data_dir] if self.data_dir else []
        return [sys.executable, "-m", "dyga", arguments[0], *data, *arguments[1:]]

    def save_figure(self, figure: Figure, name: str, **provenance) -> Figure:
        """Writes figures/<name>.png, .svg and .json (where it comes from); returns the figure, for the notebook to show."""
        self.figures.mkdir(parents=True, exist_ok=True)
        origin = self.origin(label=figure.get_label(), **provenance)
        text = json.dumps(origin)
        for suffix, keys in (("png", {"Description": text}), ("svg", {"Description": text, "Date": None})):
            partial = self.figures / f".{name}.{suffix}.tmp"
            figure.savefig(partial, format=suffix, dpi=300, metadata=keys)
            os.replace(partial, self.figures / f"{name}.{suffix}")
        write_json(self.figures / f"{name}.json", origin)
        return figure

    def saved_figure(self, name: str, notebook: str) -> Image:
        """A figure that `notebook` has saved, to show it again. NotTrained names the notebook if it has not."""
        path = self.figures / f"{name}.png"
        if not path.exists():
            raise NotTrained(f"{self.name} has no figure {name} yet. Run notebook {notebook} first.")
        return Image(path.read_bytes(), width=860, alt=json.loads(path.with_suffix(".json").read_text())["label"])

    def saved_table(self, name: str, notebook: str) -> pd.DataFrame:
        """A table that `notebook` has saved. NotTrained names the notebook if it has not."""
        path = self.figures / f"{name}.csv"
        if not path.exists():
            raise NotTrained(f"{self.name} has no table {name} yet. Run notebook {notebook} first.")
        return pd.read_csv(path)

    def save_table(self, table: pd.DataFrame, name: str, caption: str, **provenance) -> pd.DataFrame:
        """Writes figures/<name>.csv, .tex, .html and .json; returns the table, for the notebook to show."""
        self.figures.mkdir(parents=True, exist_ok=True)
        origin = self.origin(caption=caption, **provenance)
        report.write_table(table, self.figures / name, caption, origin)
        write_json(self.figures / f"{name}.json", origin)
        return table

    def origin(self, **extra) -> dict:
        """Where the study's results come from: variants, seeds, changed settings, seconds, commit, versions, hardware."""
        logs = [self.folder(c) / "log.jsonl" for c in self.configs()]
        last = {p.parent.name: p.read_text().splitlines()[-1:] for p in logs if p.exists()}
        seconds = {name: json.loads(lines[0])["seconds"] for name, lines in last.items() if lines}
        return describe(
            run=self.name, variants=self.variants, seeds=self.seeds, settings=self.settings, training_seconds=seconds, **extra
        )


def _is_finished(folder: Path) -> bool:
    last = "model.safetensors" if folder.name in ("first_stage", "factor_classifier") else "metrics.json"
    return (folder / last).exists()
