"""Bring-up of a testbed: a plan, machines of OpenStack or given ones, Ansible's phases on them."""
