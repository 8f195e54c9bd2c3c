# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""When an object is ready, what it still lacks, and what more waiting will not mend.

The rules are those of kstatus, with which other deployment tools wait too, and beyond them the reasons for which pods
and volumes can't come up: https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.applyset import ApplySet
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.bundle import Bundle, members
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.kinds import Ref
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.pods import current_pods, is_ready, owned_by
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import Session, ignore
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import Deadline, Kind, wait_until
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import WaitError

Json = dict[str, Any]
Objects = dict[Ref, Json]

# These are what they are as soon as they exist.
_READY_AT_ONCE = frozenset(
    {
        "ClusterRole",
        "ClusterRoleBinding",
        "ConfigMap",
        "IngressClass",
        "LimitRange",
        "NetworkPolicy",
        "PriorityClass",
        "ResourceQuota",
        "Role",
        "RoleBinding",
        "Secret",
        "ServiceAccount",
        "StorageClass",
    }
)
_AUTOSCALER_SECONDS = 20.0
# Until then there may be no metrics of new pods yet.
_METRICS_SECONDS = 60.0
# Of more than these, a message says how many are in which state.
_PODS_TOLD = 8
_WORKLOADS = frozenset({"DaemonSet", "Deployment", "Job", "StatefulSet"})
# Waiting reasons of a container that more waiting does not mend. CrashLoopBackOff comes after two crashes or more.
_CRASHED = "CrashLoopBackOff"
_HOPELESS_WAITING = frozenset(
    {
        _CRASHED,
        "CreateContainerConfigError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
    }
)


def wait_ready(
    session: Session, bundle: Bundle, deadline: Deadline, progress: Callable[[str], None] = ignore
) -> Objects:
    """Wait until every object of a bundle that was applied is ready.

    :returns: the objects that were watched, with the pods and ReplicaSets of the workloads among them.
    :raises WaitError: when one can't become ready, with the reason and the last event; or at the deadline.
    """
    label = ApplySet(bundle.name, bundle.namespace).member_labels
    awaited = [manifest for manifest in members(bundle, session.resource) if manifest["kind"] not in _READY_AT_ONCE]
    return _wait(session, awaited, [label] * len(awaited), deadline, progress)


def wait_live(
    session: Session,
    objects: Iterable[Json],
    deadline: Deadline,
    progress: Callable[[str], None] = ignore,
    lacks: Callable[[Objects], str] = lambda objects: "",
) -> Objects:
    """Wait until objects that were read from the cluster are ready, as :func:`wait_ready` does.

    :param lacks: what has to come first, as the judge of :func:`wait_until` says it.
    """
    awaited = list(objects)
    labels = [manifest["metadata"].get("labels") or {} for manifest in awaited]
    return _wait(session, awaited, labels, deadline, progress, lacks)


def _wait(
    session: Session,
    awaited: list[Json],
    labels: list[dict[str, str]],
    deadline: Deadline,
    progress: Callable[[str], None],
    lacks: Callable[[Objects], str] = lambda objects: "",
) -> Objects:
    """Wait for objects.

    :param labels: by which each of them is found.
    """
    refs = [Ref.of(manifest) for manifest in awaited]

    def judge(objects: Objects) -> str:
        missing = [f"{ref}: {text}" for ref in refs if (text := not_ready(session, ref, objects))]
        words = "; ".join(missing[:3]) + (f"; and {len(missing) - 3} more" if len(missing) > 3 else "")
        return words or lacks(objects)

    kinds = _distinct(kind for pair in zip(awaited, labels, strict=True) for kind in _kinds(*pair))
    return wait_until(session, kinds, judge, deadline, progress) if awaited else {}


def wait_gone(
    session: Session,
    refs: Iterable[Ref],
    labels: Mapping[str, str],
    deadline: Deadline,
    progress: Callable[[str], None] = ignore,
) -> None:
    """Wait until objects that were deleted are gone, pods' owners with their pods.

    :param labels: by which all of them can be found.
    :raises WaitError: at the deadline, with what holds the first of them.
    """
    refs = list(refs)

    def judge(objects: Objects) -> str:
        left = [ref for ref in refs if ref in objects]
        return f"{left[0]} is still there: {_held(objects[left[0]])}" if left else ""

    kinds = _distinct(Kind(ref.api_version, ref.kind, ref.namespace, labels) for ref in refs)
    if kinds:
        wait_until(session, kinds, judge, deadline, progress)


def _held(live: Json) -> str:
    """Say what holds an object that is being deleted: of a namespace, the server tells."""
    words = [entry["message"] for entry in _conditions(live).values() if entry["status"] == "True"]
    if live["kind"] == "Namespace":
        return " ".join(words) or "it is being emptied"
    finalizers = live["metadata"].get("finalizers")
    return f"its finalizers are {', '.join(finalizers)}" if finalizers else "it is being deleted"


