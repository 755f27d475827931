"""Files that the page exports."""

import csv
import io

CSV = """async ([columns, rows]) => {
  const { href } = document.querySelector('link[rel=modulepreload][href$="/csv.js"]');
  return (await import(href)).csv(columns, rows);
}"""


def test_a_spreadsheet_reads_a_table_as_it_was_written(visitor):
    texts = ["a, b", 'say "x"', "one\ntwo", " plain", "=1+1", "+1", "-1", "@x", "\tx"]
    table = visitor.page.evaluate(CSV, [["text", "figure"], [[text, -0.5] for text in texts]])
    assert table.startswith("\ufeff")
    head, *rows = csv.reader(io.StringIO(table.removeprefix("\ufeff"), newline=""))
    assert head == ["text", "figure"]
    assert [figure for _, figure in rows] == ["-0.5"] * len(texts)  # a number is no formula
    assert [text for text, _ in rows] == texts[:4] + [f"'{text}" for text in texts[4:]]
