//! Initramfs images that the package's hooks had a part in.

use super::chroot::Chroot;
use super::failed;
use crate::outcome::{Outcome, Trouble};

/// The desired state: one of two twins, and a device that is not there.
const DESIRED: &str = "version = 1

[[device]]
select = \"0000:00:04.0\"
expect = \"1b36:0010\"
driver = \"vfio\"

[[device]]
select = \"0000:7f:00.0\"
expect = \"8086:1572\"
driver = \"vfio\"

[[device]]
select = \"mac=02:00:00:00:00:01\"
expect = \"8086:1572\"
driver = \"vfio\"
";

/// Script that runs in each image after the drivers were loaded.
const CHECK: &str = include_str!("check.sh");

/// An image, by the name of its maker.
pub(super) struct Image {
    pub(super) maker: &'static str,
    /// Path in the system's folder.
    pub(super) path: &'static str,
}

/// Has both makers make an image, and looks into it.
pub(super) fn make(debian: &Chroot) -> Result<Vec<Image>, Trouble> {
    let release = debian.release()?;
    let images = [
        Image { maker: "initramfs-tools", path: "/boot/with-initramfs-tools" },
        Image { maker: "dracut", path: "/boot/with-dracut" },
    ];
    debian.write("/etc/bindctl.toml", DESIRED, 0o644)?;
    let check = "/etc/initramfs-tools/scripts/init-premount/check";
    debian.write(check, CHECK, 0o755)?;
    debian.write("/etc/initramfs-tools/modules", "nvme\n", 0o644)?;
    debian.run(&["mkinitramfs", "-o", images[0].path, &release])?;
    let module = "/usr/lib/dracut/modules.d/99check";
    let setup =
        "install() { inst_multiple poweroff readlink dmesg sleep sed; inst_hook pre-mount 00 \"$moddir/check.sh\"; }\n";
    debian.write(&format!("{module}/module-setup.sh"), setup, 0o755)?;
    debian.write(&format!("{module}/check.sh"), CHECK, 0o755)?;
    let add = ["--force", "--no-hostonly", "--no-hostonly-cmdline", "--add", "bindctl check", "--add-drivers", "nvme"];
    // The kernel's file systems and network are not here, and are not needed.
    let omit = ["--omit", "plymouth i18n network lvm mdraid crypt multipath"];
    let words: Vec<&str> =
        ["dracut"].into_iter().chain(add).chain(omit).chain([images[1].path, release.as_str()]).collect();
    debian.run(&words)?;
    for image in &images {
        look(debian, image)?;
        println!("package: {} has put program, modules and desired state into its image", image.maker);
    }
    // Without a desired state there is nothing in an image.
    debian.run(&["mv", "/etc/bindctl.toml", "/tmp/kept.toml"])?;
    debian.run(&["mkinitramfs", "-o", "/tmp/without", &release])?;
    let list = debian.run(&["lsinitramfs", "/tmp/without"])?;
    debian.run(&["mv", "/tmp/kept.toml", "/etc/bindctl.toml"])?;
    if list.contains("bin/bindctl") {
        return Err(failed("an image has the program although nothing is desired"));
    }
    Ok(images.into())
}

fn look(debian: &Chroot, image: &Image) -> Outcome {
    let list = debian.run(&["lsinitramfs", image.path])?;
    let release = debian.release()?;
    let hook = match image.maker {
        "dracut" => "hooks/pre-udev/00-bindctl-early.sh",
        _ => "scripts/init-top/bindctl",
    };
    for wanted in ["usr/bin/bindctl", "etc/bindctl.toml", "vfio-pci.ko", &format!("{release}/modules.dep"), hook] {
        if !list.lines().any(|line| line.contains(wanted)) {
            return Err(failed(format!("{}: the image lacks {wanted}", image.maker)));
        }
    }
    let unpack = format!("rm -rf /tmp/image; unmkinitramfs {} /tmp/image", image.path);
    debian.run(&["sh", "-c", &unpack])?;
    let find = "cat /tmp/image/etc/bindctl.toml /tmp/image/main/etc/bindctl.toml 2>/dev/null || true";
    let desired = debian.run(&["sh", "-c", find])?;
    if !desired.contains("0000:00:04.0") || desired.contains("select = \"mac=") {
        return Err(failed(format!("{}: the desired state in the image is {desired}", image.maker)));
    }
    if image.maker == "initramfs-tools" {
        // The order is made with the image: before udev, which loads the devices' own drivers.
        let order = "cat /tmp/image/scripts/init-top/ORDER /tmp/image/main/scripts/init-top/ORDER 2>/dev/null || true";
        let order = debian.run(&["sh", "-c", order])?;
        let at = |name: &str| order.find(&format!("/scripts/init-top/{name} "));
        if at("bindctl").is_none() || at("bindctl") > at("udev") {
            return Err(failed(format!("the order of initramfs-tools is not before udev:\n{order}")));
        }
    }
    debian.run(&["rm", "-rf", "/tmp/image"]).map(drop)
}
