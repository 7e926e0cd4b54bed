"""No file that this package reads can run code, and no module outgrows a reader."""

import ast
from pathlib import Path

import pytest

MAX_LINES = 300
MAX_FUNCTION_LINES = 60

FORBIDDEN_IMPORTS = {
    "pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle",
    "runpy", "code", "codeop", "imp", "tarfile", "lxml", "xml.dom", "xml.sax.expatreader", "ase.io",
}  # fmt: skip
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_ATTRIBUTES = {
    ("torch", "load"), ("torch.jit", "load"), ("torch.package", "PackageImporter"), ("yaml", "load"),
    ("yaml", "load_all"), ("yaml", "unsafe_load"), ("yaml", "full_load"), ("os", "system"), ("os", "popen"),
    ("pandas", "read_pickle"), ("joblib", "load"), ("shutil", "unpack_archive"), ("importlib", "import_module"),
    ("builtins", "eval"), ("builtins", "exec"), ("ElementTree", "parse"), ("ElementTree", "iterparse"),
    ("openmm.XmlSerializer", "clone"),
}  # fmt: skip
#: Names of methods that make files of an archive, or code of a file, whatever they are called on.
FORBIDDEN_METHODS = {"extractall", "enable_load_extension", "load_extension", "find_class", "loadScript"}
#: What may be called in a few modules only, which look at what they are given first.
SEAMS = {
    ("XmlSerializer", "deserialize"): {"qmml_md.system.field", "qmml_md.engine.portable"},
    ("ElementTree", "fromstring"): {
        "qmml_md.system.field", "qmml_md.system.force_field_files", "qmml_md.engine.portable"
    },
    ("db", "connect"): {"qmml_md.reference.store"},
    ("app", "ForceField"): {"qmml_md.system.force_field_files"},
    ("zipfile", "ZipFile"): {"qmml_md.ensemble.wheel"},
    ("np", "load"): {"qmml_md.engine.checkpoint", "qmml_md.learning.feature_store", "qmml_md.records.limits"},
}  # fmt: skip
#: Methods by which an object says how it is unpickled: there is no use for them without pickles.
PICKLE_HOOKS = {"__reduce__", "__reduce_ex__", "__setstate__", "__getstate__", "__getnewargs__"}


def dangers(source: str, module: str = "") -> list[str]:
    """Every way in which a source can turn data into code."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found += [(node.lineno, f"imports {name}") for name in imported(node) if is_forbidden(name)]
        if isinstance(node, ast.FunctionDef) and node.name in PICKLE_HOOKS:
            found.append((node.lineno, f"defines {node.name}"))
        if isinstance(node, ast.Call):
            found += [(node.lineno, what) for what in (*called(node, module), *keywords(node))]
    return [f"line {line}: {what}" for line, what in found]


def imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Modules, and names of modules, that are imported."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)] if not node.level else []


def is_forbidden(name: str) -> bool:
    """Whether an import is of a module, or a function, that reads code."""
    parts = name.split(".")
    heads = {".".join(parts[:k]) for k in range(1, len(parts) + 1)}
    return bool(heads & FORBIDDEN_IMPORTS) or tuple(name.rpartition(".")[::2]) in FORBIDDEN_ATTRIBUTES


def called(node: ast.Call, module: str) -> list[str]:
    """What is wrong with what is called."""
    if isinstance(node.func, ast.Name):
        return [f"calls {node.func.id}"] if node.func.id in FORBIDDEN_CALLS else []
    if not isinstance(node.func, ast.Attribute):
        return []
    owner, method = ast.unparse(node.func.value), node.func.attr
    wrong = [f"calls {method}"] if method in FORBIDDEN_METHODS else []
    if any((".".join(owner.split(".")[k:]), method) in FORBIDDEN_ATTRIBUTES for k in range(owner.count(".") + 1)):
        wrong.append(f"calls {owner}.{method}")
    short = owner.replace("numpy", "np").rpartition(".")[2]
    if module not in SEAMS.get((short, method), {module}):
        wrong.append(f"calls {owner}.{method} outside of {', '.join(sorted(SEAMS[short, method]))}")
    if (short, method) == ("np", "load") and "allow_pickle" not in {keyword.arg for keyword in node.keywords}:
        wrong.append("calls np.load without allow_pickle=False")
    return wrong


def keywords(node: ast.Call) -> list[str]:
    """What is wrong with the keywords of a call."""
    wrong = []
    for keyword in node.keywords:
        off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        unsafe = keyword.arg in ("allow_pickle", "shell", "unsafe") and not off
        loader = keyword.arg == "Loader" and "SafeLoader" not in ast.unparse(keyword.value)
        if unsafe or loader:
            wrong.append(f"{keyword.arg}={ast.unparse(keyword.value)}")
    return wrong


def long_functions(source: str) -> list[str]:
    """Functions with more lines than a reader holds, docstring not counted."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            doc = (ast.get_docstring(node, clean=False) or "").count("\n") + 1
            lines = (node.end_lineno or node.lineno) - node.lineno + 1 - doc
            if lines > MAX_FUNCTION_LINES:
                found.append(f"{node.name}: {lines} lines")
    return found


