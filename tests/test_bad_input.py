"""Bad input through the real entries: one clear error, or a listed exclusion; nothing silent."""

import hashlib
import io
import os
import struct
import zlib

import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import TASK
from IPython.core.formatters import DisplayFormatter
from nbconvert import HTMLExporter
from PIL import Image
from test_competition import FIRST, ROWS, built, picture, relabel_file, write_layout

from lib.artefacts import PROJECT
from lib.data import folds, index, photos
from lib.data.relabel import relabel
from lib.errors import DataError, FacefoldError, ParameterError
from lib.face import crops, faces
from lib.score import submission

RGB = (200, 40, 90)
KEY = f"{FIRST}/mask1"


@pytest.fixture
def data(tmp_path):
    return write_layout(tmp_path / "data")


def saved(kind, *pictures, **options):
    """Return the bytes of a picture file; several pictures are its frames."""
    first, *others = pictures
    buffer = io.BytesIO()
    frames = {"save_all": True, "append_images": others} if others else {}
    first.save(buffer, kind, **frames, **options)
    return buffer.getvalue()


def plain(mode="RGB", colour=RGB, size=(48, 64)):
    return Image.new(mode, size, colour)


def smooth():
    return Image.fromarray(picture(3)[..., ::-1])


def png(width, height, pixels=b""):
    """Return a PNG that claims a size, whatever pixels it has."""

    def chunk(name, content):
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = {b"IHDR": header, b"IDAT": zlib.compress(pixels), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*both) for both in chunks.items())


def sixteen_bits(values):
    return photos.cv2.imencode(".png", np.full((64, 48, len(values)), values[::-1], np.uint16))[1]


def chain(data, work, **geometry):
    """Run what notebooks 01 and 02 run; return images, issues, faces and crops."""
    images, found = built(data, work)
    boxes = faces.build_faces(images, data, work, workers=1)
    cut = {"crop": "face", "crop_margin": 0.25, "background": "keep", "image_size": [32, 32]}
    return images, found, boxes, crops.build_crops(images, boxes, data, work, **cut | geometry)


def replaced(tmp_path, content, name="mask1.jpg"):
    """Return a data set of one person, with ``content`` as the first photo."""
    data = write_layout(tmp_path / "data", ROWS[:1])
    (data / "train/images" / FIRST / "mask1.jpg").unlink()
    (data / "train/images" / FIRST / name).write_bytes(content)
    return data


