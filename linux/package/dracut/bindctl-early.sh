#!/bin/sh
# Sourced in the initramfs before udev, which would load the devices' own drivers.
# The boot goes on, whatever the outcome: the running system looks at its desired state again.
mkdir -p /run/bindctl
/usr/bin/bindctl apply --early --timeout 10 >/run/bindctl/early.log 2>&1 || cat /run/bindctl/early.log