def _distinct(kinds: Iterable[Kind]) -> list[Kind]:
    found: list[Kind] = []
    for kind in kinds:
        if kind not in found:
            found.append(kind)
    return found


def _kinds(manifest: Json, label: dict[str, str]) -> list[Kind]:
    """Give what has to be watched to judge an object."""
    ref = Ref.of(manifest)
    kinds = [Kind(ref.api_version, ref.kind, ref.namespace, label)]
    if ref.kind in _WORKLOADS:
        pods = _pod_labels(manifest)
        kinds.append(Kind("v1", "Pod", ref.namespace, pods))
        if ref.kind == "Deployment":
            kinds.append(Kind("apps/v1", "ReplicaSet", ref.namespace, pods))
    if ref.kind in _WORKLOADS or ref.kind == "PersistentVolumeClaim":
        kinds.append(Kind("v1", "Event", ref.namespace, {}, optional=True))
    return kinds


def _pod_labels(workload: Json) -> dict[str, str]:
    if workload["kind"] == "Job":
        return {"batch.kubernetes.io/job-name": workload["metadata"]["name"]}
    labels: dict[str, str] = workload["spec"].get("selector", {}).get("matchLabels") or {}
    return labels


def not_ready(session: Session, ref: Ref, objects: Objects) -> str:
    """Say what an object still lacks; ``""`` when it is ready.

    :param objects: the object, and around it what :func:`wait_ready` watches.
    :raises WaitError: when waiting longer is of no use.
    """
    live = objects.get(ref)
    if live is None:
        return "does not exist yet"
    if live["metadata"].get("deletionTimestamp"):
        return "is being deleted"
    status = live.get("status") or {}
    if status.get("observedGeneration", 0) < live["metadata"].get("generation", 0) and "observedGeneration" in status:
        return "its controller has not seen the last change"
    judge = _JUDGES.get(ref.group_kind)
    return judge(session, live, objects) if judge else _by_conditions(session, live)


def _by_conditions(session: Session, live: Json) -> str:
    """Judge a kind that nothing more is known of, by the conditions that most controllers write."""
    conditions = _conditions(live)
    for name, bad in (("Stalled", "True"), ("Reconciling", "True"), ("Ready", "False"), ("Ready", "Unknown")):
        entry = conditions.get(name, {})
        if entry.get("status") == bad:
            words = _words(entry)
            if name == "Stalled":
                raise _hopeless(session, live, [], words)
            return f"is not ready: {words}"
    return ""


def rollout_missing(session: Session, deployment: Json, objects: Objects) -> str:
    """Judge a Deployment's rollout: ``""`` when every replica runs the present template and is available."""
    status, wanted = deployment.get("status", {}), deployment["spec"].get("replicas", 1)
    if deployment["spec"].get("paused"):
        return ""
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return "the rollout has not begun"
    conditions = _conditions(deployment)
    # A quota or an admission webhook that refuses the pods shows here alone, since no pod exists.
    if conditions.get("ReplicaFailure", {}).get("status") == "True":
        raise _hopeless(session, deployment, objects.values(), conditions["ReplicaFailure"]["message"])
    pods = current_pods(deployment, objects.values())
    for pod in pods:
        require_startable(session, pod, objects.values())
    if conditions.get("Progressing", {}).get("reason") == "ProgressDeadlineExceeded":
        raise _hopeless(session, deployment, objects.values(), _words(conditions["Progressing"]))
    updated = status.get("updatedReplicas", 0)
    # The Deployment and its pods are watched apart, so either may be ahead of the other.
    available = min(status.get("availableReplicas", 0), sum(map(is_ready, pods)))
    if updated < wanted or available < wanted or status.get("replicas", 0) > updated:
        return f"{updated} of {wanted} replicas updated, {available} available; {_pods_in_words(pods)}"
    return ""


def _stateful_set(session: Session, live: Json, objects: Objects) -> str:
    spec, status, wanted = live["spec"], live.get("status", {}), live["spec"].get("replicas", 1)
    if status.get("observedGeneration", 0) < live["metadata"]["generation"]:
        return "the rollout has not begun"
    pods = _startable_pods(session, live, objects)
    strategy = spec.get("updateStrategy", {})
    partition = strategy.get("rollingUpdate", {}).get("partition", 0)
    updated, ready = status.get("updatedReplicas", 0), status.get("readyReplicas", 0)
    to_update = 0 if strategy.get("type") == "OnDelete" else max(0, wanted - partition)
    if to_update == wanted:  # the set and its pods are watched apart, so either may be ahead of the other
        ready = min(ready, sum(map(is_ready, pods)))
    if ready < wanted or updated < to_update or status.get("replicas", 0) > wanted:
        return f"{updated} of {to_update} replicas updated, {ready} of {wanted} ready; {_pods_in_words(pods)}"
    return ""


