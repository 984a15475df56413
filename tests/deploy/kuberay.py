"""The fields of KubeRay's resources (ray.io/v1, KubeRay 1.5.1 and newer) that our manifests use.

Names, types, required fields and allowed values are facts of KubeRay's API reference; whatever is not here is
refused, so that a misspelt field is. Pods are Kubernetes' own, and looked at only where Ray reads them.
"""

from typing import Any, Final

Schema = dict[str, Any]


def record(required: dict[str, Schema], **optional: Schema) -> Schema:
    return {
        "type": "object",
        "required": list(required),
        "properties": required | optional,
        "additionalProperties": False,
    }


STRING: Final[Schema] = {"type": "string", "minLength": 1}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
BOOLEAN: Final[Schema] = {"type": "boolean"}
OBJECT: Final[Schema] = {"type": "object"}
STRINGS: Final[Schema] = {"type": "object", "additionalProperties": {"type": "string"}}
VARIABLE: Final[Schema] = record({"name": STRING, "value": {"type": "string"}})
CONTAINER: Final[Schema] = {
    "type": "object",
    "required": ["name", "image", "resources", "securityContext"],
    "properties": {
        "name": STRING,
        "image": STRING,
        "env": {"type": "array", "items": VARIABLE},
        "resources": record({"requests": STRINGS, "limits": STRINGS}),
    },
}
POD: Final[Schema] = record(
    {
        "metadata": record({"labels": STRINGS}),
        "spec": {
            "type": "object",
            "required": ["containers", "securityContext"],
            "properties": {"containers": {"type": "array", "items": CONTAINER, "minItems": 1}},
        },
    }
)
CLUSTER_SPEC: Final[Schema] = record(
    {
        "headGroupSpec": record(
            {"rayStartParams": STRINGS, "template": POD},
            serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
        ),
        "rayVersion": STRING,  # required with token authentication
    },
    authOptions=record({"mode": {"enum": ["token", "disabled"]}}),
    enableInTreeAutoscaling=BOOLEAN,
    autoscalerOptions=record(
        {},
        version={"enum": ["v1", "v2"]},
        idleTimeoutSeconds=COUNT,
        resources=OBJECT,
        securityContext=OBJECT,
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
    ),
    workerGroupSpecs={
        "type": "array",
        "items": record(
            {
                "groupName": STRING,
                "minReplicas": COUNT,
                "maxReplicas": COUNT,
                "rayStartParams": STRINGS,
                "template": POD,
            },
            replicas=COUNT,
        ),
    },
)
JOB_SPEC: Final[Schema] = record(
    {"entrypoint": STRING, "rayClusterSpec": CLUSTER_SPEC},
    backoffLimit=COUNT,
    shutdownAfterJobFinishes=BOOLEAN,
    ttlSecondsAfterFinished=COUNT,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    submitterPodTemplate=POD,
)


def resource(kind: str, spec: Schema) -> Schema:
    return record(
        {
            "apiVersion": {"const": "ray.io/v1"},
            "kind": {"const": kind},
            "metadata": record({"name": STRING}),
            "spec": spec,
        }
    )


SCHEMAS: Final = {
    "raycluster.yaml": resource("RayCluster", CLUSTER_SPEC),
    "rayjob.yaml": resource("RayJob", JOB_SPEC),
}
