"""YAML files to domain objects. The only place where untrusted files are believed or refused."""
