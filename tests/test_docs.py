"""The documents agree with the repository: links, commands, recipes, make targets and Python blocks."""

import ast
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

import calm
from app import limits
from calm.cli import COMMANDS, parser
from calm.training.settings import AutoencoderSettings, CalmSettings, TokenizerSettings

ROOT = Path(__file__).parents[1]
FOLDERS = (".", "docs", "benchmarks", "checkpoints/*")
EQUATIONS = ROOT / "docs/how-it-works.md"
DOCUMENTS = sorted(path for folder in FOLDERS for path in ROOT.glob(f"{folder}/*.md"))
RECIPES = {path.stem for path in (ROOT / "calm/training/recipes").rglob("*.toml")}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")


def each(documents: list[Path]):
    return pytest.mark.parametrize("document", documents, ids=lambda path: str(path.relative_to(ROOT)))


def text_of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def prose(document: Path) -> str:
    return BLOCK.sub("", text_of(document))


def commands(document: Path, program: str) -> list[list[str]]:
    """The arguments of each call of a program in shell blocks and in code spans, comments left out."""
    lines = [line for kind, block in BLOCK.findall(text_of(document)) if kind == "sh" for line in block.splitlines()]
    spans = [" ".join(span.split()) for span in SPAN.findall(prose(document))]
    calls = (re.search(rf"(?:^|&& ){re.escape(program)}(?=[ .]|$)(.*)", line) for line in lines + spans)
    return [shlex.split(call[1], comments=True) for call in calls if call]


def anchors(document: Path) -> set[str]:
    """The fragments that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-") for heading in headings}


@each(DOCUMENTS)
def test_links_and_pictures_exist(document):
    for groups in LINK.findall(text_of(document)):
        target = "".join(groups)
        if re.match(r"[a-z]+:", target):
            continue
        name, _, fragment = target.partition("#")
        path = document.parent / name if name else document
        assert path.exists(), f"{document.name} links to {target}"
        if fragment and path.suffix == ".md":
            assert fragment in anchors(path), f"{document.name} links to {target}"


@each(DOCUMENTS)
def test_commands_parse(document):
    for arguments in commands(document, "python -m calm") + commands(document, "calm"):
        if not arguments or arguments[0].startswith((".", "-")):  # a module, a name such as calm.load, or --help
            continue
        if len(arguments) == 1:
            assert arguments[0] in COMMANDS, f"{document.name} names the command {arguments[0]}"
            continue
        try:
            parsed = parser().parse_args(arguments)
        except SystemExit as stopped:
            if "--help" not in arguments:
                pytest.fail(f"{document.name}: calm {shlex.join(arguments)} exits with {stopped.code}")
            continue
        recipe = getattr(parsed, "recipe", "")
        assert not recipe or "/" in recipe or recipe in RECIPES, f"{document.name} names the recipe {recipe}"


@each(DOCUMENTS)
def test_modules_exist(document):
    for package in ("benchmarks", "app", "tests"):
        for arguments in commands(document, f"python -m {package}"):
            module = ROOT / (package + arguments[0].replace(".", "/") + ".py")
            assert module.is_file(), f"{document.name} runs {package}{arguments[0]}"


@each(DOCUMENTS)
def test_make_targets_exist(document):
    for arguments in commands(document, "make"):
        assert {argument for argument in arguments if "=" not in argument} <= TARGETS, (
            f"{document.name} says make {' '.join(arguments)}"
        )


@each(DOCUMENTS)
def test_python_blocks_compile_and_use_public_names(document):
    for kind, block in BLOCK.findall(text_of(document)):
        if kind != "python":
            continue
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "calm":
                assert node.attr in calm.__all__, f"{document.name} uses calm.{node.attr}"


@each([path for path in DOCUMENTS if path.name not in ("CHANGELOG.md", "experiments.md")])
def test_files_that_are_named_exist(document):
    for span in SPAN.findall(prose(document)):
        if re.fullmatch(r"(calm|app|assets|benchmarks|checkpoints|docs|tests)/[\w./-]+", span):
            assert (ROOT / span).exists(), f"{document.name} names {span}"


def test_the_equations_are_in_the_functions_that_the_table_names():
    rows = re.findall(r"^\| [^|]+ \| [^|]+ \| `([^`|]+\.py)` \| ([^|]+) \|$", text_of(EQUATIONS), re.MULTILINE)
    assert len(rows) >= 12
    for file, names in rows:
        for name in re.findall(r"[\w.]+", names):
            scope = ast.parse(text_of(ROOT / file))
            for part in name.split("."):
                inner = [node for node in scope.body if getattr(node, "name", "") == part]
                assert inner, f"{file} has no {name}"
                scope = inner[0]


@pytest.mark.parametrize("folder", ["calm", "app"])
def test_the_architecture_names_every_module(folder):
    tree = re.search(rf"^{folder}/ .*\n((?:  .*\n)+)", text_of(ROOT / "docs/architecture.md"), re.MULTILINE)
    assert tree
    named = set(re.findall(r"^  ([\w.]+)/?  ", tree[1], re.MULTILINE))
    modules = {
        path.name for path in (ROOT / folder).iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert {name for name in modules if not name.startswith("__")} == named


def test_the_training_guide_names_every_recipe_and_setting():
    guide = text_of(ROOT / "docs/training.md")
    kinds = (TokenizerSettings, AutoencoderSettings, CalmSettings)
    settings = {field.name for kind in kinds for field in fields(kind)}
    assert {name for name in RECIPES | settings if f"`{name}`" not in guide} == set()


def test_every_command_is_shown():
    shown = {arguments[0] for arguments in commands(ROOT / "docs/usage.md", "python -m calm")}
    assert set(COMMANDS) <= shown


def test_the_promises_name_tests_that_exist():
    text = text_of(ROOT / "docs/reliability.md")
    names = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(names) >= 30
    for file, name in names:
        functions = {node.name for node in ast.parse(text_of(ROOT / file)).body if isinstance(node, ast.FunctionDef)}
        assert name in functions, f"{file} has no {name}"


def test_the_limits_have_the_values_of_the_page():
    rows = re.findall(r"^\| [^|]+ \| `([A-Z_]+)` \| ([\d.,]+) \|$", text_of(ROOT / "docs/reliability.md"), re.MULTILINE)
    assert len(rows) >= 10
    for name, value in rows:
        assert getattr(limits, name) == float(value.replace(",", "")), f"{name} is {getattr(limits, name)}"


def test_the_readme_is_short():
    assert len(text_of(ROOT / "README.md").splitlines()) <= 150


def test_every_benchmark_is_listed():
    listed = text_of(ROOT / "benchmarks/README.md")
    programs = (path for path in (ROOT / "benchmarks").glob("*.py") if 'if __name__ == "__main__"' in text_of(path))
    for path in programs:
        assert f"benchmarks.{path.stem}" in listed or path.stem == "generation"


@pytest.mark.parametrize("figure", sorted((ROOT / "docs/figures").glob("*.svg")), ids=lambda path: path.stem)
def test_every_figure_is_shown(figure):
    assert f"figures/{figure.name}" in text_of(EQUATIONS)
