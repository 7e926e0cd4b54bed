"""No file that this package reads can run code, and no module outgrows a reader."""

import ast
from pathlib import Path

import pytest

MAX_LINES = 300
MAX_FUNCTION_LINES = 60

FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_ATTRIBUTES = {
    ("torch", "load"), ("yaml", "load"), ("yaml", "load_all"), ("yaml", "unsafe_load"), ("yaml", "full_load"),
    ("os", "system"), ("os", "popen"), ("pandas", "read_pickle"), ("joblib", "load"),
}  # fmt: skip


def dangers(source: str) -> list[str]:
    """Every way in which a source can turn data into code."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
            found += [f"line {node.lineno}: imports {n}" for n in names if n.split(".")[0] in FORBIDDEN_IMPORTS]
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
            found.append(f"line {node.lineno}: calls {node.func.id}")
        if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            call = (node.func.value.id, node.func.attr)
            if call in FORBIDDEN_ATTRIBUTES:
                found.append(f"line {node.lineno}: calls {'.'.join(call)}")
        for keyword in node.keywords:
            unsafe = keyword.arg in ("allow_pickle", "shell") and getattr(keyword.value, "value", None) is True
            loader = keyword.arg == "Loader" and "SafeLoader" not in ast.unparse(keyword.value)
            if unsafe or loader:
                found.append(f"line {node.lineno}: {keyword.arg}={ast.unparse(keyword.value)}")
    return found


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
    found = {name: dangers(path.read_text(encoding="utf-8")) for name, path in modules.items()}
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
        "np.load('x', allow_pickle=True)", "subprocess.run('x', shell=True)",
    ],
)  # fmt: skip
def test_sabotaged_source_is_caught(source: str) -> None:
    assert dangers(source)


def test_safe_source_is_not_blamed() -> None:
    assert dangers("import torch\nyaml.compose(x, Loader=yaml.SafeLoader)\nmodel.eval()\nnp.load(x)\n") == []


def test_long_function_is_caught() -> None:
    assert long_functions("def f():\n" + "    x = 1\n" * (MAX_FUNCTION_LINES + 1))
