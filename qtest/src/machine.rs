//! Machines that are started, and their options.

use std::time::Duration;

/// Type of a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Machine {
    /// x86-64 with PCI Express (`q35`).
    Q35,
    /// 64-bit Arm with PCI Express by a device tree (`virt`).
    Virt,
}

/// Options of a QEMU process.
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) machine: Machine,
    pub(crate) arguments: Vec<String>,
    pub(crate) program: Option<String>,
    pub(crate) within: Duration,
    /// Bytes of RAM in a file, for an env: the clock then stands still at first.
    pub(crate) shared: Option<u64>,
}

/// The program, Debian's package that has it, its arguments, and a firmware that halts.
pub(crate) struct Kind {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
    /// The machine, without its RAM.
    pub(crate) machine: &'static str,
    pub(crate) arguments: &'static [&'static str],
    pub(crate) firmware: fn() -> Vec<u8>,
}

impl Machine {
    pub(crate) const fn kind(self) -> Kind {
        match self {
            // The HPET interrupts without end when nobody serves it.
            Self::Q35 => Kind {
                program: "qemu-system-x86_64",
                package: "qemu-system-x86",
                machine: "q35,hpet=off",
                // Slots that are switched by registers of their ports, as on every machine, and not by ACPI's methods.
                arguments: &["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"],
                firmware: halt_x86,
            },
            Self::Virt => Kind {
                program: "qemu-system-aarch64",
                package: "qemu-system-arm",
                machine: "virt",
                arguments: &["-cpu", "cortex-a57"],
                firmware: halt_arm,
            },
        }
    }
}

/// The last 64 KiB below 4 GiB; the CPU starts 16 bytes before their end.
fn halt_x86() -> Vec<u8> {
    let mut image = vec![0; 0x1_0000];
    // cli; hlt; jmp to the hlt.
    image[0xfff0..0xfff4].copy_from_slice(&[0xfa, 0xf4, 0xeb, 0xfd]);
    image
}

/// The CPU starts at the first instruction: wfi, and a branch back to it.
fn halt_arm() -> Vec<u8> {
    [0xd503_207f_u32, 0x17ff_ffff].into_iter().flat_map(u32::to_le_bytes).collect()
}

impl Options {
    /// A machine without devices but those that it always has, with 64 MiB of RAM.
    pub fn new(machine: Machine) -> Self {
        Self { machine, arguments: Vec::new(), program: None, within: Duration::from_secs(30), shared: None }
    }

    /// With a device, as `-device` takes it.
    #[must_use]
    pub fn device(self, device: &str) -> Self {
        self.arguments(&["-device", device])
    }

    /// With arguments of QEMU's own.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// Another program than the one of the machine's name.
    #[must_use]
    pub fn program(mut self, program: &str) -> Self {
        self.program = Some(program.into());
        self
    }

    pub(crate) fn shared(mut self, bytes: u64) -> Self {
        self.shared = Some(bytes);
        self
    }

    /// Time in which each answer has to come; 30 s without this.
    #[must_use]
    pub fn answers_within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }
}
