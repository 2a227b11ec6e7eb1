"""GitHub's workflow, which no test can run: its schema, and what it may do."""

import re
import subprocess
import sys

from conftest import ROOT
from ruamel.yaml import YAML

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
        # What somebody types into a pull request must not become a part of a script.
        assert "${{" not in "".join(step.get("run", "") for step in STEPS[name])


def test_code_of_a_pull_request_never_holds_a_token():
    for name in ("check", "long", "regression"):
        (checkout,) = (step for step in STEPS[name] if "checkout" in step.get("uses", ""))
        assert checkout["with"] == {"fetch-depth": 0, "persist-credentials": False}
        assert "token" not in str(STEPS[name])


def test_the_comment_is_found_by_its_first_line():
    assert "startswith(env.MARKER)" in STEPS["comment"][1]["run"]
    assert "head -n 1" in STEPS["comment"][1]["run"]
    assert "--markdown metrics/comment.md" in str(STEPS["regression"])
