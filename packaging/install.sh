#!/bin/sh
# Put coil on a host, or take it off again: packaging/install.sh install|uninstall.
# What was put there is listed in $PREFIX/share/manifest; uninstall removes that and nothing else.
# Variables: PREFIX DESTDIR LINK_DIR CNI_BIN_DIR CNI_ETC_DIR UNIT_DIR (the Makefile gives defaults).
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
PREFIX=${PREFIX:-/opt/coil}
DESTDIR=${DESTDIR:-}
LINK_DIR=${LINK_DIR:-/usr/local/bin}
manifest="$DESTDIR$PREFIX/share/manifest"

# put SOURCE TARGET MODE: whoever looks at TARGET sees the old file or the new one, whole.
put() {
    target="$DESTDIR$2"
    mkdir -p "$(dirname "$target")"
    cp "$1" "$target.new"
    chmod "$3" "$target.new"
    sync "$target.new"
    mv "$target.new" "$target"
    grep -qxF "$2" "$manifest" 2>/dev/null || echo "$2" >>"$manifest"
}

link() {
    mkdir -p "$DESTDIR$(dirname "$2")"
    ln -sfn "$1" "$DESTDIR$2"
    grep -qxF "$2" "$manifest" 2>/dev/null || echo "$2" >>"$manifest"
}

install_programs() {
    venv="$DESTDIR$PREFIX/venv"
    /usr/bin/python3 -m venv --clear "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt"
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    cp -R "$here/src/coil" "$site/coil"
    for program in coild:daemon coilctl:ctl; do
        name=${program%%:*}
        script=$(mktemp)
        printf '#!/bin/sh\nexec %s/venv/bin/python -I -m coil.%s.main "$@"\n' \
            "$PREFIX" "${program##*:}" >"$script"
        put "$script" "$PREFIX/bin/$name" 0755
        rm -f "$script"
    done
}

# A configuration that somebody has changed is theirs: it stays, ours is put beside it.
install_conflist() {
    target="$CNI_ETC_DIR/10-coil.conflist"
    ours=$(mktemp)
    "$here/.venv/bin/coilctl" conflist --cni-bin-dir "$CNI_BIN_DIR" >"$ours"
    if [ -e "$DESTDIR$target" ] && ! cmp -s "$ours" "$DESTDIR$target"; then
        echo "$target is there and differs: kept; ours is in $PREFIX/share/10-coil.conflist"
        target="$PREFIX/share/10-coil.conflist"
    fi
    put "$ours" "$target" 0644
    rm -f "$ours"
}

install_all() {
    mkdir -p "$DESTDIR$PREFIX/share"
    install_programs
    put "$here/build/coil" "$PREFIX/bin/coil" 0755
    put "$here/build/coil" "$CNI_BIN_DIR/coil" 0755
    for document in "$here"/docs/cmd-*.md "$here/LICENSE"; do
        put "$document" "$PREFIX/share/doc/$(basename "$document")" 0644
    done
    unit=$(mktemp)
    sed "s|@PREFIX@|$PREFIX|g" "$here/packaging/coild.service" >"$unit"
    put "$unit" "$UNIT_DIR/coild.service" 0644
    rm -f "$unit"
    link "$PREFIX/bin/coilctl" "$LINK_DIR/coilctl"
    install_conflist
    if [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]; then
        systemctl daemon-reload
        systemctl enable coild.service
    fi
    echo "installed to $DESTDIR$PREFIX; next: coilctl pool create default SUBNET, start coild, coilctl doctor"
}

uninstall_all() {
    [ -f "$manifest" ] || { echo "nothing to remove: no $manifest" >&2; exit 1; }
    if [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]; then
        systemctl disable --now coild.service || true
    fi
    while read -r path; do
        rm -f "$DESTDIR$path"
    done <"$manifest"
    rm -rf "$DESTDIR$PREFIX/venv"
    rm -f "$manifest"
    # Folders go only when they are empty: others may use them.
    for folder in "$PREFIX/share/doc" "$PREFIX/share" "$PREFIX/bin" "$PREFIX"; do
        rmdir "$DESTDIR$folder" 2>/dev/null || true
    done
    echo "removed; pools and blocks are still in the store, pods that run keep their network"
}

case "${1:-}" in
install) install_all ;;
uninstall) uninstall_all ;;
*) echo "usage: packaging/install.sh install|uninstall" >&2; exit 2 ;;
esac
