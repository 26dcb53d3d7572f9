#!/bin/sh
# Put coil on a host, or take it off again: packaging/install.sh install|uninstall.
#
# PREFIX/share/coil/manifest lists what was put there, folders that had to be made included (they
# end in /); uninstall removes that and nothing else. Installing again is an upgrade.
#
# The conflist is the operator's as soon as it is changed: an upgrade leaves a changed one alone
# and says so, uninstall moves it aside as 10-coil.conflist.saved, which no runtime reads (left
# in place it would name a plugin that is gone). What we put is kept in PREFIX/share/coil to
# compare.
#
# Variables: PREFIX DESTDIR LINK_DIR CNI_BIN_DIR CNI_ETC_DIR UNIT_DIR; defaults in the Makefile.
# DESTDIR stages for another root; nothing of this machine is asked or started then.
set -eu
umask 022
here=$(cd "$(dirname "$0")/.." && pwd)
share="$PREFIX/share/coil" # of our own: PREFIX may be /usr/local
manifest="$DESTDIR$share/manifest"
reference="$share/10-coil.conflist"
conflist="$CNI_ETC_DIR/10-coil.conflist"
units="coild coil-controller coil-router coil-aggregates coil-gobgp" # only coild is enabled: it belongs on every node
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Is the unit one that this machine's systemd sees? A staged one is not, nor one put elsewhere.
has_systemd() {
    [ -z "$DESTDIR" ] && [ -d /run/systemd/system ] || return 1
    case "$UNIT_DIR" in
    /etc/systemd/system | /usr/lib/systemd/system | /lib/systemd/system) return 0 ;;
    *) return 1 ;;
    esac
}

# installed_at NAME: the path under which a file of that name was put, without DESTDIR.
installed_at() {
    grep "/$1\$" "$manifest" | grep -vxF "$reference" || true
}

# Listed before it is made: what an install that was cut short left behind is found as well.
list() {
    mkdir -p "$(dirname "$manifest")"
    grep -qxF "$1" "$manifest" 2>/dev/null || echo "$1" >>"$manifest"
}

# folder DIR: make it and what is missing above it. DESTDIR itself is not ours to take away again.
folder() {
    if [ "$1" = / ] || [ -d "$DESTDIR$1" ]; then return; fi
    folder "$(dirname "$1")"
    list "$1/"
    mkdir -p "$DESTDIR$1"
}

# Before coil had a folder there, all of it lay loose in PREFIX/share.
adopt() {
    old="$DESTDIR$PREFIX/share/manifest"
    grep -qxF "$PREFIX/bin/coild" "$old" 2>/dev/null || return 0
    mkdir -p "$DESTDIR$share"
    sort -r "$old" | while read -r path; do
        case "$path" in
        "$PREFIX/share/doc/") rmdir "$DESTDIR$path" 2>/dev/null || echo "$path" ;;
        "$PREFIX/share/doc/"*) rm -f "$DESTDIR$path" ;;
        "$PREFIX/share/10-coil.conflist")
            if [ -e "$DESTDIR$path" ]; then mv "$DESTDIR$path" "$DESTDIR$reference"; fi
            ;;
        *) echo "$path" ;;
        esac
    done >"$work/adopted"
    printf '%s\n' "$share/" "$reference" >>"$work/adopted"
    mv "$work/adopted" "$manifest"
    rm "$old"
}

# put SOURCE TARGET MODE: whoever looks at TARGET sees the old file or the new one, whole.
put() {
    folder "$(dirname "$2")"
    list "$2"
    cp --remove-destination "$1" "$DESTDIR$2.new"
    chmod "$3" "$DESTDIR$2.new"
    sync "$DESTDIR$2.new"
    mv -T "$DESTDIR$2.new" "$DESTDIR$2"
}

link() {
    folder "$(dirname "$2")"
    list "$2"
    ln -sfT "$1" "$DESTDIR$2.new"
    mv -T "$DESTDIR$2.new" "$DESTDIR$2"
}

