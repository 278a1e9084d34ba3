"""A study: one data set, one profile, some variants and seeds; trained by workers, told by notebooks, gathered in a report."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pandas as pd
from IPython.display import Image
from matplotlib.figure import Figure

from dyga.config import DEFAULT_VARIANTS, VARIANTS, Config, dataset_slug, make_config, parse_numbers, parse_variants
from dyga.data import load_dataset, prepare_dataset
from dyga.provenance import checkout, describe, write_atomically, write_json
from dyga.study import report


@dataclass(frozen=True)
class Study:
    """Where a study lives and what belongs to it. `root` holds runs/ and figures/; ValueError for unknown names."""

    dataset: str = "rooms3d"
    profile: str = "quick"
    variants: str = ",".join(DEFAULT_VARIANTS)
    seeds: str = "0"
    root: str = ".."
    data_dir: str = ""

    def __post_init__(self):
        parse_variants(self.variants)
        parse_numbers(self.seeds, "seeds", 0, 10_000)
        make_config(self.profile, self.dataset)

    @property
    def name(self) -> str:
        """The folder's name, <dataset>-<profile>."""
        return f"{dataset_slug(self.dataset)}-{self.profile}"

    @property
    def runs(self) -> Path:
        """The folder of runs, executed notebooks and report.html."""
        return Path(self.root).resolve() / "runs" / self.name

    @property
    def figures(self) -> Path:
        """The folder of figures and tables."""
        return Path(self.root).resolve() / "figures" / self.name

    def configs(self) -> list[Config]:
        """One configuration per variant and seed; what is measured to help most trains first."""
        order = sorted(parse_variants(self.variants), key=list(VARIANTS).index, reverse=True)
        seeds = parse_numbers(self.seeds, "seeds", 0, 10_000)
        return [make_config(self.profile, self.dataset, v, s) for s in seeds for v in order]

    def folder(self, config: Config) -> Path:
        """<runs>/<variant>-seed<k>."""
        return self.runs / f"{config.variant}-seed{config.seed}"

    def finished(self) -> dict[tuple[str, int], Path]:
        """(variant, seed) -> folder, variants in the table's order. FileNotFoundError names the notebook to run first."""
        wanted = sorted(self.configs(), key=lambda c: (list(VARIANTS).index(c.variant), c.seed))
        folders = {(c.variant, c.seed): self.folder(c) for c in wanted}
        missing = [f.name for f in folders.values() if not (f / "metrics.json").exists()]
        if missing:
            raise FileNotFoundError(f"not trained yet: {', '.join(missing)}. Run notebook 02_training first")
        return folders

    def baseline_folders(self) -> dict[int, Path]:
        """seed -> the folder of that seed's baselines."""
        return {seed: self.runs / f"baselines-seed{seed}" for seed in parse_numbers(self.seeds, "seeds", 0, 10_000)}

    def baselines(self) -> dict[tuple[str, int], dict]:
        """(method, seed) -> what was measured of it, with its `seconds`. FileNotFoundError as in `finished`."""
        found = {}
        for seed, folder in self.baseline_folders().items():
            if not _is_finished(folder):
                raise FileNotFoundError(f"not trained yet: {folder.name}. Run notebook 02_training first")
            measured = json.loads((folder / "metrics.json").read_text())
            found |= {(method, seed): values for method, values in measured.items()}
        return found

    def train(self) -> None:
        """Trains and evaluates what is not finished, over some workers, with a line of progress every few seconds."""
        where = ["--dataset", self.dataset, "--profile", self.profile]
        first_stage = ["first-stage", *where, "--folder", str(self.runs / "first_stage")]
        commands = []
        for config in self.configs():
            which = ["--variant", config.variant, "--seed", str(config.seed), "--folder", str(self.folder(config))]
            commands.append(["train", *where, *which])
        if load_dataset(self.dataset, self.data_dir or None).factors is not None:
            for seed, folder in self.baseline_folders().items():
                commands.append(["baselines", *where, "--seed", str(seed), "--folder", str(folder)])
            commands.append(["factor-probe", *where, "--folder", str(self.runs / "factor_probe")])
        # The longest first, so that the workers end together. The pooled first stage is needed by nothing but pictures.
        if make_config(self.profile).first_stage == "pooled":
            commands.append(first_stage)
        else:
            _run_workers(self._pending([first_stage]))
        _run_workers(self._pending(commands))

    def _pending(self, commands: list[list[str]]) -> list[list[str]]:
        return [self._command(command) for command in commands if not _is_finished(Path(command[-1]))]

    def _command(self, arguments: list[str]) -> list[str]:
        data = ["--data-dir", self.data_dir] if self.data_dir else []
        return [sys.executable, "-m", "dyga", arguments[0], *data, *arguments[1:]]

    def save_figure(self, figure: Figure, name: str, **provenance) -> Figure:
        """Writes figures/<name>.png, .svg and .json (where it comes from); returns the figure, for the notebook to show."""
        self.figures.mkdir(parents=True, exist_ok=True)
        origin = self._origin(label=figure.get_label(), **provenance)
        text = json.dumps(origin)
        for suffix, keys in (("png", {"Description": text}), ("svg", {"Description": text, "Date": None})):
            partial = self.figures / f".{name}.{suffix}.tmp"
            figure.savefig(partial, format=suffix, dpi=300, metadata=keys)
            os.replace(partial, self.figures / f"{name}.{suffix}")
        write_json(self.figures / f"{name}.json", origin)
        return figure

    def saved_figure(self, name: str, notebook: str) -> Image:
        """A figure that `notebook` has saved, to show it again. FileNotFoundError names the notebook if it has not."""
        path = self.figures / f"{name}.png"
        if not path.exists():
            raise FileNotFoundError(f"no figure {name} yet. Run notebook {notebook} first")
        return Image(path.read_bytes(), width=860, alt=json.loads(path.with_suffix(".json").read_text())["label"])

    def save_table(self, table: pd.DataFrame, name: str, caption: str, **provenance) -> pd.DataFrame:
        """Writes figures/<name>.csv, .tex, .html and .json; returns the table, for the notebook to show."""
        self.figures.mkdir(parents=True, exist_ok=True)
        origin = self._origin(caption=caption, **provenance)
        report.write_table(table, self.figures / name, caption, origin)
        write_json(self.figures / f"{name}.json", origin)
        return table

    def _origin(self, **extra) -> dict:
        logs = [self.folder(c) / "log.jsonl" for c in self.configs()]
        last = {p.parent.name: p.read_text().splitlines()[-1:] for p in logs if p.exists()}
        seconds = {name: json.loads(lines[0])["seconds"] for name, lines in last.items() if lines}
        return describe(run=self.name, variants=self.variants, seeds=self.seeds, training_seconds=seconds, **extra)


