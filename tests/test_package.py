"""The shape of the package: floors, sizes, and dependency files in step."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml

from dyga.data import RENDERED

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "dyga"
FLOORS = {
    "__init__": 5,
    "__main__": 5,
    "study": 4,
    "training": 3,
    "explore": 3,
    "extensions": 2,
    "method": 1,
    "plots": 0,
    "data": 0,
    "checkpoint": -1,
    "kept": -1,
    "config": -2,
    "processes": -2,
    "provenance": -2,
    "seeds": -2,
    "metrics": -3,
}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """Rooms of dyga that a file imports, at any depth of its code."""
    package = ["dyga", *path.relative_to(PACKAGE).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module or "").split(".")] if node.module else base
            names = [".".join([*module, alias.name]) for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("dyga.") and name != "dyga.__version__"}
    return found - {room(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_imports_only_from_floors_below(path):
    floor = FLOORS[room(path)]
    above = {name for name in imported_rooms(path) if FLOORS[name] >= floor}
    assert not above, f"{room(path)} on floor {floor} imports {above}"


def test_metrics_know_nothing_of_the_rest():
    for path in FILES:
        if room(path) == "metrics":
            assert not imported_rooms(path)


def test_only_widgets_imports_ipywidgets():
    users = {str(path.relative_to(PACKAGE)) for path in FILES if "import ipywidgets" in path.read_text()}
    assert users == {"explore/widgets.py"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_file_is_longer_than_a_sitting(path):
    assert len(path.read_text().splitlines()) <= 350


def requirement(text: str) -> str:
    return re.split(r"[<>=!~ ;\[]", text)[0].lower()


IMPORTED_AS = {
    "PIL": "pillow",
    "bs4": "beautifulsoup4",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "torch_fidelity": "torch-fidelity",
    "IPython": "ipython",
    "xdist": "pytest-xdist",
}
USED_WITHOUT_AN_IMPORT = {
    "jupyterlab": "run_all.sh lab starts it",
    "torchvision": "torch-fidelity needs it; here, so that its version fits torch's",
    "ruff": "CONTRIBUTING.md names its commands",
}


def declared(project: dict) -> set[str]:
    """Names of all declared packages, base and extras."""
    extras = [package for packages in project["optional-dependencies"].values() for package in packages]
    return {requirement(package) for package in [*project["dependencies"], *extras]} - {"dyga"}


def code(path: Path) -> str:
    """The source of a module, or of all code cells of a notebook."""
    if path.suffix == ".py":
        return path.read_text()
    return "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")


def third_party(paths: list[Path]) -> set[str]:
    """Names of the packages that modules and notebooks import, at any depth of their code."""
    found = set()
    for path in paths:
        for node in ast.walk(ast.parse(code(path))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.split(".")[0])
    own = {path.stem for path in ROOT.glob("tests/**/*.py")} | {"dyga"}
    return {IMPORTED_AS.get(name, name) for name in found - own - sys.stdlib_module_names}


def test_every_import_is_declared_and_every_declared_package_is_used():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    used = third_party([*FILES, *ROOT.glob("tests/**/*.py"), *ROOT.glob("notebooks/*.ipynb")])
    assert used <= declared(project)
    assert declared(project) - used == set(USED_WITHOUT_AN_IMPORT)


def test_what_the_base_needs_is_in_the_base():
    """The metrics, training and loading a run on an embedded world need no extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base = {requirement(package) for package in project["dependencies"]}
    rooms = [
        path
        for path in FILES
        if room(path) in ("method", "extensions", "training", "plots", "metrics", "config", "checkpoint", "provenance", "seeds")
    ]
    rooms += [PACKAGE / "explore" / "run.py", PACKAGE / "data" / "store.py", PACKAGE / "data" / "world.py"]
    rooms += [PACKAGE / "data" / f"{name}.py" for name in RENDERED]
    lazy = {"torch-fidelity", "ipython"}  # imported where they are used: FID and LPIPS, and figures in a notebook
    assert third_party(rooms) - lazy <= base


def test_only_the_data_room_knows_the_factors_of_a_data_set():
    names = {name for world in RENDERED.values() for name in sys.modules[world.__module__].FACTORS.names if "_" in name}
    for path in [*(path for path in FILES if room(path) != "data"), *ROOT.glob("notebooks/*.ipynb")]:
        known = {name for name in (*names, "ravel_multi_index") if name in code(path)}
        assert not known, f"{path.name} knows {known}"


def test_dependency_files_are_in_step():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements.lock").read_text()
    locked = {line.split("==")[0] for line in lock.splitlines() if re.match(r"[a-z0-9-]+==", line)}
    assert declared(project) <= locked
    assert "://" not in lock
    entries = re.split(r"\n(?=[a-z0-9])", lock)
    assert all("--hash=sha256:" in entry for entry in entries if re.match(r"[a-z0-9-]+==", entry))
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert conda["dependencies"][-1] == {"pip": ["--require-hashes -r requirements.lock"]}


def test_the_promised_names_are_there():
    import dyga

    assert {"FeatureExtractor", "GaussianAnchors", "SkipDropout", "load_run"} <= set(dir(dyga))
    assert all(getattr(dyga, name) for name in dyga.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Anchors'"):
        _ = dyga.Anchors
