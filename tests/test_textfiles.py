"""Text files that people edit, as spreadsheets and editors really leave them."""

import pytest

from lib.errors import DataError, ParameterError
from lib.textfiles import read_rows, read_yaml

ROWS = {"id": ["000001", "홍길동"], "path": ["a.jpg", "b c.jpg"]}
PLAIN = "id,path\n000001,a.jpg\n홍길동,b c.jpg\n"


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        "\ufeff" + PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", ",\n"),
        "id,path\n000001,a.jpg,\n홍길동,b c.jpg,,\n",
        "\nid,path\n\n000001,a.jpg\n ,\n홍길동,b c.jpg\n\n",
        'id,path\n"000001","a.jpg"\n홍길동,"b c.jpg"\n',
        PLAIN.rstrip("\n"),
    ],
    ids=["plain", "mark", "crlf", "commas", "row commas", "blank rows", "quotes", "no newline"],
)
def test_what_a_spreadsheet_adds_changes_nothing(tmp_path, text):
    (tmp_path / "t.csv").write_text(text, encoding="utf-8", newline="")
    assert read_rows(tmp_path / "t.csv", ["id", "path"]) == ROWS


@pytest.mark.parametrize(("encoding", "said"), [("utf-16", "UTF-16"), ("cp949", "cp949")])
def test_another_encoding_is_named_with_the_fix(tmp_path, encoding, said):
    (tmp_path / "t.csv").write_bytes(PLAIN.encode(encoding))
    with pytest.raises(DataError, match=rf"t\.csv is not text in UTF-8.*{said}.*save it again"):
        read_rows(tmp_path / "t.csv")
    (tmp_path / "p.yaml").write_bytes("a: 홍길동".encode(encoding))
    with pytest.raises(DataError, match=rf"p\.yaml.*{said}"):
        read_yaml(tmp_path / "p.yaml")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        ("id,path\n1,2,3\n", r"1 rows \(2\) have not 2 fields"),
        ("id,path\n1\n", "have not 2 fields"),
        ("id,path\n\n\n1,a\n2\n", r"1 rows \(5\) have not 2 fields"),
        ("id,path,id\n1,a,2\n", r"1 columns \(id\) given twice: keep or rename one"),
        ('id,path\n1,"a\n2,b\n', "row 3: .* a quotation mark without its end"),
        ("id;path\n1;2\n", "no column id, path; it has id;path: separate fields by commas"),
        ("id,paht\n1,2\n", "no column path; it has id, paht"),
    ],
)
def test_a_file_that_does_not_fit_is_told_in_one_sentence(tmp_path, text, told):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=told):
        read_rows(tmp_path / "t.csv", ["id", "path"])


def test_yaml_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "p.yaml").write_text("\ufeffepochs: 3\n", encoding="utf-8")
    assert read_yaml(tmp_path / "p.yaml") == {"epochs": 3}
    with pytest.raises(ParameterError, match="there is no such file"):
        read_yaml(tmp_path / "none.yaml")


def test_yaml_runs_no_code(tmp_path):
    made = tmp_path / "made"
    (tmp_path / "p.yaml").write_text(f"a: !!python/object/apply:pathlib.Path.touch [{made}]\n")
    with pytest.raises(ParameterError, match=r"p\.yaml: could not determine a constructor"):
        read_yaml(tmp_path / "p.yaml")
    assert not made.exists()
