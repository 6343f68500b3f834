"""A policy is checked when it is loaded: all that is wrong with it, each with its line and column."""

from __future__ import annotations

import hashlib
import re

import pytest

from api_spec.errors import InvalidConfiguration
from broker.policy_files import policy_at, policy_from
from policies.loader import default_policy_text
from policies.rules import Deny, Require
from policies.variables import OF_THE_INVENTORY, OF_THE_MOMENT, VARIABLES

NOT_ONE_FORM = "3:5: a rule has exactly one of deny, require, prefer, set, warn; this one has "


def faults(text):
    with pytest.raises(InvalidConfiguration) as refused:
        policy_from(text, "site.yaml")
    assert str(refused.value).split("\n") == [fault.message for fault in refused.value.faults]
    return [fault.message for fault in refused.value.faults]


def of_a_rule(line):
    return faults(f"name: site\nrules:\n  - {line}\n")


def test_a_typo_in_an_expression_is_an_error_with_line_and_column():
    text = """\
name: site
rules:
  - name: multi-node-training
    when: >-
      job.kind == "training" &&
      (job.resources.nodes > 1 || job.resources.gpu >= 4)
    prefer: 10
"""

    assert faults(text) == [
        "site.yaml:6:48: undeclared reference to 'job.resources.gpu'; did you mean 'job.resources.gpus'?"
    ]


def test_the_line_of_an_error_is_that_of_the_file_not_of_the_expression():
    text = "name: site\nrules:\n- name: a\n  when: |\n    true &&\n\n      nobody\n  deny: x\n"

    assert faults(text) == ["site.yaml:7:7: undeclared reference to 'nobody'"]


def test_everything_that_is_wrong_is_told_at_once():
    text = """\
name: site
rulez: []
rules:
  - name: a
    when: job.resources.gpu > 3 && nobody
    deny: "{job.nmae} {job.name"
  - name: a
    wen: "true"
    prefer: job.kind
  - require: 1 > 0
  - just a text
"""

    assert faults(text) == [
        "site.yaml:2:1: unknown field 'rulez'; did you mean 'rules'?",
        "site.yaml:5:24: undeclared reference to 'job.resources.gpu'; did you mean 'job.resources.gpus'?",
        "site.yaml:5:36: undeclared reference to 'nobody'",
        "site.yaml:6:12: expected '}' before end of string; write {{ or }} for a brace itself",
        "site.yaml:8:5: unknown field 'wen'; did you mean 'when'?",
        "site.yaml:7:11: there is another rule with the name 'a'",
        "site.yaml:9:13: must be a number; this is string",
        "site.yaml:10:5: a rule needs a name",
        "site.yaml:10:5: 'require' needs a message: what is said where the condition does not hold",
        "site.yaml:11:5: a rule is a mapping",
    ]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("{name: a, when: job.resources.gpus, deny: x}", "3:21: must be a condition; this is int"),
        ("{name: a, when: 3, deny: x}", "3:21: must be an expression, as a text"),
        ("{name: a, when: dyn(1), deny: x}", "3:21: must be a condition; this is dyn"),
        ('{name: a, when: job.resources.gpus > "4", deny: x}', "3:40: found no matching overload for '_>_'"),
        ("{name: a, when: job.kind ==, deny: x}", "3:32: Syntax error: mismatched input '<EOF>'"),
        ("{name: a, when: '', deny: x}", "3:21: Syntax error"),
        ("{name: a}", NOT_ONE_FORM + "none"),
        ("{name: a, deny: x, warn: y}", NOT_ONE_FORM + "deny, warn"),
        ("{name: a, deny: x, message: y}", "3:33: 'deny' takes no message"),
        ("{name: a, deny: ' '}", "3:21: must be a sentence"),
        ("{name: a, deny: '{user.ownr}'}",
         "3:22: undeclared reference to 'user.ownr'; did you mean 'user.owner'"),
        ("{name: a, deny: '{user.owner!r}'}", "3:22: '{user.owner...}' holds more than a name"),
        ("{name: a, warn: '{}'}", "3:22: undeclared reference to ''"),
        ("{name: a, prefer: x}", "3:23: undeclared reference to 'x'"),
        ("{name: a, prefer: true}", "3:23: must be a number; this is bool"),
        ("{name: a, prefer: 1, message: 3}", "3:35: must be a sentence"),
        ("{name: a, set: []}", "3:20: 'set' is a mapping of options"),
        ("{name: a, set: {x: '{y}'}}", "3:25: undeclared reference to 'y'"),
        ("{name: 3, deny: x}", "3:12: a rule needs a name"),
        ("{name: a, kind: x, deny: x}", "3:15: unknown field 'kind'; known are name, when, deny"),
        (f"{{name: a, when: '{'1 + ' * 2000}1 > 0', deny: x}}", "3:22: longer than 4096 characters"),
    ],
)  # fmt: skip
def test_a_rule_that_is_wrong_is_refused_with_its_position(rule, message):
    (fault,) = of_a_rule(rule)

    assert fault.startswith(f"site.yaml:{message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "site.yaml:1:1: a policy is a mapping with 'name' and 'rules'"),
        ("rules: []", "site.yaml:1:1: a policy needs a name"),
        ("name: a", "site.yaml:1:1: 'rules' must be a list"),
        ("name: a\nrules: {}", "site.yaml:2:8: 'rules' must be a list"),
        ("name: a\nrules: [" + "{}, " * 501 + "]", "site.yaml:2:8: 501 rules; 500 at most"),
    ],
    ids=range(5),
)
def test_a_policy_of_another_form_is_refused(text, message):
    assert faults(text) == [message]


