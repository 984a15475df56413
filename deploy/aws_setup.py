#!/usr/bin/env python3
"""Make once what cluster.yaml names in an AWS account: two roles for machines, and a security group.

    python deploy/aws_setup.py cluster.yaml

Ray would make these itself, but wider: a head that may do anything with EC2 and every bucket, workers that
reach no bucket at all, and ssh from everywhere. Run it again after editing the file: it brings all three to
what the file says, and says what it did.
"""

import argparse
import ipaddress
import json
import sys
from contextlib import suppress
from typing import Any, Final

import boto3
import yaml
from botocore.exceptions import BotoCoreError, ClientError

HEAD: Final = "ftcl-study-head"
WORKER: Final = "ftcl-study-worker"
GROUP: Final = "ftcl-study"
_TRUST: Final = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}


class SetupError(Exception):
    """The file does not say what is needed."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cluster", help="the cluster file, such as cluster.yaml")
    path = parser.parse_args().cluster
    try:
        with open(path) as file:
            wanted = read_wanted(yaml.safe_load(file), path)
        for line in set_up(**wanted):
            print(line)
    except (OSError, yaml.YAMLError, SetupError, BotoCoreError, ClientError) as error:
        print(f"aws_setup: {error}", file=sys.stderr)
        return 2
    return 0


def read_wanted(config: dict[str, Any], path: str) -> dict[str, str]:
    """Return region, bucket and the addresses that may use ssh. Raises SetupError for what is not edited."""
    wanted = {name: str(config.get("metadata", {}).get(name)) for name in ("region", "bucket", "ssh_from")}
    for name, value in wanted.items():
        if value in ("CHANGE-ME", "None"):
            raise SetupError(f"{path}: set metadata: {name}, which is still {value}")
    try:
        wanted["ssh_from"] = str(ipaddress.ip_network(wanted["ssh_from"]))
    except ValueError as error:
        raise SetupError(f"{path}: metadata: ssh_from: {error}; write an address/32 or a network") from error
    return wanted


def set_up(region: str, bucket: str, ssh_from: str) -> list[str]:
    """Bring roles and group to what is wanted, and return what was done, in lines."""
    try:
        boto3.client("s3", region_name=region).head_bucket(Bucket=bucket)
    except ClientError as error:
        raise SetupError(f"you cannot use the bucket {bucket} ({error}); aws s3 mb makes one") from error
    iam = boto3.client("iam", region_name=region)
    worker_role = make_role(iam, WORKER, [use_bucket(bucket)])
    make_role(iam, HEAD, [use_bucket(bucket), *launch_machines(worker_role)])
    # The account has used spot before.
    with suppress(iam.exceptions.InvalidInputException, iam.exceptions.EntityAlreadyExistsException):
        iam.create_service_linked_role(AWSServiceName="spot.amazonaws.com")
    ec2 = boto3.client("ec2", region_name=region)
    group = make_group(ec2, ssh_from)
    return [
        f"roles {HEAD} (starts and ends machines) and {WORKER}; both read and write s3://{bucket}",
        f"security group {GROUP} ({group}, {region}): ssh from {ssh_from}, all from itself, nothing else",
        "New roles can be used after a quarter of a minute.",
    ]


def use_bucket(bucket: str) -> dict[str, Any]:
    arn = f"arn:aws:s3:::{bucket}"
    actions = ["ListBucket", "GetBucketLocation", "GetObject", "PutObject", "DeleteObject"]
    actions += ["AbortMultipartUpload", "ListMultipartUploadParts"]
    return allow([f"s3:{action}" for action in actions], [arn, f"{arn}/*"])


def launch_machines(worker_role: str) -> list[dict[str, Any]]:
    """Return what the autoscaler on the head needs. Only machines of Ray clusters can it tag or end."""
    ours = {"Null": {"aws:ResourceTag/ray-cluster-name": "false"}}
    at_launch = {"StringEquals": {"ec2:CreateAction": "RunInstances"}}
    return [
        allow(["ec2:Describe*", "ec2:RunInstances"], ["*"]),
        allow(["ec2:CreateTags"], ["*"]) | {"Condition": at_launch},
        allow(["ec2:CreateTags", "ec2:TerminateInstances"], ["*"]) | {"Condition": ours},
        allow(["ssm:GetParameters"], ["arn:aws:ssm:*::parameter/aws/service/*"]),  # the newest machine images
        allow(["iam:PassRole"], [worker_role]),
    ]


def allow(actions: list[str], resources: list[str]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": resources}


def make_role(iam: Any, name: str, statements: list[dict[str, Any]]) -> str:
    """Make a role and its instance profile, of one name, with these permissions. Returns the role's ARN."""
    with suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(_TRUST))
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iam.put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=document)
    with suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_instance_profile(InstanceProfileName=name)
    if not iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Roles"]:
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    return str(iam.get_role(RoleName=name)["Role"]["Arn"])


def make_group(ec2: Any, ssh_from: str) -> str:
    """Make the security group in the default VPC, or set its rules anew. Returns its id."""
    vpcs = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not vpcs:
        raise SetupError("the region has no default VPC; make one: aws ec2 create-default-vpc")
    vpc = vpcs[0]["VpcId"]
    filters = [{"Name": "group-name", "Values": [GROUP]}, {"Name": "vpc-id", "Values": [vpc]}]
    if found := ec2.describe_security_groups(Filters=filters)["SecurityGroups"]:
        group, rules = found[0]["GroupId"], found[0]["IpPermissions"]
    else:
        made = ec2.create_security_group(GroupName=GROUP, VpcId=vpc, Description="Ray cluster of ftcl-study")
        group, rules = made["GroupId"], []
    if rules:
        ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=rules)
    addresses = {"IpRanges": [{"CidrIp": ssh_from}]}
    if ":" in ssh_from:
        addresses = {"Ipv6Ranges": [{"CidrIpv6": ssh_from}]}
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, **addresses}
    inside = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[ssh, inside])
    return str(group)


if __name__ == "__main__":
    sys.exit(main())
