"""Files that the page exports."""

import csv
import io

CSV = """async ([columns, rows]) => {
  const { href } = document.querySelector('link[rel=modulepreload][href$="/csv.js"]');
  return (await import(href)).csv(columns, rows);
}"""


def test_a_spreadsheet_reads_a_table_as_it_was_written(visitor):
    texts = ["a, b", 'say "x"', "one\ntwo", " plain", "=1+1", "+1", "-1", "@x", "\tx"]
    table = visitor.page.evaluate(CSV, [["text", "figure"], [*([text, -0.5] for text in texts), [None, 0]]])
    assert table.startswith("\ufeff")
    head, *rows, last = csv.reader(io.StringIO(table.removeprefix("\ufeff"), newline=""))
    assert head == ["text", "figure"] and last == ["", "0"]
    assert [figure for _, figure in rows] == ["-0.5"] * len(texts)  # a number is no formula
    assert [text for text, _ in rows] == texts[:4] + [f"'{text}" for text in texts[4:]]


def test_the_steps_of_a_run_as_chart_table_and_csv(visitor, tmp_path):
    page = visitor.page
    page.locator("#run .calm-run-steps summary").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('#run .calm-plot.steps').data?.[0].x.length")
    steps = page.evaluate("() => CALM.store.shown.steps")
    rows = page.locator("#run .calm-step-table tbody tr")
    assert rows.count() == len(steps)
    rows.nth(2).click()
    assert page.evaluate("() => CALM.store.currentStep") == 2
    assert rows.nth(2).get_attribute("aria-current") == "true"
    shown = "() => document.querySelector('#run .calm-plot.steps').data.map((trace) => [...trace.y])"
    for column, expected in {
        "samples": [step["draws"] for step in steps],
        "prediction_error": [step["distance"] for step in steps],
        "milliseconds": [1000 * step["seconds"] for step in steps],
    }.items():
        page.get_by_label("quantity of the chart").select_option(column)
        page.wait_for_function(
            "([read, expected]) => (0, eval)(read)()[0].join() === expected.join()", arg=[shown, expected]
        )
        assert page.evaluate(shown)[1] == expected[2:3]  # the mark of the selected step
    points = page.locator("#run .calm-plot.steps .scatterlayer .trace").first.locator(".points path")
    points.nth(5).hover(force=True)  # the plot's own layer lies above
    page.wait_for_function("() => CALM.store.previewed?.step_index === 5")
    page.mouse.down()
    page.mouse.up()
    page.wait_for_function("() => CALM.store.selected.step_index === 5")
    with page.expect_download() as download:
        page.locator("#run .calm-run-steps").get_by_role("button", name="Export CSV").click()
    download.value.save_as(tmp_path / "steps.csv")
    lines = list(csv.DictReader((tmp_path / "steps.csv").open(encoding="utf-8-sig", newline="")))
    assert [float(line["prediction_error"]) for line in lines] == [step["distance"] for step in steps]
    assert [int(line["samples"]) for line in lines] == [step["draws"] for step in steps]