@pytest.mark.parametrize("text", ["", "name: a\nrules: []\n---\nname: b\nrules: []"])
def test_a_policy_file_holds_one_document(text):
    with pytest.raises(InvalidConfiguration, match="holds one document"):
        policy_from(text, "site.yaml")


def test_a_file_that_is_not_yaml_is_a_wrong_configuration():
    with pytest.raises(InvalidConfiguration, match=r"site.yaml:1:9: "):
        policy_from("name: [a", "site.yaml")


def test_a_file_that_cannot_be_read_is_a_wrong_configuration(tmp_path):
    with pytest.raises(InvalidConfiguration, match="cannot be read"):
        policy_at(tmp_path / "nowhere.yaml")


def test_a_policy_is_known_by_the_digest_of_its_text(tmp_path):
    text = "name: site\nrules: []\n"
    path = tmp_path / "site.yaml"
    path.write_text(text)

    policy = policy_at(path)

    assert policy.digest == hashlib.sha256(text.encode()).hexdigest()
    assert policy == policy_from(text, str(path))
    assert policy.digest != policy_from(text + "# changed\n", str(path)).digest


@pytest.mark.parametrize(
    ("condition", "inventory", "moment"),
    [
        ("job.resources.gpus > 4", False, False),
        ("backend.gpus > 4", True, False),
        ("backend.free_gpus > 4", False, True),
        ("backend . queued > 4 && backend.nodes > 3", True, True),
        ('"backend.queued" == job.name', False, False),
    ],
)
def test_a_rule_knows_what_it_rests_on(condition, inventory, moment):
    text = f"name: site\nrules:\n- name: r\n  when: |\n    {condition}\n  deny: x\n"

    (rule,) = policy_from(text, "site.yaml").hard

    assert (rule.rests_on_the_inventory, rule.rests_on_the_moment) == (inventory, moment)


def test_the_words_of_a_required_condition_count_as_those_of_when():
    text = "name: site\nrules:\n- {name: r, require: backend.queued < 9, message: x}\n"

    assert policy_from(text, "site.yaml").hard[0].rests_on_the_moment


def test_hard_rules_keep_the_order_of_the_file():
    text = """
name: site
rules:
  - {name: a, deny: x}
  - {name: b, require: "true", message: x}
  - {name: c, prefer: 1}
  - {name: d, deny: x}
"""

    policy = policy_from(text, "site.yaml")

    assert [(type(rule), rule.name) for rule in policy.hard] == [(Deny, "a"), (Require, "b"), (Deny, "d")]


def test_the_default_policy_loads_and_is_short_enough_to_read():
    text = default_policy_text()

    assert policy_at(None).name == "default"
    assert len(text.splitlines()) <= 60


def test_the_marks_of_variables_name_variables():
    assert set(VARIABLES) >= OF_THE_INVENTORY | OF_THE_MOMENT
    assert not OF_THE_INVENTORY & OF_THE_MOMENT
    of_the_configuration = {"backend.name", "backend.type", "backend.capabilities"}
    of_backends = {name for name in VARIABLES if re.match(r"backend\.", name)}
    assert of_backends == OF_THE_INVENTORY | OF_THE_MOMENT | of_the_configuration
