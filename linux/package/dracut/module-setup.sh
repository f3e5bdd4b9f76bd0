#!/bin/bash
# Module of dracut: puts bindctl, the modules and the desired state into the image.

check() {
    # Without a desired state there is nothing to do early.
    [[ -e "${dracutsysrootdir-}/etc/bindctl.toml" ]]
}

depends() {
    echo base
}

installkernel() {
    # An error in the file must not leave the host without an image that boots: the running system reports it again.
    local modules
    if modules=$(bindctl initramfs modules --kernel "$kernel"); then
        # A host's own selection leaves out what no device uses now.
        # shellcheck disable=SC2086
        hostonly='' instmods $modules
    else
        dwarn "bindctl: /etc/bindctl.toml is left out of the image"
    fi
}

install() {
    bindctl initramfs state >/dev/null || return 0
    inst_multiple bindctl mkdir cat
    mkdir -p "$initdir/etc"
    bindctl initramfs state >"$initdir/etc/bindctl.toml"
    # Before udev, which would load the devices' own drivers.
    inst_hook pre-udev 00 "$moddir/bindctl-early.sh"
}