def _is_finished(folder: Path) -> bool:
    last = "model.safetensors" if folder.name in ("first_stage", "factor_probe") else "metrics.json"
    return (folder / last).exists()


def worker_slots() -> list[dict[str, str]]:
    """What runs at a time: one worker a GPU, which it sees alone, else one a core with one thread; more than there are cores
    would only push each other out of the caches. Each is what its worker's environment gets."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None and shutil.which("nvidia-smi"):
        ask = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        visible = ",".join(subprocess.run(ask, capture_output=True, text=True).stdout.split())
    if visible:
        return [{"CUDA_VISIBLE_DEVICES": number} for number in visible.split(",")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [{name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}] * cores


def _run_workers(commands: list[list[str]]) -> None:
    """Runs the commands over the worker slots. RuntimeError with a failed one's last words."""
    # glibc keeps freed memory instead of returning it to the system and faulting it in again at every step: 6% faster.
    memory = {"MALLOC_MMAP_THRESHOLD_": "1000000000", "MALLOC_TRIM_THRESHOLD_": "2000000000"}
    environment = os.environ | memory | {"DYGA_PARENT": str(os.getpid())}
    waiting, running, free = list(commands), [], worker_slots()
    last_report = time.monotonic()
    try:
        while waiting or running:
            while waiting and free:
                slot = free.pop(0)
                folder = Path(waiting[0][-1])
                folder.mkdir(parents=True, exist_ok=True)
                output = (folder / "output.txt").open("w")
                process = subprocess.Popen(waiting.pop(0), stdout=output, stderr=output, env=environment | slot)
                running.append((folder, process, slot))
                _say(f"started {folder.name} ({len(waiting)} waiting)")
            time.sleep(0.5)
            for folder, process, slot in [r for r in running if r[1].poll() is not None]:
                running.remove((folder, process, slot))
                free.append(slot)
                if process.returncode:
                    words = (folder / "output.txt").read_text().strip().splitlines() or ["no output"]
                    raise RuntimeError(f"{folder.name} failed: {words[-1]} (see {folder / 'output.txt'})")
                _say(f"finished {folder.name}")
            if running and time.monotonic() - last_report > 15:
                last_report = time.monotonic()
                _say("  ".join(_progress(folder) for folder, *_ in running))
    finally:
        for _, process, _ in running:
            process.terminate()
            process.wait()


def _say(words: str) -> None:
    """Progress goes to stderr, which executed notebooks pass to the terminal and the report leaves out."""
    print(words, file=sys.stderr, flush=True)


def _progress(folder: Path) -> str:
    """'full-seed0 620/1300 loss 0.21', from the log's last line."""
    try:
        record = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
        steps = json.loads((folder / "config.json").read_text())["steps"]
        return f"{folder.name} {record['step']}/{steps} loss {record['loss']:.3f}"
    except (OSError, ValueError, IndexError):
        return f"{folder.name} under way"