def _daemon_set(session: Session, live: Json, objects: Objects) -> str:
    status = live.get("status", {})
    if status.get("observedGeneration", 0) < live["metadata"]["generation"]:
        return "the rollout has not begun"
    pods = _startable_pods(session, live, objects)
    wanted, available = status.get("desiredNumberScheduled", 0), status.get("numberAvailable", 0)
    on_delete = live["spec"].get("updateStrategy", {}).get("type") == "OnDelete"
    updated = wanted if on_delete else status.get("updatedNumberScheduled", 0)
    if updated < wanted or available < wanted:
        return f"{updated} of {wanted} pods updated, {available} available; {_pods_in_words(pods)}"
    return ""


def _job(session: Session, live: Json, objects: Objects) -> str:
    conditions = _conditions(live)
    if conditions.get("Failed", {}).get("status") == "True":
        raise _hopeless(session, live, objects.values(), _words(conditions["Failed"]))
    if conditions.get("Complete", {}).get("status") == "True" or live["spec"].get("suspend"):
        return ""
    pods = _startable_pods(session, live, objects, crashes=True)  # which a Job counts itself
    return f"has not ended; {_pods_in_words(pods)}"


def _pod(session: Session, live: Json, objects: Objects) -> str:
    phase = live.get("status", {}).get("phase", "Pending")
    if phase == "Failed":
        raise _hopeless(session, live, objects.values(), live["status"].get("message") or "it has failed")
    require_startable(session, live, objects.values())
    return "" if phase == "Succeeded" or is_ready(live) else f"is {phase}, not ready"


def _claim(session: Session, live: Json, objects: Objects) -> str:
    """Judge a volume claim; one whose class waits for the first pod needs no more until there is one."""
    phase = live.get("status", {}).get("phase", "Pending")
    if phase == "Bound":
        return ""
    events = _events_of(live, objects.values())
    reason = events[-1].get("reason") if events else ""
    if reason == "WaitForFirstConsumer":
        return ""
    # Once may be an accident, which the provisioner's next try mends.
    if phase == "Lost" or (reason in ("FailedBinding", "ProvisioningFailed") and events[-1].get("count", 1) > 1):
        raise _hopeless(session, live, objects.values(), f"it is {phase}")
    return f"is {phase}, not bound" + (f": {events[-1].get('message')}" if events else "")


def _autoscaler(session: Session, live: Json, objects: Objects) -> str:
    """Judge an autoscaler, which brings a new Deployment up to its least number of pods by itself."""
    status, least = live.get("status") or {}, live["spec"].get("minReplicas", 1)
    wanted = max(status.get("currentReplicas", 0), status.get("desiredReplicas", 0))
    if wanted >= least:
        return ""
    fault = _scaling_fault(live)
    return f"wants {wanted} pods of {least} at least" + (f": {_words(fault)}" if fault else "")


def scaling_fault(autoscaler: Json) -> str:
    """Say why an autoscaler does not scale, in its controller's words; ``""`` when it does, or may soon."""
    fault = _scaling_fault(autoscaler)
    return _words(fault).rstrip(".") if fault and _has_stood(fault, _METRICS_SECONDS) else ""


def _scaling_fault(autoscaler: Json) -> Json | None:
    conditions = _conditions(autoscaler)
    found = (conditions.get(name) for name in ("AbleToScale", "ScalingActive"))
    return next((entry for entry in found if entry and entry["status"] == "False"), None)


def _definition(session: Session, live: Json, objects: Objects) -> str:
    conditions = _conditions(live)
    if conditions.get("NamesAccepted", {}).get("status") == "False":
        raise _hopeless(session, live, [], _words(conditions["NamesAccepted"]))
    return "" if conditions.get("Established", {}).get("status") == "True" else "is not established"


def _namespace(session: Session, live: Json, objects: Objects) -> str:
    phase = live.get("status", {}).get("phase", "Active")
    return "" if phase == "Active" else f"is {phase}"


def _service(session: Session, live: Json, objects: Objects) -> str:
    addresses = live.get("status", {}).get("loadBalancer", {}).get("ingress")
    return "has no address yet" if live["spec"].get("type") == "LoadBalancer" and not addresses else ""


_JUDGES: dict[str, Callable[[Session, Json, Objects], str]] = {
    "CustomResourceDefinition.apiextensions.k8s.io": _definition,
    "DaemonSet.apps": _daemon_set,
    "Deployment.apps": rollout_missing,
    "HorizontalPodAutoscaler.autoscaling": _autoscaler,
    "Job.batch": _job,
    "Namespace": _namespace,
    "PersistentVolumeClaim": _claim,
    "Pod": _pod,
    "Service": _service,
    "StatefulSet.apps": _stateful_set,
}


