"""GitHub's workflow, which no test can run: its schema and its permissions."""

import os
import re
import subprocess
import sys

import pytest
from ruamel.yaml import YAML
from support import ROOT

FILE = ROOT / ".github" / "workflows" / "ci.yml"
WORKFLOW = YAML(typ="safe").load(FILE)
STEPS = {name: job["steps"] for name, job in WORKFLOW["jobs"].items()}


def test_it_is_a_workflow_by_githubs_schema():
    check = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.github-workflows",
    ]
    result = subprocess.run([*check, str(FILE)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_every_action_is_pinned_to_a_commit():
    used = [step["uses"] for steps in STEPS.values() for step in steps if "uses" in step]
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)


def test_expressions_name_contexts_and_jobs_that_are_there():
    expressions = re.findall(r"\$\{\{ (.*?) \}\}", FILE.read_text())
    expressions += [job["if"] for job in WORKFLOW["jobs"].values() if "if" in job]
    names = {name for text in expressions for name in re.findall(r"\b([a-z]+)\.[\w.]+", text)}
    assert names <= {"github", "vars", "needs"}
    for name, job in WORKFLOW["jobs"].items():
        needed = set(re.findall(r"needs\.(\w+)\.", job.get("if", "")))
        assert needed <= {job.get("needs")}, name


def test_what_may_write_runs_no_code_of_the_pull_request():
    assert WORKFLOW["permissions"] == {"contents": "read"}
    for name, job in WORKFLOW["jobs"].items():
        if "permissions" in job:
            assert name == "comment"
            assert job["permissions"] == {"pull-requests": "write"}
            assert not [step for step in STEPS[name] if "checkout" in step.get("uses", "")]
        # Text that somebody types into a pull request must not become a part of a script.
        assert "${{" not in "".join(step.get("run", "") for step in STEPS[name])


def test_code_of_a_pull_request_never_holds_a_token():
    for name in ("check", "long", "regression"):
        (checkout,) = (step for step in STEPS[name] if "checkout" in step.get("uses", ""))
        assert checkout["with"] == {"fetch-depth": 0, "persist-credentials": False}
        assert "token" not in str(STEPS[name])


# Stands for GitHub's program `gh`: it logs its arguments and returns the known comments.
GH = """#!/bin/sh
printf '%s\\n' "marker $MARKER" "$*" >> asked
test "$2" = --method || printf '%s' "$KNOWN"
"""


@pytest.mark.parametrize(
    ("known", "expected"),
    [("", "--method POST comments"), ("7\n9\n", "--method PATCH one/7")],
    ids=["none is there", "two are there"],
)
def test_a_comment_is_posted_once_and_then_updated(tmp_path, known, expected):
    gh, comment = tmp_path / "gh", tmp_path / "comment.md"
    gh.write_text(GH)
    gh.chmod(0o755)
    comment.write_text("<!-- the gate -->\nworse\n")
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "KNOWN": known, "COMMENTS": "comments",
        "ONE": "one",
    }  # fmt: skip
    script = STEPS["comment"][1]["run"]
    subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env=environment, check=True)
    listed, listing, _, written = (tmp_path / "asked").read_text().splitlines()
    assert listed == "marker <!-- the gate -->"
    assert listing.startswith("api --paginate comments")
    assert "startswith(env.MARKER)" in listing
    assert written == f"api {expected} --field body=@comment.md"


def test_the_comment_is_what_the_gate_has_written():
    assert "--markdown metrics/comment.md" in str(STEPS["regression"])
