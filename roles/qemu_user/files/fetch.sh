#!/bin/sh
# fetch.sh MIRROR SUITE KEYRING PREFIX MINIMUM
# Puts the static qemu-riscv64 of Debian's qemu-user into PREFIX/qemu-<version>/, with PREFIX/qemu-riscv64 as a link to it.
# A link to MINIMUM or newer stays; otherwise the last line says "fetched".
set -eu
mirror=$1 suite=$2 keyring=$3 prefix=$4 minimum=$5

version_of() {
    "$1" --version | sed -n '1s/.*version \([0-9.]*\).*/\1/p'
}

new_enough() {
    [ "$(printf '%s\n%s\n' "$minimum" "$1" | sort -V | head -n 1)" = "$minimum" ]
}

if [ -x "$prefix/qemu-riscv64" ] && new_enough "$(version_of "$prefix/qemu-riscv64")"; then
    exit 0
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"$prefix/fetch-debs" "$mirror" "$suite" "$keyring" "$tmp" qemu-user
dpkg-deb -x "$tmp"/*.deb "$tmp/tree"
qemu=$tmp/tree/usr/bin/qemu-riscv64
version=$(version_of "$qemu")
new_enough "$version" || {
    echo "error: $suite on $mirror has QEMU $version, older than $minimum; fix: set qemu_user_suite to a newer one" >&2
    exit 1
}
mkdir -p "$prefix/qemu-$version"
install -m 0755 "$qemu" "$prefix/qemu-$version/.new"
mv "$prefix/qemu-$version/.new" "$prefix/qemu-$version/qemu-riscv64"
ln -sfn "qemu-$version/qemu-riscv64" "$prefix/qemu-riscv64"
echo fetched