def test_no_source_turns_data_into_code(modules: dict[str, Path]) -> None:
    found = {name: dangers(path.read_text(encoding="utf-8"), name) for name, path in modules.items()}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_modules_and_functions_stay_readable(modules: dict[str, Path]) -> None:
    texts = {name: path.read_text(encoding="utf-8") for name, path in modules.items()}
    assert {name: text.count("\n") for name, text in texts.items() if text.count("\n") > MAX_LINES} == {}
    assert {name: long for name, text in texts.items() if (long := long_functions(text))} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import loads", "def f(x):\n    return eval(x)", "exec('1')", "torch.load('x')",
        "yaml.load(x, Loader=yaml.Loader)", "yaml.compose(x, Loader=yaml.UnsafeLoader)",
        "np.load('x', allow_pickle=True)", "subprocess.run('x', shell=True)", "subprocess.run('x', shell=yes)",
        "np.load('x')", "numpy.load('x', allow_pickle=trusted)", "from yaml import load", "from os import system",
        "from torch import load", "torch.jit.load('x')", "import tarfile", "zip.extractall('x')", "import ase.io",
        "from ase import io", "import lxml.etree", "from xml.dom import minidom", "xml.etree.ElementTree.parse('x')",
        "importlib.import_module(name)", "from importlib import import_module", "import runpy",
        "openmm.XmlSerializer.deserialize(x)", "XmlSerializer.deserialize(x)", "ElementTree.fromstring(x)",
        "ase.db.connect(x)", "app.ForceField(x)", "zipfile.ZipFile(x)", "np.load(x, allow_pickle=False)",
        "connection.enable_load_extension(True)", "class A:\n    def __reduce__(self):\n        return 1",
        "shutil.unpack_archive('x')", "from pickle import Unpickler as U",
    ],
)  # fmt: skip
def test_sabotaged_source_is_caught(source: str) -> None:
    assert dangers(source)


def test_safe_source_is_not_blamed() -> None:
    assert dangers("import torch\nyaml.compose(x, Loader=yaml.SafeLoader)\nmodel.eval()\n") == []
    assert dangers("from .pickle import x\nsubprocess.run(x, shell=False)\njson.load(x)\nxml.etree.f(x)\n") == []


@pytest.mark.parametrize(("owner", "method"), list(SEAMS))
def test_seams_are_used_where_they_may_be(owner: str, method: str) -> None:
    # An allowance that nobody needs would hide the next careless call.
    for module in SEAMS[owner, method]:
        assert not dangers(f"{owner}.{method}(x{', allow_pickle=False' if owner == 'np' else ''})", module)
    assert dangers(f"{owner}.{method}(x, allow_pickle=False)", "qmml_md.elsewhere")


def test_long_function_is_caught() -> None:
    assert long_functions("def f():\n" + "    x = 1\n" * (MAX_FUNCTION_LINES + 1))