BROKEN = {
    "truncated JPEG": lambda: saved("JPEG", smooth())[:-300],
    "truncated progressive JPEG": lambda: saved("JPEG", smooth(), progressive=True)[:-300],
    "truncated PNG": lambda: saved("PNG", smooth())[:-300],
    "nothing": lambda: b"",
    "text": lambda: "이것은 사진이 아니다\n".encode(),
    "a decompression bomb": lambda: png(60000, 60000),
    "no pixels": lambda: png(48, 64),
    "half of its bytes zero": lambda: saved("JPEG", smooth())[:700] + bytes(700),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_photo_is_listed_and_nothing_stops(tmp_path, what):
    images, found, boxes, made = chain(replaced(tmp_path, BROKEN[what]()), tmp_path / "work")
    assert images.status[KEY] == boxes.status[KEY] == "unreadable"
    assert found.set_index("subject").kind.to_dict() == {KEY: "unreadable photo"}
    assert KEY not in made.keys
    assert len(made.keys) == len(images) - 1 == 8


UNUSUAL = {  # bytes, and the colour (RGB) that is expected
    "CMYK": (lambda: saved("JPEG", plain("CMYK", (0, 200, 100, 20)), quality=98), (235, 51, 143)),
    "grey": (lambda: saved("PNG", plain("L", 130)), (130, 130, 130)),
    "black and white": (lambda: saved("PNG", plain("1", 1)), (255, 255, 255)),
    "grey of 16 bits": (lambda: sixteen_bits([130 * 256]), (130, 130, 130)),
    "colour of 16 bits": (lambda: sixteen_bits([k * 256 for k in RGB]), RGB),
    "a palette": (lambda: saved("PNG", plain().quantize()), RGB),
    "transparent": (lambda: saved("PNG", plain("RGBA", (*RGB, 128))), RGB),
    "1 x 1": (lambda: saved("PNG", plain(size=(1, 1))), RGB),
    "1 x 5000": (lambda: saved("PNG", plain(size=(1, 5000))), RGB),
    "12000 x 12000": (lambda: saved("JPEG", plain("L", 130, (12000, 12000))), (130, 130, 130)),
    "bytes after the end": (lambda: saved("PNG", plain()) + b"junk", RGB),
}


@pytest.mark.parametrize("what", UNUSUAL)
def test_an_unusual_photo_is_used_with_the_right_colour(tmp_path, what):
    make, colour = UNUSUAL[what]
    images, found, boxes, made = chain(replaced(tmp_path, make()), tmp_path / "work", crop="whole")
    assert images.status[KEY] == "ok"
    assert boxes.status[KEY] == "fallback"
    assert found.empty
    assert [255 * images[f"mean_{c}"][KEY] for c in "rgb"] == pytest.approx(colour, abs=3)
    middle = made.pixels[made.rows([KEY])[0], 18, 18]
    assert middle.tolist() == pytest.approx(colour, abs=3)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first_is_used_and_listed(tmp_path, kind):
    moving = saved(kind, plain(), plain(colour=(0, 255, 0)), plain(colour=(0, 0, 255)))
    images, found, _, made = chain(replaced(tmp_path, moving), tmp_path / "work", crop="whole")
    assert found.values.tolist() == [["several frames", KEY, "3 frames: the first is used"]]
    assert [255 * images[f"mean_{c}"][KEY] for c in "rgb"] == pytest.approx(RGB, abs=3)
    assert made.pixels[made.rows([KEY])[0], 18, 18].tolist() == pytest.approx(RGB, abs=3)


def test_a_photo_stored_turned_is_cropped_and_searched_upright(tmp_path):
    tag = Image.Exif()
    tag[photos.ORIENTATION] = 6
    lying = smooth().transpose(Image.Transpose.ROTATE_90)
    made, found = {}, {}
    for name, picture_, exif in (("upright", smooth(), None), ("turned", lying, tag)):
        content = saved("PNG", picture_, **({"exif": exif} if exif else {}))
        data = replaced(tmp_path / name, content, "mask1.png")
        images, _, boxes, made[name] = chain(data, tmp_path / name / "work", crop="whole")
        assert (images.width[KEY], images.height[KEY]) == smooth().size
        found[name] = boxes.loc[KEY, faces.BOX].tolist()
    crop = {name: cache.pixels[cache.rows([KEY])[0]] for name, cache in made.items()}
    np.testing.assert_array_equal(crop["turned"], crop["upright"])
    assert found["turned"] == found["upright"]


@pytest.mark.parametrize("size", [(60000, 60000), (20000, 20000)])
def test_a_picture_that_claims_too_many_pixels_is_never_decoded(monkeypatch, size):
    monkeypatch.setattr(photos.cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    assert photos.decode(png(*size)) is None


def test_a_file_that_cannot_be_opened_is_listed_until_it_can(data, tmp_path, monkeypatch):
    read = photos.Path.read_bytes

    def forbidden(path):
        if path.name == "mask1.jpg" and FIRST in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(photos.Path, "read_bytes", forbidden)
    images, found, boxes, _ = chain(data, tmp_path / "work")
    assert images.status[KEY] == boxes.status[KEY] == "unreadable"
    assert found.subject.tolist() == [KEY]
    monkeypatch.undo()
    images, found = built(data, tmp_path / "work")
    assert images.status[KEY] == "ok"
    assert found.empty


def test_a_photo_is_read_again_although_its_clock_went_back(data, tmp_path):
    before, _ = built(data, tmp_path / "work")
    path = data / before.file[KEY]
    path.write_bytes(saved("PNG", plain()))
    for year in (0, 4_000_000_000):  # before and after every other file
        os.utime(path, (year, year))
        images, _ = built(data, tmp_path / "work")
        assert images.sha256[KEY] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert images.status[KEY] == "ok"
        path.write_bytes(saved("PNG", plain(colour=(0, 0, 255))))


def test_files_and_folders_that_do_not_match_the_table_are_listed(data, tmp_path):
    folder = data / "train/images" / FIRST
    (folder / "mask1.jpg").rename(folder / "mask1.heic")
    (folder / "mask6.jpg").write_bytes((folder / "normal.jpg").read_bytes())
    (data / "train/images/stranger").mkdir()
    (data / "train/images/stranger/normal.jpg").write_bytes(b"x")
    with (data / "train/train.csv").open("a") as table:
        table.write("000009,male,Asian,40,000009_male_Asian_40\n")
    (data / "eval/info.csv").write_text("ImageID,ans\nb.jpg,0\nnone.jpg,0\n../a.jpg,0\n")
    images, found = built(data, tmp_path / "work")
    assert found.groupby("kind").subject.agg(sorted).to_dict() == {
        "missing photo": ["../a.jpg", KEY, "none.jpg"],
        "extra file": [
            "eval/images/a.jpg",
            f"train/images/{FIRST}/mask1.heic",
            f"train/images/{FIRST}/mask6.jpg",
        ],
        "folder without a row": ["stranger"],
        "row without a folder": ["000009_male_Asian_40"],
    }
    assert images.status.value_counts().to_dict() == {"ok": 28, "missing": 2 + 1 + 7}


def test_links_out_of_the_photos_folder_are_listed_and_not_read(data, tmp_path):
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "secret.jpg").write_bytes(saved("JPEG", plain()))
    folder = data / "train/images" / FIRST
    (folder / "mask1.jpg").unlink()
    (folder / "mask1.jpg").symlink_to(outside / "secret.jpg")
    (folder / "more").symlink_to(outside)
    (folder / "again").symlink_to(folder)
    (folder / "gone.jpg").symlink_to(outside / "gone.jpg")
    (folder / "mask2.png").rename(folder / "second.png")
    (folder / "mask2.png").symlink_to("second.png")
    images, found = built(data, tmp_path / "work")
    listed = found[found.kind == "link"].subject.tolist()
    names = ["again", "gone.jpg", "mask1.jpg", "more"]
    assert listed == [f"train/images/{FIRST}/{name}" for name in names]
    assert images.status[[KEY, f"{FIRST}/mask2"]].tolist() == ["missing", "ok"]
    assert set(found.kind) == {"link", "missing photo", "extra file"}


def test_the_folder_of_the_photos_may_be_a_link_itself(data, tmp_path):
    (data / "train/images").rename(tmp_path / "disk")
    (data / "train/images").symlink_to(tmp_path / "disk")
    images, found = built(data, tmp_path / "work")
    assert (images.status == "ok").all()
    assert found.empty


TRAIN = [  # what is replaced in train.csv, and what is said
    (
        "000002,male",
        "000002,Male",
        r"unknown gender: 'Male' .*use male, female .*did you mean 'male",
    ),
    (",60,", ",0,", r"age is no whole number: '0' .*write 18 to 60"),
    (",60,", ",n/a,", r"age is no whole number: 'n/a'"),
    (",60,", ",17.5,", r"age is no whole number: '17.5'"),
    (",60,", ",,", r"age is no whole number: ''"),
    (",60,", ",-5,", r"age is no whole number: '-5'"),
    ("000002_male_Asian_60", FIRST, f"path repeated: '{FIRST}' .*each person has one"),
    ("000002_male_Asian_60", "../eval/images", r"path is no folder: '../eval/images'"),
    ("000002_male_Asian_60", "..", r"path is no folder: '\.\.'"),
    ("000002_male_Asian_60", "", r"path is no folder: ''"),
    ("000002,", " ,", r"id is empty"),
    ("gender", "sex", r"no column gender; it has id, sex"),
]


@pytest.mark.parametrize(("before", "after", "said"), TRAIN)
def test_what_train_csv_must_not_hold_is_refused_by_name(data, tmp_path, before, after, said):
    path = data / "train/train.csv"
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(DataError, match=rf"train\.csv.*{said}") as refused:
        built(data, tmp_path / "work")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "row", ["000001,female,Asian,29,{FIRST}", "000001,female,Asian,31,{FIRST}"]
)
def test_a_person_with_two_rows_is_refused(data, tmp_path, row):
    with (data / "train/train.csv").open("a") as table:
        table.write(row.format(FIRST=FIRST) + "\n")
    with pytest.raises(DataError, match=f"path repeated: '{FIRST}'"):
        built(data, tmp_path / "work")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", ",,\n"),
        lambda text: text.replace("female,", " female ,").replace(",60,", ", 60 ,"),
        lambda text: text + "\n\n,,,,\n",
    ],
    ids=["byte-order mark", "CRLF", "commas", "blanks", "blank rows"],
)
@pytest.mark.parametrize("name", ["train/train.csv", "eval/info.csv"])
def test_what_editors_leave_in_a_table_changes_nothing(data, tmp_path, name, change):
    expected, _ = built(data, tmp_path / "work")
    text = (data / name).read_text()
    (data / name).write_bytes(change(text).encode())
    images, found = built(data, tmp_path / "work")
    pd.testing.assert_frame_equal(images, expected)
    assert found.empty


