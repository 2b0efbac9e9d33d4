"""What `import mixopt` loads and offers, and that the folders of the tree are reached only through it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mixopt

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "cvxpy", "sympy", "networkx", "sklearn", "matplotlib", "transformers")
FOLDERS = ("problems", "solvers")


@pytest.fixture(scope="session", autouse=True)
def _folders_stay_folders():
    """Once the last test of the session has run: no test and no code imported a folder of the tree by its own name."""
    yield
    assert not [name for name in FOLDERS if name in sys.modules], "import mixopt.problems and mixopt.solvers, not the bare folders"


def loaded_by(statements: str) -> set[str]:
    """The heavy packages that a fresh interpreter has loaded after these statements."""
    code = f"import sys\n{statements}\nprint('loaded:', *(name for name in {HEAVY!r} if name in sys.modules))"
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.strip().splitlines()[-1].removeprefix("loaded:").split())


def test_importing_mixopt_loads_no_heavy_package():
    assert loaded_by("import mixopt") == set()


def test_the_question_itself_sees_a_package_that_is_loaded():
    assert "matplotlib" in loaded_by("import matplotlib")


TABLE_TO_MIXTURE = """
import numpy as np
import mixopt as mx
from mixopt.solvers import Conic, Projected

domains = mx.Domains(["web", "code", "books"], tokens=[8e11, 1e11, 5e10])
mixtures = np.random.default_rng(0).dirichlet(np.ones(3), 12)
runs = mx.Runs.from_arrays(domains, mixtures, ["loss"], 2 + np.exp(mixtures @ [[-1.0], [0.2], [-0.5]]))
law, w = mx.laws.Exponential.fit(runs), mx.Mixture(domains)
problem = mx.minimize(mx.mean(law(w)) + 0.05 * mx.kl(w, domains.natural), over=w)
for solver in (None, Conic(), Projected()):
    assert mx.solve(problem, solver=solver).status is mx.Status.OPTIMAL
"""


def test_runs_laws_and_programs_need_no_torch():
    assert loaded_by(TABLE_TO_MIXTURE).isdisjoint({"torch", "networkx", "sklearn", "matplotlib", "transformers"})


FIT = """
import numpy as np
from mixopt.fitting import recommend, score
from mixopt.runs import Runs

mixtures = np.random.default_rng(0).dirichlet(np.ones(3), 20)
runs = Runs.from_arrays(["web", "code", "books"], mixtures, ["loss"], 2 + np.exp(mixtures @ [[-1.0], [0.2], [-0.5]]))
found = recommend(runs, kl=0.05, prior={"web": 0.6, "code": 0.3, "books": 0.1})
assert score(found.fitted, found.weights).within
found.report(), found.blend()
"""


def test_fitting_needs_no_torch_and_is_imported_without_solvers():
    assert loaded_by("import mixopt.fitting") == set()
    assert loaded_by(FIT).isdisjoint({"torch", "networkx", "sklearn", "matplotlib", "transformers"})


def test_every_public_name_is_there():
    assert len(mixopt.__all__) == len(set(mixopt.__all__))
    missing = [name for name in mixopt.__all__ if getattr(mixopt, name, None) is None]
    assert not missing


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="minimise"):
        mixopt.minimise  # noqa: B018


def python_files() -> list[Path]:
    """The Python files of the project, each once."""
    tops = ("mixopt", *FOLDERS, "tests", "benchmarks", "docs")
    links = tuple(ROOT / "mixopt" / name for name in FOLDERS)
    return [path for top in tops for path in sorted((ROOT / top).rglob("*.py")) if not any(link in path.parents for link in links)]


def imported_names(path: Path) -> set[str]:
    """The top-level names that a file imports absolutely, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
    return found


def test_no_file_imports_a_folder_by_its_own_name():
    files = python_files()
    assert ROOT / "mixopt" / "errors.py" in files
    wrong = [path.relative_to(ROOT).as_posix() for path in files if imported_names(path) & set(FOLDERS)]
    assert not wrong, f"these import problems or solvers by their bare names; write mixopt.problems, mixopt.solvers: {wrong}"


def test_the_files_of_a_folder_name_each_other_relatively():
    for path in (path for name in FOLDERS for path in (ROOT / name).glob("*.py")):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        modules = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
        own = [module for module in modules if module.startswith(f"mixopt.{path.parent.name}")]
        assert not own, f"{path.relative_to(ROOT)} imports {own}: write a relative import"
