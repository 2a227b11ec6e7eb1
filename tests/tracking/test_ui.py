import json
import os
import re
import signal
import socket
import urllib.request
from contextlib import ExitStack

import mlflow
import pytest
from projects import run, start
from servers import wait_for_line


@pytest.mark.slow
def test_the_ui_opens_on_loopback_at_a_free_port_each_time(repository):
    addresses: set[str] = set()
    with ExitStack() as stack:
        for _ in range(2):
            page = start(["aae", "ui"], repository)
            stack.callback(page.wait)
            stack.callback(os.killpg, page.pid, signal.SIGKILL)
            line = wait_for_line(page.stdout, "open http")
            pattern = r"(http://127.0.0.1:(\d+))/#/experiments/(\d+)/runs\?viewStateShareKey=match"
            address, port, experiment = re.search(pattern, line).groups()
            wait_for_line(page.stderr, "Uvicorn running")
            call = f"{address}/api/2.0/mlflow/experiments/get?experiment_id={experiment}"
            with urllib.request.urlopen(call) as answer:
                assert json.load(answer)["experiment"]["name"] == "aae"
            with socket.socket() as other:  # would connect if the server listened on all addresses
                assert other.connect_ex(("127.0.0.2", int(port))) != 0
            addresses.add(address)
    assert len(addresses) == 2


def test_the_ui_of_a_server_is_the_servers(server, repository):
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME")
    settings = {name: os.environ[name] for name in names}
    result = run(["aae", "ui"], repository, **settings)
    client = mlflow.MlflowClient(server.uri)
    experiment = client.get_experiment_by_name(settings["MLFLOW_EXPERIMENT_NAME"])
    page = f"#/experiments/{experiment.experiment_id}/runs?viewStateShareKey=match"
    assert result.stdout == f"open {server.uri}/{page}\n"
    view = json.loads(experiment.tags["mlflow.sharedViewState.match"])
    for stage, ratio in (("train_aae", 1.5), ("train_aae", 1.1), ("train_ae", 0.5)):
        found = client.create_run(experiment.experiment_id, tags={"stage": stage})
        client.log_metric(found.info.run_id, "match_ratio", ratio)
    order = f"{view['orderByKey']} {'ASC' if view['orderByAsc'] else 'DESC'}"
    shown = client.search_runs([experiment.experiment_id], view["searchFilter"], order_by=[order])
    assert [found.data.metrics["match_ratio"] for found in shown] == [1.1, 1.5]
