"""The OpenAPI document: fresh, valid, complete, and its examples are true."""

import json

import pytest
from openapi_spec_validator import validate
from web_stub import running_api

from api_spec.errors import all_errors
from api_spec.schemas import load_spec
from broker.web import openapi

DOCUMENT = openapi.document()
SPECS = ("hello", "training", "array", "inference")
OPERATIONS = [
    pytest.param(method, path, operation, id=operation["operationId"])
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method != "parameters"
]
PUBLIC = {"isAlive", "isReady", "readOpenApi", "readDocs", "readErrorDocs", "readDocsAsset"}
PUBLIC |= {"goToDocs", "goToDocsWithoutSlash"}


def test_the_committed_document_is_fresh():
    """``python -m broker.web.openapi`` writes it."""
    assert openapi.PATH.read_text() == openapi.as_text(DOCUMENT)


def test_the_document_is_valid():
    validate(DOCUMENT)


def test_every_route_is_described():
    with running_api() as api:
        routes = {
            (method.lower(), rule.rule.replace("<", "{").replace(">", "}"))
            for rule in api.app.url_map.iter_rules()
            for method in rule.methods - {"HEAD", "OPTIONS"}
        }

    assert {(method, path) for method, path, _ in (case.values for case in OPERATIONS)} == routes


def test_the_served_document_is_the_committed_one():
    with running_api() as api:
        assert api.app.test_client().get("/openapi.json").text == openapi.PATH.read_text()


def test_every_error_code_is_in_it():
    codes = DOCUMENT["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]

    assert set(codes) == {kind.code for kind in all_errors()}


def test_no_two_operations_share_a_name():
    names = [case.values[2]["operationId"] for case in OPERATIONS]

    assert len(set(names)) == len(names)


@pytest.mark.parametrize("method, path, operation", OPERATIONS)
def test_every_operation_says_what_a_client_needs(method, path, operation):
    assert operation["summary"] and operation["tags"]
    assert any(status[0] in "23" for status in operation["responses"])
    assert operation["responses"]["default"] == {"$ref": "#/components/responses/Problem"}
    is_public = operation["operationId"] in PUBLIC
    assert operation.get("security", DOCUMENT["security"]) == ([] if is_public else [{"token": []}])
    assert ("401" in operation["responses"]) != is_public


@pytest.mark.parametrize("method, path, operation", OPERATIONS)
def test_every_good_json_answer_has_an_example(method, path, operation):
    if not path.startswith("/v1"):
        return
    good = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
    contents = [
        answer["content"]["application/json"] for answer in good if "application/json" in answer["content"]
    ]

    assert all(content["examples"] for content in contents)


def test_the_kind_tells_the_specs_apart():
    """``enum`` narrows in generated clients; a default alone would not."""
    schemas = DOCUMENT["components"]["schemas"]

    assert set(schemas["JobSpec"]["discriminator"]["mapping"]) == {"training", "batch", "inference"}
    assert schemas["TrainingSpec"]["properties"]["kind"]["enum"] == ["training"]
    assert "kind" in schemas["TrainingSpec"]["required"]


def test_the_examples_of_specs_are_specs():
    folder = openapi.FOLDER / "examples"
    specs = [json.loads((folder / f"{name}.json").read_text()) for name in SPECS]
    specs += json.loads((folder / "bundle.json").read_text())["jobs"]

    assert [load_spec(spec).kind for spec in specs] == [spec["kind"] for spec in specs]


def test_every_example_is_used_and_fits_its_schema():
    """With the same resolver of references that the document's own readers use."""
    from jsonschema import Draft202012Validator

    used = set()
    for operation in (case.values[2] for case in OPERATIONS):
        for body in [operation.get("requestBody", {}), *operation["responses"].values()]:
            for content in body.get("content", {}).values():
                schema = {**content["schema"], "components": DOCUMENT["components"]}
                for name, example in content.get("examples", {}).items():
                    used.add(name)
                    Draft202012Validator(schema).validate(example["value"])

    assert used == {path.stem for path in (openapi.FOLDER / "examples").glob("*.json")}
