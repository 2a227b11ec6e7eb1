import io
import tarfile
import tempfile

from aae.spool import load_spooled, save_spooled, spooled
from aae.trial import leave_machine


def test_what_mlflow_has_not_taken_comes_back_from_a_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    root = tmp_path / "aae-sweep-mine"
    run, records = {"name": "a training"}, [("text", {"text": "losses"})]
    save_spooled(root / "mlflow-spool" / "one", run, records)
    (root / "snapshots").mkdir()
    archive = leave_machine("mine")
    assert not root.exists()
    with tarfile.open(fileobj=io.BytesIO(archive)) as file:
        file.extractall(tmp_path / "here", filter="data")
    (folder,) = spooled(tmp_path / "here")
    assert load_spooled(folder) == (run, records)
    assert leave_machine("mine") == b""