@pytest.mark.parametrize("name", ["train/train.csv", "eval/info.csv"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace(",", ";").encode(), "separate fields by commas"),
        (lambda text: text.encode("utf-16"), "UTF-16"),
        (lambda text: b"", "is empty"),
        (lambda text: b"\x89PNG\r\n\x1a\n\x00\x00", "no text at all"),
    ],
    ids=["semicolons", "UTF-16", "nothing", "a picture"],
)
def test_a_table_in_another_form_is_refused_with_the_fix(data, tmp_path, name, change, said):
    (data / name).write_bytes(change((data / name).read_text()))
    with pytest.raises(DataError, match=rf"{name}.*{said}"):
        built(data, tmp_path / "work")


def test_test_photos_listed_twice_are_refused(data, tmp_path):
    (data / "eval/info.csv").write_text("ImageID,ans\nb.jpg,0\na.jpg,0\nb.jpg,0\n")
    with pytest.raises(DataError, match=r"ImageID repeated: 'b.jpg' \(1 in all\); each photo has"):
        built(data, tmp_path / "work")


@pytest.mark.parametrize("ident", ["NA", "None", "nan", "null", "=1+1", "1e5", "홍길동", "0"])
def test_an_id_is_text_whatever_it_looks_like(tmp_path, ident):
    rows = [(ident, *ROWS[0][1:4], f"{ident}_female_Asian_29"), *ROWS[1:]]
    data = write_layout(tmp_path / "data", rows)
    _, found = built(data, tmp_path / "work")
    images = index.load_images(tmp_path / "work")
    assert images.id.iloc[0] == ident
    assert found.empty
    changed, changes = relabel(images, relabel_file(tmp_path, f"{ident},age,29,30"), TASK)
    assert changes.outcome.tolist() == ["applied to 7 photos"]
    assert set(changed.age[changed.id == ident]) == {30}


