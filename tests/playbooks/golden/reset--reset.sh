#!/bin/bash
# Written by edgelm: undoes what its roles have done to this machine.
set -uo pipefail
export DEBIAN_FRONTEND=noninteractive
before=/etc/edgelm/before

# Services and pods
for unit in edgelm-links edgelm-airflow edgelm-mongodb mongod docker-registry kubelet edgelm-pod-network; do
  systemctl cat "$unit" >/dev/null 2>&1 && systemctl disable --quiet --now "$unit" 2>/dev/null
done
pgrep -x kubeadm >/dev/null && sleep 5
if command -v kubeadm >/dev/null; then kubeadm reset --force >/dev/null 2>&1; fi
systemctl stop kubelet 2>/dev/null
grep -q ' /var/lib/kubelet/' /proc/mounts && awk '$2 ~ "^/var/lib/kubelet/" { print $2 }' /proc/mounts | sort -r | xargs -r umount

# Packages: those that were not there, and held ones as they were
dpkg-query -W -f '${db:Status-Abbrev} ${binary:Package}\n' | sed -n 's/^[ih]i  *//p' | sort >/etc/edgelm/now
mapfile -t ours < <(sort "$before/packages" | comm -13 - /etc/edgelm/now)
apt-mark showhold | grep -vxFf "$before/held" | xargs -r apt-mark unhold >/dev/null
if [ -n "${ours[*]}" ]; then
  apt-get purge -qq -y -o DPkg::Lock::Timeout=600 "${ours[@]}" >/dev/null || exit 1
fi

for user in mongodb docker-registry postgres edgelm-airflow; do
  ! getent passwd $user >/dev/null || grep -qx $user "$before/users" || userdel $user 2>/dev/null
done

# Network: chains, links and routes of Kubernetes and CNI
for table in filter nat mangle; do
  if command -v iptables-save >/dev/null && iptables-save -t $table | grep -qE 'KUBE-|CNI-|cali|10\.244\.0\.0/16'; then
    iptables-save -t $table | grep -vE 'KUBE-|CNI-|cali|10\.244\.0\.0/16' | iptables-restore -T $table
  fi
done
for link in cni0 vxlan.calico kube-ipvs0; do ip link delete $link 2>/dev/null; done
ip -o link show type veth | sed -n 's/^[0-9]*: \(\(veth\|cali\)[^@:]*\)@.*/\1/p' | xargs -r -n1 ip link delete 2>/dev/null
ip route | awk '$1 ~ "^10[.]244[.]" { print $1 }' | xargs -r -n1 ip route delete 2>/dev/null

# Settings
rm -rf /etc/kubernetes /var/lib/kubelet/* /var/lib/etcd/* /etc/cni/net.d /opt/cni /var/lib/cni /etc/default/kubelet \
  /etc/systemd/system/edgelm-* /etc/systemd/system/docker-registry.service.d /etc/systemd/system/mongod.service.d \
  /etc/modules-load.d/edgelm.conf /etc/sysctl.d/90-edgelm.conf /etc/modprobe.d/edgelm-nouveau.conf /etc/udev/rules.d/71-edgelm-nvidia.rules \
  /etc/apt/apt.conf.d/90edgelm /etc/apt/edgelm.sources.d /etc/apt/sources.list.d/edgelm-* /etc/apt/keyrings/edgelm-* \
  /usr/local/bin/edgelm-mongodb /opt/edgelm
rmdir /opt/containerd/bin /opt/containerd/lib /opt/containerd 2>/dev/null
if grep -qx containerd "$before/packages" || grep -qx containerd.io "$before/packages"; then
  rm -rf /etc/containerd/certs.d/_default
  [ ! -e /etc/containerd/config.toml.before-edgelm ] || mv /etc/containerd/config.toml.before-edgelm /etc/containerd/config.toml
  systemctl restart containerd
else
  rm -rf /etc/containerd /var/lib/containerd/* /run/containerd
fi
sed -i '/^# BEGIN edgelm$/,/^# END edgelm$/d' /etc/hosts 2>/dev/null ||
  { sed '/^# BEGIN edgelm$/,/^# END edgelm$/d' /etc/hosts >/etc/edgelm/hosts && cat /etc/edgelm/hosts >/etc/hosts; }
[ ! -e "$before/fstab" ] || cmp -s "$before/fstab" /etc/fstab || { cp "$before/fstab" /etc/fstab && swapon --all; }
[ ! -s "$before/sysctl" ] || sysctl --quiet --load="$before/sysctl" 2>/dev/null
find /etc/systemd/system -xtype l \( -name 'edgelm-*' -o -name 'docker-registry*' -o -name 'kubelet*' -o -name 'mongod*' \) -delete
systemctl daemon-reload
systemctl reset-failed

# Data
rm -rf /var/lib/edgelm /var/lib/edgelm-mongodb /var/lib/mongodb /var/lib/postgresql /var/lib/edgelm-monitoring
rm -rf /etc/edgelm
