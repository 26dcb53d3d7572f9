#!/bin/sh
# Install the Debian packages named on the command line that are missing. Silent, and done in
# milliseconds, when none is. A word a|b|c is content with any of them and installs the first.
set -eu

installed() {
    dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed
}

# One of the alternatives that is there; else the first, which then is missing.
first_missing() {
    for alternative in $(echo "$1" | tr '|' ' '); do
        if installed "$alternative"; then return; fi
    done
    echo "${1%%|*}"
}

missing=""
for word in "$@"; do
    found=$(first_missing "$word")
    missing="$missing${found:+ $found}"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "Debian packages are missing, and only root may install them: apt-get install$missing" >&2
    exit 1
fi
echo "installing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Programs are wanted, not the services that some packages (etcd, routing daemons) start at once
# with a configuration of their own (Debian's policy for invoke-rc.d). A machine's own policy stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$log" "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
# A source that does not answer need not be the one we want. --no-remove: nothing that the machine
# has may go for our sake. The lock: a fresh machine may be upgrading itself.
apt-get update -q -o DPkg::Lock::Timeout=300 >"$log" 2>&1 || true
# shellcheck disable=SC2086 # a list of words
if ! apt-get install -q -y --no-install-recommends --no-remove -o DPkg::Lock::Timeout=300 \
    $missing >>"$log" 2>&1
then
    tail -n 20 "$log" >&2
    echo "could not install$missing; see above" >&2
    exit 1
fi
