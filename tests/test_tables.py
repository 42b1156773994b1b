import pytest

from neuroadapter_jax.tables import interval_cell, markdown_table


def test_a_table_is_markdown():
    text = markdown_table(["", "PixCorr"], [["NeuroAdapter", 0.5], ["floor", ""]])
    assert text == "|  | PixCorr |\n| --- | --- |\n| NeuroAdapter | 0.5 |\n| floor |  |\n"
    with pytest.raises(ValueError, match=r"has 1 cells, \['a'\]; expected 2, one for each of the"):
        markdown_table(["x", "y"], [["a"]])


def test_a_cell_has_its_interval_or_a_dash():
    assert interval_cell({"value": 0.5, "interval": [0.25, 0.75]}, ".1%") == "50.0% [25.0%, 75.0%]"
    assert interval_cell({"value": None, "interval": None}) == interval_cell(None) == "–"
    assert interval_cell({}) == "–"


def test_names_in_cells_neither_end_the_cell_nor_are_markup():
    text = markdown_table(["ROI|x", "p < 0.05"], [["<img src=x onerror=y>", "a\nb"], ["</td>", 3]])
    assert text == (
        "| ROI\\|x | p < 0.05 |\n| --- | --- |\n| &lt;img src=x onerror=y> | a b |\n"
        "| &lt;/td> | 3 |\n"
    )
