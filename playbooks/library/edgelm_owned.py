#!/usr/bin/python
"""Things in an OpenStack project that carry a testbed's mark: made, changed and removed by it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: edgelm_owned
short_description: Make, change or remove things that carry a mark
description:
  - Finds things by mark and name, never by name alone, so that a foreign thing of the same name is
    neither taken nor touched. The mark is part of the call that creates a thing, so that a killed
    run leaves nothing unmarked.
  - Two things of one mark and name are refused.
  - In Neutron the mark is the description, in Nova a tag.
options:
  service:
    description: Service of openstacksdk.
    type: str
    choices: [compute, network]
    required: true
  type:
    description: Type of things, as openstacksdk calls it, such as port or server.
    type: str
    required: true
  mark:
    description: Mark of the testbed.
    type: str
    required: true
  things:
    description:
      - Things that there must be, in this order. A server whose C(wait) is true is waited for
        before the next is made; in the end all are waited for.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name; a floating address has none.
        type: str
      attributes:
        description: Attributes with which the thing is created.
        type: dict
        default: {}
      wait:
        description: Wait for this server before the next one is made.
        type: bool
        default: false
  updates:
    description: Attributes that are changed where a thing that exists differs.
    type: list
    elements: str
    default: []
  everything:
    description: With O(state=absent), remove all that carries the mark, whatever its name.
    type: bool
    default: false
  state:
    description: V(absent) removes the things of these names, or O(everything).
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - openstack.cloud.openstack
author:
  - edgelm (@edgelm)
"""

EXAMPLES = r"""
- name: Network
  edgelm_owned:
    cloud: member
    service: network
    type: network
    mark: edgelm:paper
    things: [{name: edgelm-paper}]
"""

RETURN = r"""
things:
  description: Things that there are now, in the order asked for.
  type: list
  elements: dict
  returned: when state is present
"""

from typing import Any, ClassVar

from ansible_collections.openstack.cloud.plugins.module_utils.openstack import OpenStackModule

SHOWN = ("id", "name", "status", "mtu", "mac_address", "fixed_ips", "floating_ip_address")


class OwnedModule(OpenStackModule):
    """The module."""

    argument_spec: ClassVar[dict[str, Any]] = {
        "service": {"required": True, "choices": ["compute", "network"]},
        "type": {"required": True},
        "mark": {"required": True},
        "things": {
            "type": "list", "elements": "dict", "default": [],
            "options": {
                "name": {},
                "attributes": {"type": "dict", "default": {}},
                "wait": {"type": "bool", "default": False},
            },
        },
        "updates": {"type": "list", "elements": "str", "default": []},
        "everything": {"type": "bool", "default": False},
        "state": {"default": "present", "choices": ["present", "absent"]},
    }  # fmt: skip
    module_kwargs: ClassVar[dict[str, Any]] = {"supports_check_mode": True}

    def run(self):
        existing = self._existing()
        if self.params["state"] == "absent":
            self._remove(existing)
        changed, found = [], []
        for wanted in self.params["things"]:
            name = wanted["name"] or ""
            one = self._only(existing, name)
            if one is not None and self._is_dead(one):
                self._delete(one)
                one = None
            if one is None:
                changed.append(name)
                one = None if self.ansible.check_mode else self._create(wanted)
            else:
                changed += [name] if self._update(one, wanted["attributes"]) else []
            if one is not None and wanted["wait"]:
                one = self._wait_for(one)
            found.append(one)
        if self.params["type"] == "server":
            found = [one and self._wait_for(one) for one in found]
        self.exit_json(
            changed=bool(changed), changed_names=changed,
            things=[{k: one.get(k) for k in SHOWN if k in one} for one in found if one],
        )  # fmt: skip

    def _existing(self):
        """Return what carries the mark in our project, whatever else an administrator may see."""
        kind, mark = self.params["type"], self.params["mark"]
        listed = getattr(self._proxy, kind + "s")
        if self.params["service"] == "compute":
            return list(listed(details=True, tags=mark))
        project = self.conn.current_project_id
        return [one for one in listed(description=mark) if one.project_id == project]

    def _only(self, existing, name):
        found = [one for one in existing if not name or one.name == name]
        if len(found) > 1:
            kind, ids = self.params["type"], ", ".join(one.id for one in found)
            self.fail_json(
                msg=f"{len(found)} of type {kind} have the mark {self.params['mark']} and the "
                f"name {name!r}: {ids}. edgelm cannot tell which one is the testbed's: delete or "
                "rename the others"
            )  # fmt: skip
        return found[0] if found else None

    def _create(self, wanted):
        attributes = dict(wanted["attributes"])
        if wanted["name"]:
            attributes["name"] = wanted["name"]
        if self.params["service"] == "compute":
            attributes["tags"] = [self.params["mark"]]
        else:
            attributes["description"] = self.params["mark"]
        return self._call("create", **attributes)

    def _update(self, one, wanted):
        different = {
            key: wanted[key] for key in self.params["updates"]
            if key in wanted and not _holds(wanted[key], one[key])
        }  # fmt: skip
        if different and not self.ansible.check_mode:
            self._call("update", one.id, **different)
        return bool(different)

    def _remove(self, existing):
        names = [one["name"] for one in self.params["things"]]
        gone = [one for one in existing if self.params["everything"] or one.name in names]
        if not self.ansible.check_mode:
            for one in gone:
                self._call("delete", one.id)
            if self.params["type"] == "server":
                for one in gone:
                    self._wait_until_gone(one)
        self.exit_json(changed=bool(gone), changed_names=[one.name or one.id for one in gone])

    def _is_dead(self, one):
        """Return whether a server never ran, or is being deleted: nothing is lost with it."""
        if self.params["type"] != "server":
            return False
        return one.task_state == "deleting" or (one.status == "ERROR" and not one.launched_at)

    def _delete(self, one):
        if not self.ansible.check_mode:
            self._call("delete", one.id)
            self._wait_until_gone(one)

    def _wait_for(self, server):
        try:
            return self._proxy.wait_for_server(server, wait=self.params["timeout"], interval=1)
        except self.sdk.exceptions.ResourceFailure:
            server = self._proxy.get_server(server.id)
            fault = (server.fault or {}).get("message", "no reason given")
            self.fail_json(
                msg=f"server {server.name} is in status {server.status}: {fault}. No host has room "
                "for its flavour, or its GPUs are taken: ask the cloud's administrator, or free "
                "some; the same command goes on"
            )  # fmt: skip
        except self.sdk.exceptions.ResourceTimeout:
            self.fail_json(msg=f"server {server.name} is not ACTIVE after "
                           f"{self.params['timeout']} s; the same command waits on")  # fmt: skip

    def _wait_until_gone(self, server):
        self._proxy.wait_for_delete(server, wait=self.params["timeout"], interval=1)

    def _call(self, verb, *arguments, **attributes):
        function = getattr(self._proxy, f"{verb}_{self.params['type']}")
        return function(*arguments, **attributes)

    @property
    def _proxy(self):
        return getattr(self.conn, self.params["service"])


def _holds(wanted, has):
    """Return whether a value has all that is wanted of it; the order of a list does not count."""
    if isinstance(wanted, dict):
        return isinstance(has, dict) and all(_holds(v, has.get(k)) for k, v in wanted.items())
    if isinstance(wanted, list):
        has = list(has or [])
        return len(wanted) == len(has) and all(any(_holds(w, h) for h in has) for w in wanted)
    return wanted == has


def main():
    OwnedModule()()


if __name__ == "__main__":
    main()
