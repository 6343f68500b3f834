"""A job specification of any kind, with ``kind`` as the discriminator that generated clients narrow on.

Server only: needs marshmallow-oneofschema, which the OpenAPI plug-in looks for.  ``load_spec`` does without.
"""

from __future__ import annotations

from typing import Any

from marshmallow_oneofschema.one_of_schema import OneOfSchema

from api_spec.jobs import JobSpec
from api_spec.schemas.canonical import dump_spec
from api_spec.schemas.job import BY_KIND


class JobSpecSchema(OneOfSchema):
    type_field = "kind"
    type_field_remove = False
    type_schemas = BY_KIND

    def _dump(self, obj: JobSpec, **_: Any) -> dict[str, Any]:
        return dump_spec(obj)
