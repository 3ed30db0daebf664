#!/bin/bash
# Written by edgelm: links of head as the testbed file says.
#   edgelm-links up    puts them in place, whatever was there
#   edgelm-links down  removes them, whatever was there
set -euo pipefail
interface=ens3
tc qdisc delete dev "$interface" root 2>/dev/null || true
[ "${1:-}" = up ] || exit 0
# A class for each peer; what matches none, and SSH to and from anybody, takes the first.
tc qdisc add dev "$interface" root handle 1: htb default 1
tc class add dev "$interface" parent 1: classid 1:1 htb rate 100gbit quantum 60000
tc filter add dev "$interface" parent 1: protocol ip prio 1 u32 match ip dport 22 0xffff match ip protocol 6 0xff flowid 1:1
tc filter add dev "$interface" parent 1: protocol ip prio 1 u32 match ip sport 22 0xffff match ip protocol 6 0xff flowid 1:1
# lab1
tc class add dev "$interface" parent 1: classid 1:2 htb rate 100gbit quantum 60000
tc qdisc add dev "$interface" parent 1:2 handle 20: netem delay 200us limit 100000
tc qdisc add dev "$interface" parent 20: handle 21: tbf rate 10000mbit burst 1250000 latency 50ms
tc filter add dev "$interface" parent 1: protocol ip prio 2 u32 match ip dst 10.0.0.2/32 flowid 1:2
# office1
tc class add dev "$interface" parent 1: classid 1:3 htb rate 100gbit quantum 60000
tc qdisc add dev "$interface" parent 1:3 handle 30: netem delay 2000us limit 100000
tc qdisc add dev "$interface" parent 30: handle 31: tbf rate 1000mbit burst 125000 latency 50ms
tc filter add dev "$interface" parent 1: protocol ip prio 2 u32 match ip dst 10.0.0.3/32 flowid 1:3