def test_zeros_that_a_spreadsheet_took_in_train_csv_are_listed_and_corrections_apply(
    data, tmp_path
):
    path = data / "train/train.csv"
    path.write_text(path.read_text().replace("\n000002,", "\n2,"))
    images, found = built(data, tmp_path / "work")
    person = "000002_male_Asian_60"
    detail = "folder 000002, train.csv 2"
    assert found.values.tolist() == [["folder contradicts id", person, detail]]
    changed, changes = relabel(images, relabel_file(tmp_path, "000002,age,60,59"), TASK)
    assert changes.outcome.tolist() == ["applied to 7 photos (as id '2')"]
    assert set(changed.age[changed.person == person]) == {59}


def test_corrections_that_do_nothing_are_counted(data, tmp_path):
    rows = ["000001,gender,female,male", "000004,age,30,31", "000002,gender,female,male"]
    images, _ = built(data, tmp_path / "work")
    _, changes = relabel(images, relabel_file(tmp_path, *rows), TASK)
    outcomes = ["applied to 7 photos", "no such id", "already male"]
    assert changes.outcome.tolist() == outcomes
    for files in ([], relabel_file(tmp_path)):
        assert relabel(images, files, TASK)[1].empty


@pytest.mark.parametrize(
    "header", ["id,gender,race,age,path\n", "id,gender,race,age,path\n\n,,,,\n"]
)
def test_an_empty_data_set_is_refused(data, tmp_path, header):
    (data / "train/train.csv").write_text(header)
    with pytest.raises(DataError, match="its table of training photos has no rows"):
        built(data, tmp_path / "work")


def test_an_empty_table_of_photos_is_refused(data):
    names = {"train_table": "train.csv", "test_table": "test.csv", "image_dir": "eval"}
    (data / "train.csv").write_text("path,mask,gender,age\n")
    settings = names | {"path_column": "path", "group_column": ""}
    with pytest.raises(DataError, match="its table of training photos has no rows"):
        index.index(data, TASK, "table", settings)


def test_no_photo_at_all_is_refused(data, tmp_path):
    for file in [*data.glob("train/images/*/*"), *data.glob("eval/images/*")]:
        file.unlink()
    with pytest.raises(DataError, match="none of the photos that its tables name exists"):
        built(data, tmp_path / "work")


def test_one_person_goes_as_far_as_folds_which_say_what_is_missing(tmp_path):
    data = write_layout(tmp_path / "data", ROWS[:1])
    images, _, _, made = chain(data, tmp_path / "work")
    people = index.people(images, TASK)
    assert len(made.keys) == 9
    with pytest.raises(ParameterError, match=r"only 1 person is female <30.*split='none'"):
        folds.assign(people, TASK, "kfold", 2, 0)
    assert folds.assign(people, TASK, "none", 2, 0).tolist() == [folds.ALWAYS_TRAINED]


