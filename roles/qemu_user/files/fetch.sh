#!/bin/sh
# fetch.sh MIRROR SUITE KEYRING PREFIX MINIMUM
# Downloads Debian's qemu-user for this machine's architecture, checked by apt against the signed Release file,
# through an apt configuration of its own (the system's is neither read nor changed), and puts its static
# qemu-riscv64 into PREFIX/qemu-<version>/, with PREFIX/qemu-riscv64 as a link to it.
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
chmod 755 "$tmp"
mkdir -p "$tmp/etc/apt.conf.d" "$tmp/etc/preferences.d" "$tmp/etc/trusted.gpg.d" "$tmp/lists/partial" \
    "$tmp/cache/archives/partial" "$tmp/deb"
: >"$tmp/status"
echo "deb [signed-by=$keyring] $mirror $suite main" >"$tmp/etc/sources.list"
cat >"$tmp/apt.conf" <<CONF
Dir "$tmp";
Dir::Etc "$tmp/etc";
Dir::Etc::sourceparts "/dev/null";
Dir::State "$tmp";
Dir::State::lists "$tmp/lists";
Dir::State::status "$tmp/status";
Dir::Cache "$tmp/cache";
Dir::Bin::methods "/usr/lib/apt/methods";
APT::Architecture "$(dpkg --print-architecture)";
APT::Architectures {"$(dpkg --print-architecture)";};
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
CONF
export APT_CONFIG="$tmp/apt.conf"
apt-get -q update
cd "$tmp/deb"
apt-get -q download qemu-user
dpkg-deb -x ./*.deb tree
version=$(version_of ./tree/usr/bin/qemu-riscv64)
new_enough "$version" || {
    echo "error: $suite on $mirror has QEMU $version, older than $minimum; fix: set qemu_user_suite to a newer one" >&2
    exit 1
}
mkdir -p "$prefix/qemu-$version"
install -m 0755 tree/usr/bin/qemu-riscv64 "$prefix/qemu-$version/.new"
mv "$prefix/qemu-$version/.new" "$prefix/qemu-$version/qemu-riscv64"
ln -sfn "qemu-$version/qemu-riscv64" "$prefix/qemu-riscv64"
echo fetched