def notebook_paths(numbers: tuple[int, ...] | None = None) -> list[Path]:
    """The notebooks in their order, or those numbered so. ValueError lists the numbers that exist."""
    root = checkout()
    if root is None:
        raise ValueError("the notebooks are not part of the installed package: clone the repository and use its ./run_all.sh")
    paths = {int(path.name[:2]): path for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
    unknown = [n for n in numbers or () if n not in paths]
    if unknown:
        raise ValueError(f"unknown notebook {unknown[0]:02d}: valid are {', '.join(f'{n:02d}' for n in paths)}")
    return [paths[n] for n in numbers or paths]


def reproduce(study: Study, numbers: tuple[int, ...] | None = None) -> Path:
    """Executes the notebooks with papermill and gathers runs/.../report.html; returns its path.

    An executed copy whose source, parameters, package and runs are unchanged is kept. RuntimeError if a cell fails: the copy
    with the error is left as <name>.failed.ipynb.
    """
    paths = notebook_paths(numbers)
    target = study.runs / "notebooks"
    target.mkdir(parents=True, exist_ok=True)

    def paths_of(digits: str) -> list[Path]:
        return sorted((path for path in paths if path.name[1] in digits), key=lambda path: digits.index(path.name[1]))

    start = time.monotonic()
    # Downloaded, prepared or rendered once, not by every worker; and one thread a kernel, since two that share two cores with two
    # threads each wait for each other most of the time.
    prepare_dataset(study.dataset, study.data_dir or None)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Two at a time: 01 needs no training, and 03 to 06 and 08 only what 02 leaves, the longest first; 07 tells what they found.
    for stage in (paths_of("12"), paths_of("64358"), paths_of("7")):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda path: _execute(path, target / path.name, study), stage))
    executed = [target / path.name for path in notebook_paths() if (target / path.name).exists()]
    page = study.runs / "report.html"
    newest = max(path.stat().st_mtime for path in executed)
    if not page.exists() or page.stat().st_mtime < newest:
        seconds = round(time.monotonic() - start, 1)
        executed.sort(key=lambda path: not path.name.startswith("07"))  # the answer comes first, then how it was found
        report.gather(executed, page, title=f"dyga: {study.name}", provenance=study._origin(seconds=seconds))
    return page


def _execute(source: Path, executed: Path, study: Study) -> None:
    import papermill

    parameters = {name: getattr(study, name) for name in Study.__dataclass_fields__}
    parameters["root"] = str(Path(study.root).resolve())
    valid = papermill.inspect_notebook(str(source))
    if set(valid) != set(parameters):
        raise ValueError(f"{source.name}: its parameters are {sorted(valid)}: valid are {sorted(parameters)}")
    stamp = executed.with_suffix(".stamp")
    if executed.exists() and stamp.exists() and stamp.read_text() == _fingerprint(source, parameters, study):
        print(f"{source.stem}: up to date", flush=True)
        return
    start = time.monotonic()
    print(f"{source.stem}: running", flush=True)
    partial = executed.with_suffix(".failed.ipynb")
    loud = source.stem.endswith("training")
    try:
        papermill.execute_notebook(
            str(source),
            str(partial),
            parameters=parameters,
            kernel_name="python3",
            cwd=str(source.parent),
            progress_bar=False,
            stderr_file=sys.stderr if loud else None,
            # A kernel that is shut down while it still answers says so through tornado, at length and to no use.
            extra_arguments=[
                "--IPKernelApp.log_level=50",
                "--IPKernelApp.exec_lines=import logging; logging.getLogger('tornado').setLevel(50)",
            ],
        )
    except papermill.PapermillExecutionError as error:
        words = f"{error.ename}: {error.evalue}"
        raise RuntimeError(f"{source.stem}, cell {error.exec_count}: {words} (see {partial})") from None
    os.replace(partial, executed)
    report.notebook_html(executed, executed.with_suffix(".html"))
    write_atomically(stamp, _fingerprint(source, parameters, study))
    print(f"{source.stem}: done in {time.monotonic() - start:.0f} s", flush=True)


def _fingerprint(source: Path, parameters: dict, study: Study) -> str:
    """A hash of what an executed notebook depends on: its source, parameters, the package and the study's results."""
    package = sorted(Path(__file__).parent.parent.rglob("*.py"))
    results = [study.folder(c) / "metrics.json" for c in study.configs()] if "data" not in source.stem else []
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    cells = [cell.source for cell in nbformat.read(source, as_version=4).cells]
    digest.update(json.dumps(cells).encode())
    for path in [*package, *results]:
        digest.update(path.read_bytes() if path.exists() else b"absent")
    return digest.hexdigest()