def test_a_class_with_fewer_people_than_folds_is_named():
    people = pd.DataFrame({"gender": [0, 1] * 6, "age": [20] * 10 + [60] * 2})
    people = pd.concat([people, people.tail(2)], ignore_index=True).rename("p{}".format)
    with pytest.raises(ParameterError, match=r"fold_count=5 must be 2: .* 2 people are male >=60"):
        folds.assign(people, TASK, "kfold", 5, 0)


def test_blanks_and_hangul_in_paths_change_nothing(tmp_path):
    rows = [("홍 길동", "male", "Asian", 30, "홍 길동_male_Asian_30"), *ROWS]
    data = write_layout(tmp_path / "새 폴더" / "내 데이터", rows)
    (data / "eval/images/a.jpg").rename(data / "eval/images/사진 1.jpg")
    (data / "eval/info.csv").write_text("ImageID,ans\nb.jpg,0\n사진 1.jpg,0\n", encoding="utf-8")
    images, found, boxes, made = chain(data, tmp_path / "작업 폴더")
    assert (images.status == "ok").all()
    assert found.empty
    assert len(made.keys) == len(boxes) == 37


def test_the_data_folder_is_only_read(data, tmp_path):
    def state():
        paths = [data, *data.rglob("*")]
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in paths}

    before = state()
    for path in before:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        images, *_ = chain(data, tmp_path / "work")
    finally:
        for path in before:
            path.chmod(0o755)
    assert (images.status == "ok").all()
    assert state() == before


IDS = ["b.jpg", "a.jpg"]
GOOD = "ImageID,ans\nb.jpg,3\na.jpg,14\n"


@pytest.mark.parametrize("text", [GOOD, "\ufeff" + GOOD, GOOD.replace("\n", "\r\n")])
def test_a_submission_from_any_editor_is_valid(tmp_path, text):
    (tmp_path / "s.csv").write_bytes(text.encode())
    submission.check(tmp_path / "s.csv", IDS, TASK)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace(",", ";").encode(), "separate fields by commas"),
        (lambda text: b"", "is empty"),
        (lambda text: b"ImageID,ans\n", "photos missing: 2 rows"),
        (lambda text: text.encode("utf-16"), "UTF-16"),
        (lambda text: text.replace(",3", ",3.0").encode(), "outside the classes"),
        (lambda text: text.replace(",3", ",NA").encode(), "'NA'"),
        (lambda text: text.replace(",3", ",").encode(), "gaps"),
        (lambda text: text.replace(",3", ",18").encode(), "'18'"),
        (lambda text: text.replace("b.jpg", "../b.jpg").encode(), r"unknown: 1 rows \(\.\./b.jpg"),
        (lambda text: (text + "b.jpg,3\n").encode(), "repeated"),
        (lambda text: text.replace("ans", "class").encode(), "accepted are exactly"),
    ],
)
def test_a_submission_that_would_not_score_is_refused_in_one_sentence(tmp_path, change, said):
    (tmp_path / "s.csv").write_bytes(change(GOOD))
    with pytest.raises(FacefoldError, match=said) as refused:
        submission.check(tmp_path / "s.csv", IDS, TASK)
    assert "\n" not in str(refused.value)


SCRIPT = "<script>alert(1)</script>"


def test_text_of_a_table_is_shown_as_text_in_html(tmp_path):

    rows = [(SCRIPT, "female", SCRIPT, 29, "strange"), *ROWS]
    images, found = built(write_layout(tmp_path / "data", rows), tmp_path / "work")
    people = index.people(images, TASK)
    shown = [
        images,
        found.assign(subject=SCRIPT),
        people.rename(SCRIPT.format),
        people[index.texts(people, TASK)[0]].value_counts().to_frame(SCRIPT),
    ]
    outputs = [nbformat.v4.new_output("stream", text=SCRIPT)]
    for table in shown:
        bundle, _ = DisplayFormatter().format(table)
        assert SCRIPT not in bundle["text/html"]
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in bundle["text/html"]
        outputs.append(nbformat.v4.new_output("display_data", bundle))
    cell = nbformat.v4.new_code_cell("people", outputs=outputs)
    page, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    assert SCRIPT not in page
    assert page.count("&lt;script&gt;alert(1)") >= len(outputs)


def test_nothing_in_lib_or_notebooks_makes_html_by_hand():
    sources = [*PROJECT.glob("lib/**/*.py"), *PROJECT.glob("notebooks/*.ipynb")]
    unsafe = ("HTML(", "Markdown(", "to_html(", ".style.", "escape=False")
    made = {p.name for p in sources for word in unsafe if word in p.read_text("utf-8")}
    assert made <= {"kernels.py", "style.py", "stages.py", "compare.py"}  # these escape every text
