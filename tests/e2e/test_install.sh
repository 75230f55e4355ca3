#!/bin/bash
# `make install` into an empty tree: everything is there, the service's account can read what it
# must, an edited configuration survives a second install.
. tests/e2e/lib.sh
need make

# A package to build with is missing: the hint names it; nothing is missing: no hint.
mkdir "$TEST_DIR/bin"
printf '#!/bin/sh\ncase "$*" in *" libuv1-dev") exit 1 ;; esac\necho installed\n' >"$TEST_DIR/bin/dpkg-query"
chmod +x "$TEST_DIR/bin/dpkg-query"
PATH=$TEST_DIR/bin:$PATH sh .ci/deps --hint 2>&1 | grep -q 'make deps.*: libuv1-dev$' || fail "no hint"
sed -i 's/libuv1-dev/nothing/' "$TEST_DIR/bin/dpkg-query"
[ -z "$(PATH=$TEST_DIR/bin:$PATH sh .ci/deps --hint 2>&1)" ] || fail "a hint without a reason"
make -s help | grep '^make deps ' >/dev/null || fail "make help does not list deps"

root=$TEST_DIR/root
do_install() { make -s install "B=$B" "DESTDIR=$root" PREFIX=/usr >"$TEST_DIR/install.log" 2>&1 || fail "make install"; }
do_install
for file in usr/bin/ct2mrd usr/bin/ct2mr usr/share/ct2mr/models/demo-t1-w16.safetensors \
    etc/ct2mr/ct2mr.yaml lib/systemd/system/ct2mrd.service usr/lib/sysusers.d/ct2mrd.conf \
    usr/lib/tmpfiles.d/ct2mrd.conf; do
    [ -s "$root/$file" ] || fail "$file is not installed"
done
grep -q '^ExecStart=/usr/bin/ct2mrd ' "$root/lib/systemd/system/ct2mrd.service" || fail "unit: wrong prefix"
grep -q '/usr/share/ct2mr/models' "$root/etc/ct2mr/ct2mr.yaml" || fail "configuration: wrong prefix"
"$root/usr/bin/ct2mr" config check "$root/etc/ct2mr/ct2mr.yaml" || fail "the installed configuration"
"$root/usr/bin/ct2mr" model verify "$root/usr/share/ct2mr/models/demo-t1-w16.safetensors" || fail "the installed model"

echo "# a site's line" >>"$root/etc/ct2mr/ct2mr.yaml"
do_install
tail -1 "$root/etc/ct2mr/ct2mr.yaml" | grep -q "a site's line" || fail "the configuration was overwritten"

if [ "$(id -u)" = 0 ] && command -v systemd-sysusers systemd-tmpfiles >/dev/null; then
    systemd-sysusers "--root=$root" >/dev/null 2>&1 || fail "systemd-sysusers"
    systemd-tmpfiles "--root=$root" --create ct2mrd.conf || fail "systemd-tmpfiles"
    gid=$(awk -F: '$1 == "ct2mr" { print $3 }' "$root/etc/group")
    [ "$(stat -c '%a %u %g' "$root/etc/ct2mr/ct2mr.yaml")" = "640 0 $gid" ] || fail "configuration: owner, mode"
    [ "$(stat -c '%a %g' "$root/var/lib/ct2mr")" = "750 $gid" ] || fail "state folder: owner, mode"
else
    echo "# not root, or no systemd here: accounts and folders not tried"
fi