# A whole new one beside the old one, which stays if anything fails. The interpreter finds its
# modules from where it is, so that it can be moved; scripts can't, and nobody needs them.
install_venv() {
    venv="$DESTDIR$PREFIX/venv"
    rm -rf "$venv.new" "$venv.old"
    /usr/bin/python3 -m venv --without-pip "$venv.new"
    "$here/.venv/bin/pip" -q --disable-pip-version-check --python "$venv.new/bin/python" \
        install -r "$here/requirements.txt"
    find "$venv.new/bin" -type f -delete
    site=$("$venv.new/bin/python" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    (cd "$here/src" && find coil -name __pycache__ -prune -o -type f -print | tar -cf - -T -) |
        tar -xf - -C "$site" --no-same-owner
    "$venv.new/bin/python" -I -m compileall -q "$site/coil"
    "$venv.new/bin/python" -I -m coil.ctl.main --version >"$work/version"
    if [ -d "$venv" ]; then mv -T "$venv" "$venv.old"; fi
    mv -T "$venv.new" "$venv"
    rm -rf "$venv.old"
}

install_programs() {
    for program in coild:daemon coil-controller:controller coil-router:router \
        coil-aggregates:aggregates coil-gobgp:gobgp coilctl:ctl
    do
        printf '#!/bin/sh\nexec %s/venv/bin/python -I -m coil.%s.main "$@"\n' \
            "$PREFIX" "${program##*:}" >"$work/script"
        put "$work/script" "$PREFIX/bin/${program%%:*}" 0755
    done
    put "$here/build/coil" "$PREFIX/bin/coil" 0755
    put "$here/build/coil" "$CNI_BIN_DIR/coil" 0755
    if [ ! "$DESTDIR$PREFIX/bin" -ef "$DESTDIR$LINK_DIR" ]; then
        link "$PREFIX/bin/coilctl" "$LINK_DIR/coilctl"
    fi
}

install_conflist() {
    if [ -n "$DESTDIR" ]; then
        # What every runtime takes, and what lies in the stage.
        set -- --cni-version 1.0.0 --cni-bin-dir "$DESTDIR$CNI_BIN_DIR"
    else
        "$PREFIX/venv/bin/python" -I -c \
            'from coil.ctl.machine import cni_paths; print(*cni_paths().plugins)' >"$work/looks"
        set -- # where the runtime looks, unless it is one that this machine does not tell of
        looks_here || set -- --cni-bin-dir "$CNI_BIN_DIR"
    fi
    "$DESTDIR$PREFIX/venv/bin/python" -I -m coil.ctl.main conflist "$@" >"$work/conflist"
    there="$DESTDIR$conflist"
    if [ -e "$there" ] && ! cmp -s "$work/conflist" "$there" &&
        ! cmp -s "$DESTDIR$reference" "$there"
    then
        echo "$conflist is not as we put it: kept; ours is $reference"
    else
        put "$work/conflist" "$conflist" 0644
    fi
    put "$work/conflist" "$reference" 0644
}

install_all() {
    adopt
    folder "$share"
    install_venv
    install_programs
    for document in "$here"/docs/cmd-*.md "$here/docs/store.md" "$here/LICENSE"; do
        put "$document" "$share/doc/${document##*/}" 0644
    done
    for unit in $units; do
        sed "s|@PREFIX@|$PREFIX|g" "$here/packaging/$unit.service" >"$work/unit"
        put "$work/unit" "$UNIT_DIR/$unit.service" 0644
    done
    install_conflist
    if has_systemd; then
        systemctl daemon-reload
        systemctl enable -q coild.service
        for unit in $units; do systemctl try-restart "$unit.service"; done
    fi
    echo "coil $(sed "s/.* //" "$work/version") is in $DESTDIR$PREFIX; next:" \
        "coilctl pool create default SUBNET, start coild, coilctl doctor"
    say_where_the_runtime_looks
}

# Does the runtime of this machine look for plugins in CNI_BIN_DIR? Debian's containerd comes
# configured for /usr/lib/cni; everybody else's looks in /opt/cni/bin.
looks_here() {
    case " $(cat "$work/looks") " in *" $CNI_BIN_DIR "*) ;; *) return 1 ;; esac
}

say_where_the_runtime_looks() {
    [ -z "$DESTDIR" ] && ! looks_here || return 0
    echo "the runtime here looks for plugins in $(cat "$work/looks"), not $CNI_BIN_DIR: change its" \
        "configuration, or make install CNI_BIN_DIR=$(sed 's/ .*//' "$work/looks")"
}

uninstall_conflist() {
    installed_at 10-coil.conflist | while read -r path; do
        if [ -e "$DESTDIR$path" ] && ! cmp -s "$DESTDIR$reference" "$DESTDIR$path"; then
            mv -T "$DESTDIR$path" "$DESTDIR$path.saved"
            echo "$path was changed: it is now $path.saved"
        fi
    done
}

uninstall_all() {
    adopt
    [ -f "$manifest" ] || { echo "nothing to remove: no $manifest" >&2; exit 1; }
    UNIT_DIR=$(dirname "$(installed_at coild.service | tail -n 1)")
    if has_systemd; then
        for unit in $units; do systemctl disable -q --now "$unit.service" || true; done
    fi
    uninstall_conflist
    sort -r "$manifest" >"$work/manifest" # what is in a folder before the folder
    rm -rf "$DESTDIR$PREFIX/venv" "$DESTDIR$PREFIX/venv.new" "$DESTDIR$PREFIX/venv.old"
    grep -v '/$' "$work/manifest" | while read -r path; do
        rm -f "$DESTDIR$path" "$DESTDIR$path.new"
    done
    rm -f "$manifest"
    # Folders that others use by now stay.
    grep '/$' "$work/manifest" | while read -r path; do
        rmdir "$DESTDIR$path" 2>/dev/null || true
    done
    if has_systemd; then systemctl daemon-reload; fi
    echo "removed; pools and blocks are still in the store, pods that run keep their network"
}

case "${1:-}" in
install) install_all ;;
uninstall) uninstall_all ;;
*) echo "usage: packaging/install.sh install|uninstall" >&2; exit 2 ;;
esac
