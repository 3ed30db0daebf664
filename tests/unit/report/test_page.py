import html.parser
import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from controller.domain.errors import InputError
from controller.report import write_report
from controller.report.export import PNG_DPI
from tests.samples.sample_campaign import Sample, write_sample

FIGURES = {
    "objective", "bound-ratio", "fig5-latency-fairness", "fig6-per-lm", "fig7-epochs",
    "latency-cdf", "where-time-goes", "failures", "backlog", "activation", "load-sweep", "gap",
}  # fmt: skip
TABLES = {"summary", "significance", "published", "sensitivity", "decisions", "sources", "runs"}
MAGIC = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


def manifest_of(campaign: Path) -> dict:
    return json.loads((campaign / "campaign.json").read_text())


class Tags(html.parser.HTMLParser):
    """Every element with its attributes, and the text of headings and captions."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def values(self, attribute: str) -> list[str]:
        return [attrs[attribute] for _, attrs in self.found if attribute in attrs]


@pytest.fixture(scope="session")
def page(campaign: Path) -> str:
    return (campaign / "report" / "index.html").read_text("utf-8")


@pytest.fixture(scope="session")
def tags(page: str) -> Tags:
    return Tags(page)


def test_every_figure_is_there_in_every_format(campaign):
    folder = campaign / "report" / "figures"
    assert {path.stem for path in folder.iterdir()} == FIGURES
    for name in FIGURES:
        for kind, magic in MAGIC.items():
            content = (folder / f"{name}.{kind}").read_bytes()
            assert content.startswith(magic), (name, kind)
            assert len(content) > 2000


def test_pictures_are_fine_enough_for_print(campaign):
    for path in (campaign / "report" / "figures").glob("*.png"):
        width = int.from_bytes(path.read_bytes()[16:20], "big")
        assert width / PNG_DPI in (pytest.approx(3.5), pytest.approx(7.16)), path.name


def test_every_figure_and_table_has_its_numbers(campaign):
    folder = campaign / "report" / "tables"
    assert {path.stem for path in folder.iterdir()} == FIGURES | TABLES
    for path in folder.iterdir():
        header, *rows = path.read_text("utf-8").splitlines()
        assert rows, path.name
        assert len(set(header.split(","))) == len(header.split(",")), path.name


def test_exported_svg_is_well_formed_undated_and_has_text_as_text(campaign):
    for path in (campaign / "report" / "figures").glob("*.svg"):
        root = ElementTree.fromstring(path.read_text("utf-8"))  # noqa: S314 (our own file)
        words = "".join(root.itertext())
        assert re.search(r"[a-z]{3}", words), path.name
        assert "<dc:date>" not in path.read_text("utf-8")


def test_the_page_asks_for_nothing_from_the_network(page, tags):
    assert not re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", page)
    assert "@import" not in page
    assert not [tag for tag, _ in tags.found if tag in ("link", "iframe", "object", "embed")]
    sources = tags.values("src") + [
        attrs["href"] for tag, attrs in tags.found if tag == "image" and "href" in attrs
    ]
    assert sources
    assert all(source.startswith("data:") for source in sources)


def test_the_page_writes_what_the_file_writes(campaign, page):
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    shown = {tuple(words(drawing)) for drawing in drawings}
    for path in (campaign / "report" / "figures").glob("*.svg"):
        text = path.read_text("utf-8")
        assert tuple(words(text[text.index("<svg") :])) in shown, path.name


def words(svg: str) -> list[str]:
    """Every text of a drawing, numbers at ticks among them."""
    texts = re.findall(r"<text[^>]*>(.*?)</text>", svg, flags=re.DOTALL)
    return [re.sub(r"<[^>]*>|\s+", "", text) for text in texts]


def test_every_link_leads_somewhere(campaign, page, tags):
    ids = tags.values("id")
    assert len(ids) == len(set(ids)), "an id is used twice"
    targets = [attrs["href"] for tag, attrs in tags.found if tag in ("a", "use")]
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in ids
        else:
            assert (campaign / "report" / target).exists(), target
    for reference in re.findall(
        r"url\(#([^)]*)\)", (campaign / "report" / "index.html").read_text()
    ):
        assert reference in ids


def test_figures_say_in_words_what_they_show(tags):
    drawings = [attrs for tag, attrs in tags.found if tag == "svg"]
    assert len(drawings) == len(FIGURES)
    for drawing in drawings:
        assert drawing["role"] == "img"
        assert len(drawing["aria-label"]) > 30
    tables = [tag for tag, _ in tags.found if tag == "table"]
    captions = [tag for tag, _ in tags.found if tag == "caption"]
    assert len(tables) == len(captions) == len(TABLES)


def test_missing_runs_are_named_and_are_no_zeros(page):
    assert "RR, seed 2 (3 runs): Permanent: it broke" in page
    assert "LL, seed 1 (3 runs): not finished" in page
    assert "30 of 36 runs finished" in page


def test_the_page_is_small(campaign):
    assert (campaign / "report" / "index.html").stat().st_size < 1_000_000


def test_the_page_says_what_is_an_estimate(page):
    assert re.search(r"Of \d+ blocks of numbers behind these runs, \d+ estimated", page)
    assert "Invented for a test." in page


def test_a_second_report_has_the_same_bytes(campaign):
    folder = campaign / "report"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (folder / "figures" / "left-over.png").write_bytes(b"")
    write_report(campaign)
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert after == before


def test_a_campaign_without_a_finished_run_has_a_page(tmp_path):
    sample = Sample(strategies=("RR",), seeds=(0,), failed=[("RR", 0)])
    page = write_report(write_sample(tmp_path, sample)).read_text("utf-8")
    assert "Nothing has finished yet" in page
    assert "RR, seed 0 (1 run): Permanent: it broke" in page
    assert "<svg" not in page


def test_names_are_escaped(tmp_path):
    write_sample(tmp_path, Sample(strategies=("RR",), seeds=(0,), pending=[("RR", 0)]))
    manifest = {**manifest_of(tmp_path), "name": "<script>alert(1)</script>"}
    (tmp_path / "campaign.json").write_text(json.dumps(manifest))
    page = write_report(tmp_path).read_text("utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_one_seed_of_one_epoch_on_another_workload_makes_a_report(tmp_path):
    sample = Sample(strategies=("RR", "SOLVER"), seeds=(0,), epochs=1, workload="poisson")
    page = write_report(write_sample(tmp_path, sample)).read_text("utf-8")
    assert "in the paper" not in page
    assert not (tmp_path / "report" / "tables" / "published.csv").exists()
    assert not (tmp_path / "report" / "figures" / "fig7-epochs.svg").exists()


def test_damaged_and_lost_files_are_reported_and_the_rest_is_drawn(tmp_path):
    def damage(files: dict[str, bytes]) -> dict[str, bytes]:
        if json.loads(files["experiment.json"])["strategy"] != "RR":
            return files
        return {**files, **dict.fromkeys(("requests.parquet", "slots.parquet"), b"PAR1 no PAR1")}

    sample = Sample(strategies=("RR", "RL", "SOLVER"), seeds=(0,), epochs=1, edit=damage)
    write_sample(tmp_path, sample)
    runs = {run["strategy"]: run["id"] for run in manifest_of(tmp_path)["runs"]}
    shutil.rmtree(tmp_path / "runs" / runs["RL"])
    page = write_report(tmp_path).read_text("utf-8")
    (notice,) = re.findall(r'What is missing">.*?</aside>', page, flags=re.DOTALL)
    for name in ("requests.parquet", "slots.parquet"):
        assert re.search(rf"runs/{runs['RR']}\b.*{name}", notice)
    assert "RL, seed 0 (1 run): marked done, but files are missing or cut short" in page
    assert f"runs/{runs['SOLVER']}" not in page
    assert (tmp_path / "report" / "figures" / "latency-cdf.svg").exists()


def test_no_campaign_is_bad_input(tmp_path):
    with pytest.raises(InputError, match="is no campaign folder"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "Invalid JSON"),
        ('{"format": 1, "name": "x"}', "runs: Field required"),
        ('{"format": 99, "name": "x", "runs": []}', "another version of edgelm"),
    ],
)
def test_a_broken_manifest_is_bad_input(tmp_path, content, words):
    (tmp_path / "campaign.json").write_text(content)
    with pytest.raises(InputError, match=words):
        write_report(tmp_path)
