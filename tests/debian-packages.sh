#!/bin/sh
# Installs Debian packages for programs that are missing: debian-packages.sh PROGRAM:PACKAGE...
# Starts no service, and says plainly what it may not install; the tests that need it then fail and name it.
set -eu
PATH="$PATH:/usr/sbin:/sbin"

missing=""
for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
done
missing="${missing# }"
[ -n "$missing" ] || exit 0

refuse() {
    echo "NOT INSTALLED: $missing" >&2
    echo "  $1" >&2
    echo "  Install them yourself; what needs them fails until then." >&2
    exit 0
}

command -v apt-get >/dev/null 2>&1 || refuse "There is no apt-get here."
if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && { sudo -n true 2>/dev/null || { [ -t 0 ] && sudo -v; }; }; then
    as_root="sudo"
else
    refuse "I am not root, and sudo is not allowed to me: apt-get install $missing"
fi

echo "Installing Debian packages: $missing"
# Debian starts the services of what it installs. A redis-server on 6379 that nobody asked for is a trap, so a policy
# forbids it while we install (invoke-rc.d(8)), and systemd is told to leave them off at the next boot, too.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    trap '$as_root rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
fi
$as_root apt-get update -q || echo "apt-get update failed; going on with the lists that are there." >&2
# One by one, so that one which is not to be had does not cost the others.
left=""
for package in $missing; do
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$package" || {
        left="$left $package"
        continue
    }
    if [ -d /run/systemd/system ] && systemctl list-unit-files "$package.service" >/dev/null 2>&1; then
        $as_root systemctl disable --quiet "$package.service" || true
    fi
done
missing="${left# }"
[ -z "$missing" ] || refuse "apt-get could not install them; its own words are above."
