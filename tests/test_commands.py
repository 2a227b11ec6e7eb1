"""The commands for a trained model, with real picture files."""

import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from projects import run
from support import SIZES, learnt_model, make_digits

from aae.cli import main
from aae.files import tree_digest
from aae.models import Architecture, Model, TrainedModel, load_model, save_model

DIGITS = make_digits(9)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("models") / "aae.safetensors"
    save_model(learnt_model(make_digits(60)), path)
    return path


@pytest.fixture
def command(model, tmp_path, monkeypatch, capsys):
    """Run a command in a folder with pictures; return its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "pictures" / "more").mkdir(parents=True)
    for i, image in enumerate(DIGITS[:4]):
        name = f"more/{i}.png" if i == 3 else f"{i}.png"
        Image.fromarray(image[0].numpy()).save(tmp_path / "pictures" / name)
    colours = np.random.default_rng(0).integers(0, 255, (30, 50, 3), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "pictures" / "photo.JPG")
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")

    def call(*arguments: str, model: Path | str = model) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--model", str(model)])
        output, errors = capsys.readouterr()
        code = ended.value.code
        return (1, output, f"{errors}{code}\n") if isinstance(code, str) else (code, output, errors)

    return call


def spoil(tmp_path: Path) -> None:
    """Add two files that cannot be read: one is no picture, and the other ends too early."""
    (tmp_path / "pictures" / "empty.png").write_bytes(b"")
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90), dtype=np.uint8)).save(
        whole, "png"
    )
    (tmp_path / "pictures" / "cut.png").write_bytes(whole.getvalue()[:2000])


def left_behind(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob(".*")]


class Trap:
    """An object that makes a file when it is unpickled."""

    def __reduce__(self) -> tuple:
        return Path.touch, (Path("trap"),)


FILES = ["0.png", "1.png", "2.png", "more/3.png", "photo.JPG"]


def test_codes_that_are_written_decode_to_the_reconstructions(command, model, tmp_path):
    code, output, errors = command("encode", "pictures", "-o", "codes.csv")
    assert (code, output) == (0, "")
    assert errors == "encode: 5\n"
    table = pd.read_csv(tmp_path / "codes.csv")
    assert list(table) == ["file", "z1", "z2"]
    assert list(table["file"]) == [f"pictures/{name}" for name in FILES]
    trained = TrainedModel(load_model(model))
    exact = trained.encode([tmp_path / "pictures" / name for name in FILES])
    assert np.array_equal(table[["z1", "z2"]].to_numpy(np.float32), exact), "in full precision"
    assert command("decode", "codes.csv", "-o", "decoded")[0] == 0
    assert command("reconstruct", "pictures", "-o", "reconstructed")[0] == 0
    for name in ("0.png", "1.png", "2.png", "more/3.png", "photo.png"):
        decoded = np.asarray(Image.open(tmp_path / "decoded" / name))
        assert decoded.shape == (4, 4)
        assert np.array_equal(decoded, np.asarray(Image.open(tmp_path / "reconstructed" / name)))
    expected = trained.reconstruct(DIGITS[:1])[0, 0] * 255
    first = np.asarray(Image.open(tmp_path / "decoded" / "0.png"))
    np.testing.assert_allclose(first, expected, atol=0.51)
    assert len(list((tmp_path / "decoded").rglob("*.png"))) == 5
    assert left_behind(tmp_path) == []


def test_codes_are_an_array_on_request(command, tmp_path):
    assert command("encode", "pictures", "-o", "codes.csv")[0] == 0
    assert command("encode", "pictures", "-o", "codes.npy")[0] == 0
    assert command("encode", "pictures", "-o", "other", "--format", "npy")[0] == 0
    assert command("encode", "pictures", "-o", "upper.NPY")[0] == 0
    codes = np.load(tmp_path / "codes.npy")
    assert codes.dtype == np.float32
    assert np.array_equal(codes, np.load(tmp_path / "other"))
    assert np.array_equal(codes, np.load(tmp_path / "upper.NPY"))
    table = pd.read_csv(tmp_path / "codes.csv", usecols=["z1", "z2"])
    assert np.array_equal(table.to_numpy(np.float32), codes)
    assert command("decode", "codes.npy", "-o", "decoded")[0] == 0
    names = sorted(path.name for path in (tmp_path / "decoded").iterdir())
    assert names == [f"00000{i}.png" for i in range(5)]


def test_the_standard_output_holds_the_table_alone(command, monkeypatch, tmp_path):
    code, output, errors = command("encode", "pictures/1.png", "pictures/more", "-o", "-")
    assert (code, errors) == (0, "encode: 2\n")
    table = pd.read_csv(io.StringIO(output))
    assert list(table["file"]) == ["pictures/1.png", "pictures/more/3.png"]
    monkeypatch.setattr("sys.stdin", io.StringIO(output))
    assert command("decode", "-", "-o", "decoded")[0] == 0
    assert (tmp_path / "decoded" / "more" / "3.png").exists()
    code, output, _ = command("score", "pictures", "-o", "-")
    assert code == 0
    assert len(pd.read_csv(io.StringIO(output))) == 5


def test_the_highest_reconstruction_error_is_first(command, model, tmp_path):
    broken = DIGITS[1, 0].numpy().copy()
    broken[2:] = 255 - broken[2:]
    Image.fromarray(broken).save(tmp_path / "pictures" / "more" / "broken.png")
    (tmp_path / "pictures" / "photo.JPG").unlink()
    assert command("score", "pictures", "-o", "scores.csv")[0] == 0
    table = pd.read_csv(tmp_path / "scores.csv")
    assert list(table) == ["file", "reconstruction_error", "typicality"]
    assert table["file"][0] == "pictures/more/broken.png"
    assert table["reconstruction_error"].is_monotonic_decreasing
    scores = TrainedModel(load_model(model)).score(list(table["file"]))
    assert np.array_equal(table["typicality"].to_numpy(np.float32), scores.typicality)


def test_a_plain_autoencoder_leaves_typicality_empty_and_has_no_samples(command, tmp_path):
    path = tmp_path / "ae.safetensors"
    save_model(Model(Architecture(**SIZES | {"discriminator_hidden": None}), seed=0), path)
    assert command("score", "pictures", "-o", "scores.csv", model=path)[0] == 0
    assert (tmp_path / "scores.csv").read_text().splitlines()[1].endswith(",")
    code, _, errors = command("sample", "-o", "samples", model=path)
    assert code == 1
    assert errors.startswith("error: the model has no prior")
    assert not (tmp_path / "samples").exists()


def test_samples_are_pictures_or_one_grid(command, model, tmp_path):
    assert command("sample", "-n", "5", "--grid", "-o", "grid.png")[0] == 0
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    assert grid.shape == (2 * 5 - 1, 3 * 5 - 1)
    samples = TrainedModel(load_model(model)).sample(5)
    np.testing.assert_allclose(grid[5:, 5:9], samples[4, 0] * 255, atol=0.51)
    assert (grid[5:, 10:] == 128).all()
    for name, kind in (("grid.JPG", "JPEG"), ("grid.webp", "WEBP"), ("grid", "PNG")):
        assert command("sample", "-n", "5", "--grid", "-o", name)[0] == 0
        with Image.open(tmp_path / name) as picture:
            assert (picture.format, picture.size) == (kind, (14, 9))
    assert command("sample", "-n", "5", "-o", "first")[0] == 0
    assert command("sample", "-n", "5", "--seed", "1", "-o", "second")[0] == 0
    first, second = (
        [path.read_bytes() for path in sorted((tmp_path / name).iterdir())]
        for name in ("first", "second")
    )
    assert len(first) == len(second) == 5
    assert first != second
    assert np.array_equal(np.asarray(Image.open(tmp_path / "first" / "000004.png")), grid[5:, 5:9])


def test_pictures_stand_beside_their_reconstructions(command, tmp_path):
    command("reconstruct", "pictures/0.png", "pictures/1.png", "--grid", "-o", "pairs.png")
    pairs = np.asarray(Image.open(tmp_path / "pairs.png"))
    assert pairs.shape == (2 * 5 - 1, 8)
    assert np.array_equal(pairs[:4, :4], DIGITS[0, 0].numpy())
    assert np.array_equal(pairs[5:, :4], DIGITS[1, 0].numpy())
    assert np.abs(pairs[5:, 4:].astype(int) - DIGITS[1, 0].numpy()).mean() < 40


def test_a_row_leads_from_one_picture_to_another(command, model, tmp_path):
    command("interpolate", "pictures/0.png", "pictures/1.png", "--steps", "5", "-o", "row.png")
    row = np.asarray(Image.open(tmp_path / "row.png"))
    expected = TrainedModel(load_model(model)).interpolate(DIGITS[0], DIGITS[1], 5)[0, :, 0] * 255
    assert row.shape == (4, 5 * 5 - 1)
    np.testing.assert_allclose(row[:, -4:], expected[-1], atol=0.51)


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["encode", "pictures", "-o", "codes.csv"], "codes.csv"),
        (["score", "pictures", "-o", "scores.csv"], "scores.csv"),
        (["reconstruct", "pictures", "-o", "out"], "out/photo.png"),
        (["reconstruct", "pictures", "--grid", "-o", "grid.png"], "grid.png"),
    ],
)
def test_unreadable_pictures_are_named_and_passed_over(command, tmp_path, arguments, output):
    spoil(tmp_path)
    code, _, errors = command(*arguments, "pictures/gone.png")
    assert code == 1
    lines = errors.splitlines()
    assert len(lines) == 4
    for line, start in zip(
        lines[1:], ("cut.png: ", "empty.png: it is", "gone.png: No such"), strict=True
    ):
        assert line.startswith(f"error: pictures/{start}")
    assert (tmp_path / output).exists()
    if output.endswith(".csv"):
        assert len(pd.read_csv(tmp_path / output)) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", "pictures/empty.png", "-o", "new"], "no picture can be read: pictures/empty.p"),
        (
            ["reconstruct", "pictures/empty.png", "pictures/cut.png", "-o", "new"],
            "; pictures/cut.png: image",
        ),
        (["score", "nothing", "-o", "new"], "no pictures in nothing; they end in .bmp, .jpeg, "),
        (["encode", "pictures", "-o", "nothing"], "nothing cannot be written: Is a directory"),
        (["encode", "pictures", "-o", "pictures/0.png/new"], "cannot be written: "),
        (["encode", "pictures", "-o", "-", "--format", "npy"], "cannot be written to the standard"),
        (["encode", "pictures", "-o", "new", "--device", "gpu"], "device: 'gpu' cannot be used: "),
        (["sample", "-o", "pictures"], "pictures exists and is not an empty folder; name another "),
        (["sample", "-o", "."], "exists and is not an empty folder"),
        (["sample", "-o", "pictures/0.png/new"], "cannot be written: "),
        (["sample", "-o", "new.png"], "new.png would be a folder; one picture of all needs --grid"),
        (
            ["decode", "codes.csv", "-o", "new"],
            "codes.csv: its columns are file, z1; z2 is missing",
        ),
        (["decode", "text.csv", "-o", "new"], "text.csv: could not convert string to float"),
        (["decode", "nan.csv", "-o", "new"], "codes hold NaN or infinite values; finite numbers "),
        (["decode", "codes.npy", "-o", "new"], "codes of shape (5, 3); (N, 2) is needed"),
        (["decode", "empty.npy", "-o", "new"], "codes of shape (0, 2); (N, 2) is needed, with at "),
        (["decode", "empty.csv", "-o", "new"], "empty.csv: it has no codes"),
        (["decode", "nul.csv", "-o", "new"], "nul.csv: a name in its column file has the charact"),
        (["decode", "pickle.npy", "-o", "new"], "pickle.npy: "),
        (["decode", "gone.csv", "-o", "new"], "gone.csv: No such file or directory"),
        (["interpolate", "pictures/0.png", "gone.png", "-o", "new"], "gone.png: No such file or"),
        (["encode", "-o", "pictures/0.png", "pictures/1.png"], "0.png has the suffix of a picture"),
        (["score", "pictures", "-o", "new.safetensors"], "new.safetensors has the suffix of a mod"),
        (["encode", "notes.gif", "-o", "notes.gif"], "notes.gif is one of the pictures to read"),
        (
            ["reconstruct", "pictures", "--grid", "-o", "pictures/more/../0.png"],
            "0.png is one of the pictures to read; name another file",
        ),
        (
            ["interpolate", "pictures/0.png", "pictures/1.png", "-o", "pictures/1.png"],
            "pictures/1.png is one of the pictures to read",
        ),
    ],
)
def test_what_cannot_work_is_one_line_and_writes_nothing(command, tmp_path, arguments, message):
    spoil(tmp_path)
    (tmp_path / "nothing").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "notes.gif")
    (tmp_path / "codes.csv").write_text("file,z1\na.png,0.5\n")
    (tmp_path / "text.csv").write_text("z1,z2\n0.5,much\n")
    (tmp_path / "nan.csv").write_text("z1,z2\n0.5,NaN\n")
    np.save(tmp_path / "codes.npy", np.zeros((5, 3)))
    np.save(tmp_path / "empty.npy", np.zeros((0, 2)))
    (tmp_path / "empty.csv").write_text("file,z1,z2\n")
    (tmp_path / "nul.csv").write_text("file,z1,z2\na\0b.png,0.5,0.5\n")
    np.save(tmp_path / "pickle.npy", np.array([Trap()]), allow_pickle=True)
    before = sorted(tmp_path.rglob("*")), tree_digest(tmp_path)
    code, output, errors = command(*arguments)
    assert (code, output) == (1, "")
    assert message in errors.splitlines()[-1]
    assert errors.splitlines()[-1].startswith("error: ")
    assert sum(line.startswith("error") for line in errors.splitlines()) == 1
    if any(known in message for known in ("written", "exists", "suffix", "to read")):
        assert errors.count("\n") == 1, "which is known before the work, with its progress, begins"
    assert (sorted(tmp_path.rglob("*")), tree_digest(tmp_path)) == before


@pytest.mark.parametrize(
    "arguments", [["sample", "-n", "1000001"], ["interpolate", "--steps", "1001"]]
)
def test_more_pictures_than_anybody_needs_are_a_slip(command, arguments):
    code, _, errors = command(*arguments)
    assert code == 2
    assert f"{arguments[2]} is not in the range" in errors


def test_a_missing_model_is_named(command):
    code, _, errors = command("encode", "pictures", "-o", "new", model="gone.safetensors")
    assert code == 1
    assert errors.startswith("error: gone.safetensors: No such file")
    code, _, errors = command("encode", "pictures", "-o", "new", model="models:/m-1")
    assert errors.startswith("error: models:/m-1: there is no MLflow database")


def test_names_that_would_be_there_twice_are_numbered(command, tmp_path):
    (tmp_path / "codes.csv").write_text(
        "file,z1,z2\na/x.jpg,0,0\na/x.png,1,1\n../../etc/y.png,2,2\n,3,3\na/x.jpg,4,4\n/,5,5\n"
    )
    (tmp_path / "new").mkdir()
    assert command("decode", "codes.csv", "-o", "new")[0] == 0
    written = list((tmp_path / "new").rglob("*.png"))
    assert len(written) == 6
    names = sorted(path.name for path in written)
    assert names == ["000003.png", "000005.png", "x-2.png", "x-3.png", "x.png", "y.png"]
    assert left_behind(tmp_path) == []


def test_what_fails_half_way_leaves_the_old_output(command, tmp_path, monkeypatch):
    (tmp_path / "codes.csv").write_text("old")

    def fail(*_: object) -> torch.Tensor:
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainedModel, "encode", fail)
    monkeypatch.setattr(TrainedModel, "reconstruct", fail)
    assert command("encode", "pictures", "-o", "codes.csv")[0] == 130
    assert command("reconstruct", "pictures", "-o", "out")[0] == 130
    assert (tmp_path / "codes.csv").read_text() == "old"
    assert not (tmp_path / "out").exists()
    assert left_behind(tmp_path) == []


def test_an_empty_folder_is_filled_and_not_replaced(command, tmp_path, monkeypatch):
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / ".partial").mkdir()  # of a command that was killed
    (folder / ".partial" / "000007.png").write_text("half a picture")
    monkeypatch.chdir(folder)
    number = folder.stat().st_ino
    assert command("sample", "-n", "2", "-o", ".")[0] == 0
    assert folder.stat().st_ino == number, "a shell may be in it, or it may be mounted"
    assert sorted(path.name for path in folder.iterdir()) == ["000000.png", "000001.png"]


def test_what_others_put_into_the_folder_meanwhile_stays(command, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    decode = TrainedModel.decode

    def decode_slowly(*arguments: object) -> torch.Tensor:
        (tmp_path / "out" / "note.txt").write_text("mine")
        return decode(*arguments)

    monkeypatch.setattr(TrainedModel, "decode", decode_slowly)
    assert command("sample", "-n", "1", "-o", "out")[0] == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["000000.png", "note.txt"]


def test_a_link_stays_a_link_and_a_pipe_is_refused(command, tmp_path):
    (tmp_path / "codes.csv").symlink_to("elsewhere.csv")
    assert command("encode", "pictures", "-o", "codes.csv")[0] == 0
    assert (tmp_path / "codes.csv").is_symlink()
    assert len(pd.read_csv(tmp_path / "elsewhere.csv")) == 5
    os.mkfifo(tmp_path / "pipe")
    code, _, errors = command("encode", "pictures", "-o", "pipe")
    assert code == 1
    assert errors.endswith("pipe cannot be written: it is not a regular file\n")
    assert (tmp_path / "pipe").is_fifo()


def test_folders_that_are_links_are_searched_and_loops_end(command, tmp_path):
    (tmp_path / "pictures" / "linked").symlink_to(tmp_path / "pictures" / "more")
    (tmp_path / "pictures" / "more" / "up").symlink_to(tmp_path / "pictures")
    code, output, _ = command("encode", "pictures", "-o", "-")
    assert code == 0
    files = list(pd.read_csv(io.StringIO(output))["file"])
    names = ("0.png", "1.png", "2.png", "linked/3.png", "more/3.png", "photo.JPG")
    assert files == [f"pictures/{name}" for name in names]


def test_a_name_that_no_table_can_hold_is_passed_over(command, tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / "pictures" / "0.png").rename(tmp_path / "pictures" / name)
    code, output, errors = command("encode", "pictures", "-o", "-")
    assert code == 1
    assert len(pd.read_csv(io.StringIO(output))) == 4
    assert errors.count("its name is not UTF-8") == 1


def test_more_pictures_than_fit_in_a_batch(command, monkeypatch):
    def table(result: tuple[int, str, str]) -> pd.DataFrame:
        return pd.read_csv(io.StringIO(result[1]))

    expected = table(command("encode", "pictures", "-o", "-"))
    monkeypatch.setattr("aae.data.pictures.CHUNK", 2)
    found = table(command("encode", "pictures", "-o", "-"))
    pd.testing.assert_frame_equal(found, expected, rtol=1e-5)


@pytest.mark.usefixtures("command")
def test_the_installed_command_uses_the_default_model(model, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "aae.safetensors").write_bytes(model.read_bytes())
    spoil(tmp_path)
    result = run(["aae", "encode", "pictures", "-o", "-"], tmp_path, check=False)
    assert result.returncode == 1
    assert len(result.stdout.splitlines()) == 6
    assert result.stderr.splitlines()[2].startswith("error: pictures/empty.png")


def labelled(tmp_path: Path, use: str = "semi-supervised") -> Path:
    """Write a model with three classes, and return its file."""
    prior = {"name": "gaussian", "distribution": "Normal", "loc": 0.0, "scale": 5.0}
    if use == "prior":
        prior = {"name": "roll", "distribution": "SwissRoll"}
        prior |= {"turns": 1.5, "radius": 9.0, "noise": 0.1}
    categories = {"use": use, "count": 3, "names": ["cat", "file", "03"]}
    path = tmp_path / "labelled.safetensors"
    architecture = Architecture(**SIZES | {"prior": prior, "categories": categories})
    save_model(Model(architecture, seed=0), path)
    return path


def read_classes(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"class": str})


def test_each_picture_has_its_likeliest_class_and_the_probabilities_of_all(command, tmp_path):
    path = labelled(tmp_path)
    spoil(tmp_path)
    code, output, errors = command("classify", "pictures", "-o", "classes.csv", model=path)
    assert (code, output) == (1, "")
    lines = errors.splitlines()
    assert lines[0] == "classify: 7"
    assert [line.split(": ")[1] for line in lines[1:]] == ["pictures/cut.png", "pictures/empty.png"]
    header, *rows = (tmp_path / "classes.csv").read_text().splitlines()
    assert header == "file,class,probability,cat,file,03"
    assert [row.split(",")[0] for row in rows] == [f"pictures/{name}" for name in FILES]
    files = [str(tmp_path / "pictures" / name) for name in FILES]
    probabilities = TrainedModel(load_model(path)).classify(files)
    table = read_classes(tmp_path / "classes.csv")
    assert np.array_equal(table.iloc[:, 3:].to_numpy(np.float32), probabilities)
    assert list(table["class"]) == [["cat", "file", "03"][k] for k in probabilities.argmax(1)]
    assert np.array_equal(table["probability"].to_numpy(np.float32), probabilities.amax(1))


def test_only_a_model_that_finds_classes_classifies(command, tmp_path):
    code, output, errors = command("classify", "pictures", "-o", "-")
    assert (code, output) == (1, "")
    assert errors.splitlines()[-1].startswith("error: the model does not find the class of an imag")
    code, output, _ = command("classify", "pictures", "-o", "-", model=labelled(tmp_path))
    assert code == 0
    assert len(output.splitlines()) == 6


@pytest.mark.parametrize("use", ["semi-supervised", "decoder"])
def test_codes_decode_with_the_classes_in_their_table_or_with_one_for_all(command, tmp_path, use):
    path = labelled(tmp_path, use)
    trained = TrainedModel(load_model(path))
    assert command("encode", "pictures", "-o", "codes.csv", model=path)[0] == 0
    table = read_classes(tmp_path / "codes.csv")
    if use == "semi-supervised":
        assert list(table) == ["file", "class", "z1", "z2"]
        likeliest = trained.classify(list(table["file"])).argmax(1)
        assert list(table["class"]) == [trained.class_names[k] for k in likeliest]
    else:
        assert list(table) == ["file", "z1", "z2"]
    codes = torch.from_numpy(table[["z1", "z2"]].to_numpy(np.float32))
    for folder, classes, options, labels in (
        ("as-listed", ["03", "cat", "cat", "file", "03"], [], [2, 0, 0, 1, 2]),
        ("numbers", ["03"] * 5, [], [2] * 5),
        ("same", ["03"] * 5, ["--label", "file"], [1] * 5),
    ):
        table.assign(**{"class": classes}).to_csv(tmp_path / "codes.csv", index=False)
        assert command("decode", "codes.csv", *options, "-o", folder, model=path)[0] == 0
        for name, expected in zip(FILES, trained.decode(codes, labels), strict=True):
            found = np.asarray(Image.open((tmp_path / folder / name).with_suffix(".png")))
            np.testing.assert_allclose(found, expected[0] * 255, atol=0.51)
    # A model without classes ignores the column.
    assert command("decode", "codes.csv", "-o", "without")[0] == 0


def test_pictures_are_reconstructed_as_the_class_that_is_named(command, tmp_path):
    path = labelled(tmp_path, "decoder")
    trained = TrainedModel(load_model(path))
    for label in ("cat", "03"):
        as_class = ["--label", label]
        command("reconstruct", "pictures", *as_class, "-o", label, model=path)
        found = np.asarray(Image.open(tmp_path / label / "0.png"))
        expected = trained.reconstruct(DIGITS[0], label)[0, 0] * 255
        np.testing.assert_allclose(found, expected, atol=0.51)
        files = ["pictures/0.png", "pictures/1.png"]
        command("reconstruct", files[0], *as_class, "--grid", "-o", "pair.png", model=path)
        pair = np.asarray(Image.open(tmp_path / "pair.png"))
        np.testing.assert_allclose(pair[:, 4:], expected, atol=0.51)
        command("interpolate", *files, *as_class, "--steps", "2", "-o", "row.png", model=path)
        row = np.asarray(Image.open(tmp_path / "row.png"))
        np.testing.assert_allclose(row[:, :4], expected, atol=0.51)
        command("score", files[0], *as_class, "-o", "scores.csv", model=path)
        error = pd.read_csv(tmp_path / "scores.csv")["reconstruction_error"][0]
        scores = trained.score(DIGITS[0], label)
        assert error == pytest.approx(scores.reconstruction_error.item(), rel=1e-5)


@pytest.mark.parametrize("use", ["prior", "decoder", "semi-supervised"])
def test_a_grid_of_samples_has_a_row_of_each_class_in_the_same_styles(command, tmp_path, use):
    path = labelled(tmp_path, use)
    trained = TrainedModel(load_model(path))
    assert command("sample", "-n", "10", "--grid", "-o", "grid.png", model=path)[0] == 0
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    assert grid.shape == (3 * 5 - 1, 4 * 5 - 1), "four columns: ten pictures fill no three rows"
    for row, name in enumerate(("cat", "file", "03")):
        assert command("sample", "-n", "4", "--label", name, "-o", name, model=path)[0] == 0
        for column, expected in enumerate(trained.sample(4, labels=name)):
            cell = grid[row * 5 : row * 5 + 4, column * 5 : column * 5 + 4]
            np.testing.assert_allclose(cell, expected[0] * 255, atol=0.51)
            single = np.asarray(Image.open(tmp_path / name / f"00000{column}.png"))
            assert np.array_equal(single, cell)
    same = ["--label", "file", "--grid", "-o", "same.png"]
    assert command("sample", "-n", "4", *same, model=path)[0] == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "same.png"))[:4, :9], grid[5:9, :9])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["decode", "codes.csv"], "--label: labels are needed, because the decoder takes classes"),
        (["decode", "other.csv"], "labels: 'dog' is not a category (choices: cat, file, 03)"),
        (
            ["decode", "codes.csv", "--label", "3"],
            "--label: '3' is not a category; did you mean '03",
        ),
        (["reconstruct", "none"], "--label: labels are needed, because the decoder takes classes"),
        (["reconstruct", "none", "--label", "dog"], "--label: 'dog' is not a category"),
        (["score", "none"], "--label: labels are needed, because the decoder takes classes: cat"),
        (["interpolate", "none/0.png", "none/1.png"], "--label: labels are needed, because"),
        (["sample", "--label", "dog"], "--label: 'dog' is not a category"),
        (["classify", "none"], "does not find the class of an image"),
    ],
)
def test_a_missing_or_wrong_class_is_one_line_and_writes_nothing(
    command, tmp_path, arguments, message
):
    path = labelled(tmp_path, "decoder")
    (tmp_path / "none").mkdir()
    for number in range(2):  # pictures that cannot be read: the class is checked before them
        (tmp_path / "none" / f"{number}.png").write_bytes(b"nothing")
    (tmp_path / "codes.csv").write_text("z1,z2\n0.5,1.5\n")
    (tmp_path / "other.csv").write_text("z1,z2,class\n0.5,1.5,dog\n")
    before = sorted(tmp_path.rglob("*"))
    code, output, errors = command(*arguments, "-o", "new", model=path)
    assert (code, output) == (1, "")
    assert message in errors.splitlines()[-1]
    assert sum(line.startswith("error") for line in errors.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_model_without_classes_takes_no_label(command):
    for arguments in (["sample"], ["reconstruct", "pictures"], ["score", "pictures"]):
        code, _, errors = command(*arguments, "--label", "cat", "-o", "new")
        assert code == 1
        assert "--label: labels are given, but the model's decoder takes only codes" in errors
