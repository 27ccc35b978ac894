#!/bin/sh
# Makes what compose.yaml needs and no repository may hold: keys, passwords, a certificate for localhost, and the files of HAProxy and
# Prometheus. Run it again after a change of waitroom.toml: keys and passwords stay, the rest is made anew.
set -eu
cd "$(dirname "$0")"
umask 077
waitroom=${WAITROOM:-../../.venv/bin/waitroom}

mkdir -p secrets state/gateway-1 state/gateway-2 state/valkey state/bank state/prometheus state/grafana
[ -e secrets/signing.pem ] || "$waitroom" keys new secrets/signing.pem
for name in sre.token bank.hmac redis.password grafana.password; do
    [ -e "secrets/$name" ] || openssl rand -hex 32 > "secrets/$name"
done
if ! [ -e secrets/site.pem ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost -keyout secrets/site.key -out secrets/site.crt 2>/dev/null
    cat secrets/site.crt secrets/site.key > secrets/site.pem
fi

password=$(cat secrets/redis.password)
hashed=$(printf %s "$password" | openssl dgst -sha256 -r | cut -d' ' -f1)
sed "/^user waitroom /s/#0\{64\}/#$hashed/" ../redis/users.acl > secrets/users.acl
printf 'redis://waitroom:%s@valkey:6379/0\n' "$password" > secrets/redis_url

# It names the public key by where it is here; in the container secrets are elsewhere.
"$waitroom" edge haproxy --listen 8443 --certificate /etc/waitroom/secrets/site.pem \
    --gateway gateway-1:8080 --gateway gateway-2:8080 waitroom.toml 2>/dev/null |
    sed "s#\"[^\"]*/secrets/signing.pem.pub\"#\"/etc/waitroom/secrets/signing.pem.pub\"#" > secrets/haproxy.cfg
sed 's/"127.0.0.1:9090"/"gateway-1:9090", "gateway-2:9090"/' ../prometheus.yml > state/prometheus.yml

# Files are seen in containers with the owner they have here, and keys are refused that others may read.
user=$(id -u):$(id -g)
if [ "$(id -u)" = 0 ]; then
    user=10001:10001
    chown -R "$user" secrets state
fi
printf 'WAITROOM_USER=%s\n' "$user" > ../.env
echo "Ready: docker compose -f deploy/compose.yaml up --build, then https://localhost:8443/points/cashout/"