def require_startable(session: Session, pod: Json, objects: Iterable[Json] = (), *, crashes: bool = False) -> None:
    """Stop waiting for a pod that can't start, by its containers' states or the scheduler's verdict.

    :param objects: where the pod's events are; they are asked for where there are none.
    :param crashes: the pod may crash, and be started anew.
    :raises WaitError: with the reason and the latest event.
    """
    status = pod.get("status", {})
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        waiting = container.get("state", {}).get("waiting") or {}
        reason = waiting.get("reason")
        if reason in _HOPELESS_WAITING and not (crashes and reason == _CRASHED):
            died = (container.get("lastState", {}).get("terminated") or {}).get("message", "")
            raise _hopeless(session, pod, objects, f"{reason}: {died or waiting.get('message', '')}")
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
            # A claim that is not bound yet may be soon, and a pod that is about to leave may free the room.
            message = condition.get("message", "")
            final = "not found" in message or "Insufficient" in message or "didn't match" in message
            if final and _has_stood(condition, _AUTOSCALER_SECONDS) and not _room_is_made(pod, objects):
                raise _hopeless(session, pod, objects, f"Unschedulable: {message}")


def _has_stood(condition: Json, seconds: float) -> bool:
    """Tell whether a condition is older than what its controller takes to react."""
    since = condition.get("lastTransitionTime")
    if since is None:
        return True
    age = datetime.now(UTC) - datetime.fromisoformat(since.replace("Z", "+00:00"))
    return age.total_seconds() > seconds


def _room_is_made(pod: Json, objects: Iterable[Json]) -> bool:
    """Tell whether an autoscaler of nodes (Cluster Autoscaler, Karpenter) has said that it brings one for the pod."""
    return any(event.get("reason") in ("TriggeredScaleUp", "Nominated") for event in _events_of(pod, objects))


def _startable_pods(session: Session, owner: Json, objects: Objects, *, crashes: bool = False) -> list[Json]:
    """Give the pods of an owner, and stop waiting when one can't start, or none can be made."""
    events = _events_of(owner, objects.values())
    if events and events[-1].get("reason") == "FailedCreate":  # by a quota or an admission webhook; only this tells
        raise _hopeless(session, owner, objects.values(), "its pods are refused")
    pods = owned_by(owner, objects.values())
    for pod in pods:
        require_startable(session, pod, objects.values(), crashes=crashes)
    return pods


def _events_of(manifest: Json, objects: Iterable[Json]) -> list[Json]:
    """Give the events of an object, the latest last."""
    metadata = manifest["metadata"]
    events = [
        entry
        for entry in objects
        if entry["kind"] == "Event"
        and entry.get("involvedObject", {}).get("name") == metadata["name"]
        and entry["involvedObject"].get("uid") in (metadata.get("uid"), None)
    ]
    return sorted(events, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))


def _hopeless(session: Session, live: Json, objects: Iterable[Json], reason: str) -> WaitError:
    ref = Ref.of(live)
    events = [event for event in _events_of(live, objects) if event.get("type") == "Warning"]
    if not events and ref.namespace:
        found = session.find("v1", "Event", ref.namespace)
        events = [event for event in _events_of(live, found) if event.get("type") == "Warning"]
    last = f" Last event: {events[-1].get('reason')}: {str(events[-1].get('message')).rstrip('.')}." if events else ""
    return WaitError(
        f"cluster {session.name}: {ref} can't get ready: {reason.strip().rstrip('.: ')}.{last}",
        hint="What served before still does; correct the cause and run again.",
    )


def _conditions(live: Json) -> dict[str, Json]:
    return {entry["type"]: entry for entry in live.get("status", {}).get("conditions") or []}


def _words(condition: Json) -> str:
    return f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ")


def _pods_in_words(pods: list[Json]) -> str:
    states = {pod["metadata"]["name"]: _state(pod) for pod in pods}
    if len(states) > _PODS_TOLD:
        return ", ".join(f"{count} {state}" for state, count in sorted(Counter(states.values()).items()))
    return ", ".join(f"{name} {state}" for name, state in sorted(states.items())) or "no pods yet"


def _state(pod: Json) -> str:
    state: str = pod.get("status", {}).get("phase", "Pending")
    for container in pod.get("status", {}).get("containerStatuses", []):
        running = "ready" if container.get("ready") else "not ready"
        waiting = container.get("state", {}).get("waiting")
        state = waiting.get("reason", state) if waiting else running
    return state
