#!/bin/bash
# Written by edgelm: the authority once, the registry's certificate anew. Each file is put in place whole.
set -euo pipefail
umask 077
cd /etc/edgelm/registry
if [ ! -s ca.crt ]; then
  openssl ecparam -name prime256v1 -genkey -noout -out ca.key
  openssl req -x509 -new -sha256 -key ca.key -days 3650 -subj "/CN=edgelm made-up registry" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign -out ca.crt.new
  mv ca.crt.new ca.crt
fi
openssl ecparam -name prime256v1 -genkey -noout -out server.key.new
openssl req -new -sha256 -key server.key.new -subj "/CN=head" -out server.csr
openssl x509 -req -sha256 -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 825 -out server.crt.new \
  -extfile <(printf 'subjectAltName=DNS:head,IP:10.0.0.1,IP:127.0.0.1\nextendedKeyUsage=serverAuth')
chgrp docker-registry server.key.new
chmod 640 server.key.new
chmod 644 ca.crt server.crt.new
mv server.key.new server.key
mv server.crt.new server.crt
