import tempfile

from aae.sweep.trial import extract, leave_machine, pack_spool
from aae.tracking.spool import load_spooled, save_spooled, spooled
from aae.tracking.store import RunInfo, Text


def test_what_mlflow_has_not_taken_comes_back_from_a_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    root = tmp_path / "aae-sweep-mine"
    run, record = RunInfo("nowhere", "a training", {}, 0), Text("losses", "losses.txt")
    save_spooled(root / "mlflow-spool" / "one", run, record)
    (root / "snapshots").mkdir()
    archive = pack_spool("mine")
    assert root.exists(), "until it has arrived"
    leave_machine("mine")
    assert not root.exists()
    extract(archive, tmp_path / "here", "data_filter")
    (folder,) = spooled(tmp_path / "here")
    found, records = load_spooled(folder)
    assert (found, list(records.values())) == (run, [record])
    assert pack_spool("mine") == b""
