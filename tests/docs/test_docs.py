"""The pages say what is there: links, paths, functions, commands, statuses, columns, defaults, dependencies."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from rratag import config
from rratag.cli import reference
from rratag.records import STATUSES, Receipt
from rratag.tag.writers import columns

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
COMMANDS = dict(reference.commands())

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")
PLACE = re.compile(r"^((?:rratag|tests|docs|\.ci)/[\w./-]*)(?::([A-Za-z_][\w.]*))?$")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|root|home|opt|tmp|Users|mnt|srv)/")
REGISTRY_HOST = re.compile(
    r"pypi\.|pythonhosted|download\.pytorch\.org|huggingface\.co|anaconda\.|index-url|find-links"
)


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def without_fences(page: str) -> str:
    return FENCE.sub("", page)


@cache
def anchors(path: Path) -> set[str]:
    """Headings as the fragments that links to them carry."""
    found = re.findall(r"^#+ (.*)$", without_fences(path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@cache
def definitions(path: Path) -> set[str]:
    """Functions, classes, methods and module variables of a file, methods as ``Class.name``."""
    return set(_defined(ast.parse(path.read_text(encoding="utf-8")).body, ""))


def _defined(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield prefix + node.name
        if isinstance(node, ast.ClassDef):
            yield from _defined(node.body, f"{node.name}.")
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        yield from (prefix + target.id for target in targets if isinstance(target, ast.Name))


# --- the command line ---


def test_the_command_line_reference_is_up_to_date() -> None:
    pinned = dict(line.split("==") for line in text("constraints.txt").splitlines() if not line.startswith("#"))
    if importlib.metadata.version("typer") != pinned["typer"]:
        pytest.skip("another typer words its help in another way")
    assert text("docs/cli.md") == reference.page(), "run: make docs"


def test_the_check_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reference, "PAGE", tmp_path / "cli.md")
    assert reference.main(["--check"]) == 1
    assert "make docs" in capsys.readouterr().err
    assert reference.main([]) == 0
    assert reference.main(["--check"]) == 0


def test_the_page_does_not_depend_on_terminal_or_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wanted = reference.page()
    monkeypatch.chdir(tmp_path)
    Path("rratag.toml").write_text('cache = "elsewhere"\n')
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("RRATAG_CACHE", "elsewhere")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert reference.page() == wanted
    fences = FENCE.findall(wanted)
    assert max(len(line) for _, block in fences for line in block.splitlines()) <= reference.WIDTH


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help_and_a_place(name: str) -> None:
    context = COMMANDS[name]
    assert context.command.help, f"{name} has no help"
    assert f"## {name}\n" in text("docs/cli.md")
    for parameter in context.command.get_params(context):
        assert parameter.help, f"{name} {parameter.name} has no help"


def _spoken(page: str) -> Iterator[list[str]]:
    """Words of every piece of inline code and of every line of a shell example."""
    lines = (line for language, block in FENCE.findall(page) if language == "sh" for line in block.splitlines())
    for code in (*CODE.findall(without_fences(page)), *lines):
        yield re.sub(r"\s#.*", "", code).split()


@pytest.mark.parametrize("name", NAMES)
def test_commands_and_options_in_the_pages_exist(name: str) -> None:
    parameters = [one for context in COMMANDS.values() for one in context.command.get_params(context)]
    known = {option for one in parameters for option in (*one.opts, *one.secondary_opts)}
    for words in _spoken(text(name)):
        if len(words) > 1 and words[0] == "rratag" and words[1].isalpha() and words[1].islower():
            assert f"rratag {words[1]}" in COMMANDS, f"{name}: {' '.join(words)}"
        if words and (words[0] == "rratag" or re.match(r"--[a-z]", words[0])):
            assert not {word for word in words if word.startswith("--")} - known, f"{name}: {' '.join(words)}"


# --- links and places ---


@pytest.mark.parametrize("name", NAMES)
def test_relative_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for target in LINK.findall(without_fences(text(name))):
        if target.startswith(("https://", "http://")):
            continue
        file, _, fragment = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        assert place.exists(), f"{name}: {target}"
        if fragment:
            assert fragment in anchors(place), f"{name}: {target} has no such heading"


@pytest.mark.parametrize("name", NAMES)
def test_paths_and_functions_named_exist(name: str) -> None:
    for code in CODE.findall(without_fences(text(name))):
        found = PLACE.match(code)
        if found is None:
            continue
        path, function = found.groups()
        assert (ROOT / path).exists(), f"{name}: {code}"
        if function:
            assert function in definitions(ROOT / path), f"{name}: {code}"


@pytest.mark.parametrize("name", NAMES)
def test_python_examples_compile(name: str) -> None:
    for language, block in FENCE.findall(text(name)):
        if language == "python":
            compile(block, name, "exec")


def test_the_example_of_the_head_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = [block for _, block in FENCE.findall(text("docs/python-api.md")) if "RRAHead(" in block]
    exec(compile(example, "docs/python-api.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == ["torch.Size([2, 4, 10])", "torch.Size([2, 4, 4, 7, 7])"]


@pytest.mark.parametrize("name", ["Makefile", "constraints.txt", ".ci/run", "pyproject.toml", *NAMES])
def test_no_machine_and_no_registry_is_named(name: str) -> None:
    assert not MACHINE_PATH.search(text(name))
    assert not REGISTRY_HOST.search(text(name))


def test_every_page_is_listed_in_the_readme() -> None:
    listed = set(LINK.findall(text("README.md")))
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} - listed <= {"docs/benchmarks.md"}


# --- tables ---


def test_every_status_and_reason_is_explained() -> None:
    rows = [line for line in text("docs/statuses.md").splitlines() if line.startswith("|")]
    explained = dict[str, set[str]]()
    status = ""
    for row in rows:
        cells = [cell.strip().strip("`") for cell in row.split("|")[1:-1]]
        status = cells[0] or status
        explained.setdefault(status, set()).update({cells[1]} - {""})
    assert {name: explained.get(name) for name in STATUSES} == {
        name: set(reasons) for name, reasons in STATUSES.items()
    }


def test_every_column_is_explained() -> None:
    first_cells = " ".join(
        line.split("|")[1] for line in text("docs/tags-format.md").splitlines() if line.startswith("| `")
    )
    named = set(CODE.findall(first_cells))
    assert set(columns(1)) - {"glimpse_1"} <= named
    assert {f"`{name}`" for name in Receipt.__dataclass_fields__} <= set(re.findall(r"`\w+`", text("docs/statuses.md")))


def test_the_defaults_page_has_the_values_of_the_code() -> None:
    rows = dict(re.findall(r"^\| `--([\w-]+)` \| (`[^`]+`)", text("docs/defaults.md"), re.MULTILINE))
    wanted = {
        "backbone": config.BACKBONE,
        "crops": config.CROPS,
        "frames": config.FRAMES,
        "decoder": config.DECODER,
        "glimpses": config.GLIMPSES,
        "loss": config.LOSS,
        "train-frames": config.TRAIN_FRAMES,
        "seed": config.SEED,
        "top": config.TOP,
    }
    assert {name: rows.get(name) for name in wanted} == {name: f"`{value}`" for name, value in wanted.items()}


def test_the_readme_header_is_the_one_of_the_writer() -> None:
    assert ",".join(columns(config.GLIMPSES)) in text("README.md")


# --- dependencies ---


def _dependencies() -> set[str]:
    project = tomllib.loads(text("pyproject.toml"))
    optional = project["project"].get("optional-dependencies", {}).values()
    lines = [*project["project"]["dependencies"], *(one for extra in optional for one in extra)]
    lines += project["build-system"]["requires"]
    return {re.split(r"[^\w.-]", line, maxsplit=1)[0].lower() for line in lines}


def test_every_dependency_has_its_reason_and_no_other() -> None:
    explained = dict(re.findall(r"^\| `([\w.-]+)` \| (.+) \|$", text("docs/dependencies.md"), re.MULTILINE))
    assert set(explained) == _dependencies()
    assert all(reason.strip() for reason in explained.values())


def test_constraints_are_plain_and_hold_what_we_need() -> None:
    lines = text("constraints.txt").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9.-]+==[0-9][\w.]*", line) for line in pins)
    assert pins == sorted(pins)
    names = {line.split("==")[0] for line in pins}
    assert not any(name.startswith(("nvidia-", "cuda-", "triton", "rratag")) for name in names)
    assert _dependencies() - names <= {"hatchling", "tomli"}, "run: make constraints"
